"""`toolkit train`: train a router over a cache."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import (
    AllowStopOption,
    CacheOption,
    HoldoutOption,
    RunsOption,
    SettingsOption,
    SuiteArgument,
    parse_settings,
    recorded_suite,
)


def train(
    suite: SuiteArgument,
    cache: CacheOption = None,
    alpha: Annotated[
        float | None, typer.Option(help="Price of cost in R = Q - alpha * C. Default: the suite's.", show_default=False, min=0)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, questions and actions.", min=0)] = 0,
    timesteps: Annotated[
        int | None, typer.Option(help="Hops replayed. Default: the suite's.", show_default=False, min=1)
    ] = None,
    out: RunsOption = Path("runs"),
    algorithm: Annotated[
        str | None,
        typer.Option(help="ppo, exact, or an algorithm of stable-baselines3. Default: the suite's.", show_default=False),
    ] = None,
    allow_stop: AllowStopOption = None,
    holdout: HoldoutOption = None,
    settings: SettingsOption = None,
    force: Annotated[bool, typer.Option("--force", help="Train again even where the same run is there.")] = False,
) -> None:
    """Train a router over a cache's training split, with PPO unless told otherwise; no text is generated.

    Example: toolkit train quickstart --alpha 0.05 --algorithm exact
    """
    resolved, opened = recorded_suite(suite, cache)

    from rich.console import Console
    from rich.progress import Progress

    from toolkit.routing.train import train as run

    options = {"alpha": alpha, "timesteps": timesteps, "algorithm": algorithm, "allow_stop": allow_stop, "holdout": holdout}
    given = {name: value for name, value in options.items() if value is not None}
    config = resolved.config.train.changed(parse_settings(settings or [])).changed(given)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=config.timesteps)
        trained = run(
            resolved, opened, config, seed, out, advance=lambda steps: progress.update(task, advance=steps), force=force
        )
    if trained.cached:
        typer.echo(f"Already trained with the same settings; --force trains again. Policy: {trained.path}")
    else:
        typer.echo(f"TrainedRun {trained.steps} steps in {trained.seconds:.1f} s. Policy: {trained.path}")
    typer.echo(f"Next: toolkit evaluate {trained.path}" + (f" --cache {cache}" if cache else ""))
