"""`toolkit sweep`: train and evaluate routers over a range of prices."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import (
    STOPPED,
    AllowStopOption,
    CacheOption,
    Format,
    FormatOption,
    HoldoutOption,
    OutputOption,
    RunsDirOption,
    SettingsOption,
    SuiteArgument,
    app,
    open_suite,
    train_config,
)
from toolkit.cli.progress_bar import ProgressBar
from toolkit.core.errors import SuiteError
from toolkit.routing.processes import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolkit.replay.table import TransitionTable
    from toolkit.routing.sweep import SweepRun
    from toolkit.store import Cache
    from toolkit.suites.config import TrainConfig
    from toolkit.suites.suite import Suite

AlphasOption = Annotated[
    str,
    typer.Option("--alphas", help="Comma-separated prices of cost; auto places them where the oracle's frontier bends."),
]
SeedsOption = Annotated[int, typer.Option("--seeds", help="Routers per alpha, with seeds from 0.", min=1)]
AlgorithmOption = Annotated[
    str, typer.Option("--algorithm", help="exact, ppo, another registered algorithm, or one of stable-baselines3.")
]
ConditionedOption = Annotated[
    bool, typer.Option("--conditioned", help="Train one router per seed, which observes alpha, for all alphas.")
]
ProcessesOption = Annotated[int, typer.Option("--processes", help="Processes side by side; 0 for one per core.", min=0)]
GreedyOption = Annotated[
    bool, typer.Option("--greedy", help="Report the greedy routers, which take their most probable action.")
]
ByBenchmarkOption = Annotated[
    bool,
    typer.Option("--by-benchmark", help="Also compare with every baseline by benchmark, with 95% intervals over questions."),
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="File for a cost-quality plot, .png or .svg.", show_default=False)
]


@app.command()
def sweep(
    suite: SuiteArgument,
    cache: CacheOption = None,
    alphas: AlphasOption = "auto",
    seeds: SeedsOption = 5,
    algorithm: AlgorithmOption = "exact",
    allow_stop: AllowStopOption = None,
    holdout: HoldoutOption = None,
    settings: SettingsOption = None,
    conditioned: ConditionedOption = False,
    processes: ProcessesOption = 0,
    runs_dir: RunsDirOption = Path("runs"),
    greedy: GreedyOption = False,
    by_benchmark: ByBenchmarkOption = False,
    plot: PlotOption = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Train and evaluate a router for each alpha and seed. If repeated, the command trains only what is missing.

    Example: toolkit sweep quickstart --alphas 0,0.05,0.1,0.2 --seeds 3 --plot frontier.png
    """
    prices = _parse_alphas(alphas)
    if by_benchmark and (format != Format.TABLE or output):
        raise SuiteError("The comparison by benchmark is text only. Leave --by-benchmark out, or --format and --output.")
    n_processes = processes or os.cpu_count() or 1
    if n_processes > 1:
        prepare()
    resolved, opened = open_suite(suite, cache)
    config = train_config(resolved, settings, algorithm=algorithm, allow_stop=allow_stop, holdout=holdout)
    table = _load_table(resolved, opened, config)

    from toolkit.replay.exact import curve, frontier
    from toolkit.report.plots import cost_quality
    from toolkit.report.sweep import render, render_by_benchmark
    from toolkit.report.tables import write
    from toolkit.routing.aiq import areas, fixed_range
    from toolkit.routing.sweep import auto_alphas, by_alpha, collapses, plan_runs
    from toolkit.routing.train import run_name
    from toolkit.suites.benchmarks import synthetic_benchmarks

    allow_stop, rows, router = config.allow_stop, table.rows("test"), "router (greedy)" if greedy else "router"
    placed = auto_alphas(table, allow_stop=allow_stop) if prices is None else prices
    runs = plan_runs(resolved, config, placed, seeds, runs_dir, conditioned)
    synthetic = synthetic_benchmarks(resolved.config.benchmarks)
    _train(resolved, opened, table, runs, synthetic, n_processes)
    names = [run_name(resolved, run.config, run.seed) for run in runs]
    points, oracle = opened.runs.sweep_points(names), curve(table, rows, frontier(table, rows, allow_stop))
    if plot:
        cost_quality(points, oracle, table.models, plot, router)
    if format != Format.TABLE or output:
        write([point._asdict() for point in points], format, output)
        return
    aiq = areas(points, oracle, *fixed_range(table, rows, allow_stop), router)
    typer.echo(render(runs, points, len(rows), aiq, collapses(opened, names, router), router))
    if by_benchmark:
        typer.echo("\n" + render_by_benchmark(by_alpha(runs, table, synthetic, greedy)))
    if plot:
        typer.echo(f"Plot: {plot}")


def _parse_alphas(text: str) -> list[float] | None:
    """Parse `0,0.05,0.1`; None for `auto`.

    Raises:
        SuiteError: The text is not a list of numbers.
    """
    try:
        return None if text == "auto" else sorted({float(alpha) for alpha in text.split(",")})
    except ValueError:
        raise SuiteError(f"--alphas takes numbers, e.g. 0,0.05,0.1, or auto; given: {text}.") from None


def _load_table(suite: "Suite", cache: "Cache", config: "TrainConfig") -> "TransitionTable":
    """Load the table of a sweep.

    Raises:
        SuiteError: There are no questions to evaluate on.
    """
    from toolkit.replay.table import load_table

    table = load_table(cache, suite, config.holdout)
    if not len(table.rows("test")):
        raise SuiteError(f"The test split of suite {suite.name} has no questions. Give it a share under [splits].")
    return table


def _train(
    suite: "Suite",
    cache: "Cache",
    table: "TransitionTable",
    runs: "Sequence[SweepRun]",
    synthetic: "Mapping[str, bool]",
    processes: int,
) -> None:
    """Train and evaluate the routers that are missing; exits if the user stops it."""
    from toolkit.routing.sweep import sweep as run

    with ProgressBar(len(runs), "routers") as bar:
        run(suite, cache, table, runs, synthetic, processes, bar)
    if bar.done < len(runs):
        typer.echo(f"{bar.done} of {len(runs)} routers are trained and evaluated; the same command continues.")
        raise typer.Exit(STOPPED)
