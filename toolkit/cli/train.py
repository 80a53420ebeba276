"""`toolkit train`: train a router over a cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import (
    AllowStopOption,
    CacheOption,
    Format,
    FormatOption,
    HoldoutOption,
    RunsDirOption,
    SettingsOption,
    SuiteArgument,
    app,
    open_suite,
    train_config,
)
from toolkit.cli.terminal import is_quiet, note
from toolkit.core.commands import command

if TYPE_CHECKING:
    from toolkit.routing.train import TrainedRun
    from toolkit.store import Cache
    from toolkit.suites.config import TrainConfig
    from toolkit.suites.suite import Suite


@app.command()
def train(
    suite: SuiteArgument,
    cache: CacheOption = None,
    alpha: Annotated[
        float | None, typer.Option(help="Price of cost in R = Q - alpha * C. Default: the suite's.", show_default=False, min=0)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, questions and actions.", min=0, max=2**31 - 1)] = 0,
    timesteps: Annotated[
        int | None, typer.Option(help="Hops to replay. Default: the suite's.", show_default=False, min=1)
    ] = None,
    runs_dir: RunsDirOption = Path("runs"),
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="ppo, exact, another registered algorithm, or one of stable-baselines3. Default: the suite's.",
            show_default=False,
        ),
    ] = None,
    allow_stop: AllowStopOption = None,
    holdout: HoldoutOption = None,
    settings: SettingsOption = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="A name for the run, by which all commands find it.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train again even if the same run exists.")] = False,
    sb3_zip: Annotated[
        bool, typer.Option("--sb3-zip", help="Also write sb3.zip, which stable-baselines3 can load, beside the router's file.")
    ] = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Train a router over a cache's training split, with the suite's algorithm (default: PPO); no text is generated.

    Example: toolkit train quickstart --alpha 0.05 --algorithm exact
    """
    resolved, opened = open_suite(suite, cache)

    options = {"alpha": alpha, "timesteps": timesteps, "algorithm": algorithm, "allow_stop": allow_stop, "holdout": holdout}
    config = train_config(resolved, settings, **options)
    if name is not None:
        _check_name(name, resolved, opened, config, seed)
    trained = _train(resolved, opened, config, seed, runs_dir, force, sb3_zip)
    opened.suites.record(resolved)  # with the training settings of its file, which have worked
    if trained.cached:
        opened.runs.renew(trained.run)
    known_as = _rename(trained.run, opened, name)
    if format != Format.TABLE:
        from toolkit.report.tables import write
        from toolkit.report.training import training_row

        write([training_row(trained, name or known_as)], format)
        return
    _report(trained, suite, cache, name, known_as)
    if sb3_zip:
        zip_file = trained.path.parent / "sb3.zip"
        typer.echo(f"For stable-baselines3 (it holds pickles: open only those of people you trust): {zip_file}")
    trust = () if _opens_without_trust(config) else ("--trust",)
    note(f"Next: {command('evaluate', name or known_as or trained.path, *trust, cache=cache)}")


def _opens_without_trust(config: "TrainConfig") -> bool:
    """Return whether the router's file names no class of anybody's."""
    from toolkit.routing.algorithms import POLICY, installed_algorithm

    return bool(installed_algorithm(config.algorithm)) and config.policy == POLICY


def _check_name(name: str, suite: "Suite", cache: "Cache", config: "TrainConfig", seed: int) -> None:
    """Check that a name is free, before training."""
    from toolkit.routing.run_names import check_name
    from toolkit.routing.train import run_name
    from toolkit.suites.loading import shipped_suites

    check_name(name, run_name(suite, config, seed), cache, list(shipped_suites()))


def _rename(run: str, cache: "Cache", name: str | None) -> str | None:
    """Give a run its name, if there is one, and return the name that it had before, if it had one."""
    recorded = cache.runs.get(run)
    if name is not None:
        cache.runs.rename(run, name)
    return (recorded.title or None) if recorded else None


def _report(trained: "TrainedRun", suite: str, cache: Path | None, name: str | None, known_as: str | None) -> None:
    """Say what was trained, or which run has the same settings, and what it is called now."""
    if trained.cached:
        as_run = f", as {known_as}" if known_as else ""
        typer.echo(
            f"Already trained with the same settings{as_run}; --force trains again. It counts as the newest run now. "
            f"Policy: {trained.path}"
        )
    else:
        typer.echo(f"Trained {trained.steps} steps in {trained.seconds:.1f} s. Policy: {trained.path}")
        _echo_guard(trained, suite, cache)
    if name is not None and name != known_as:
        typer.echo(f"The run {trained.run} is called {name}{f' now, no longer {known_as}' if known_as else ''}.")


def _echo_guard(trained: "TrainedRun", suite: str, cache: Path | None) -> None:
    """Say how the router compares with the best fixed path, if there are validation questions."""
    from toolkit.report.training import guard_sentence

    if trained.guard:
        remedy = command("train", suite, "--set", "fallback=true", cache=cache)
        typer.echo(guard_sentence(trained.guard, trained.falls_back, remedy))


def _train(
    suite: "Suite", cache: "Cache", config: "TrainConfig", seed: int, runs_dir: Path, force: bool, sb3_zip: bool
) -> "TrainedRun":
    """Train with a progress bar, if stderr is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from toolkit.routing.train import train as run

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=is_quiet() or not console.is_interactive) as progress:
        task = progress.add_task("training", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return run(suite, cache, config, seed, runs_dir, report=report, force=force, sb3_zip=sb3_zip)
