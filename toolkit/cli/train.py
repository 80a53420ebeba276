"""`toolkit train`: train a router over a cache."""

import shlex
import signal
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import (
    AllowStopOption,
    CacheOption,
    HoldoutOption,
    RunsDirOption,
    SettingsOption,
    SuiteArgument,
    app,
    open_suite,
    train_config,
)


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
    force: Annotated[bool, typer.Option("--force", help="Train again even if the same run exists.")] = False,
    sb3_zip: Annotated[
        bool, typer.Option("--sb3-zip", help="Also write sb3.zip, which stable-baselines3 can load, beside the router's file.")
    ] = False,
) -> None:
    """Train a router over a cache's training split, with the suite's algorithm (default: PPO); no text is generated.

    Example: toolkit train quickstart --alpha 0.05 --algorithm exact
    """
    resolved, opened = open_suite(suite, cache)

    from rich.console import Console
    from rich.progress import Progress

    from toolkit.routing.algorithms import installed_algorithm
    from toolkit.routing.train import train as run

    options = {"alpha": alpha, "timesteps": timesteps, "algorithm": algorithm, "allow_stop": allow_stop, "holdout": holdout}
    config = train_config(resolved, settings, **options)
    console = Console(stderr=True)
    terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what has failed is cleaned up
    try:
        with Progress(console=console, transient=True, disable=not console.is_interactive) as progress:
            task = progress.add_task("training", total=None)
            trained = run(
                resolved,
                opened,
                config,
                seed,
                runs_dir,
                report=lambda done, total: progress.update(task, completed=done, total=total),
                force=force,
                sb3_zip=sb3_zip,
            )
    finally:
        signal.signal(signal.SIGTERM, terminate)
    if trained.cached:
        typer.echo(f"Already trained with the same settings; --force trains again. Policy: {trained.path}")
    else:
        typer.echo(f"Trained {trained.steps} steps in {trained.seconds:.1f} s. Policy: {trained.path}")
    if sb3_zip:
        typer.echo(
            f"Also for stable-baselines3 (it holds pickles: open only those of people you trust): {trained.path.parent}/sb3.zip"
        )
    trust = "" if installed_algorithm(config.algorithm) else " --trust"
    typer.echo(
        "Next: toolkit evaluate "
        f"{shlex.quote(str(trained.path))}{trust}{f' --cache {shlex.quote(str(cache))}' if cache else ''}"
    )
