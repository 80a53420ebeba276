"""`toolkit sweep`: train and evaluate routers over a range of prices."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import (
    STOPPED,
    AllowStopOption,
    CacheOption,
    Format,
    FormatOption,
    FullOption,
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
from toolkit.cli.terminal import note
from toolkit.core.cpus import available_cpus
from toolkit.core.errors import SuiteError
from toolkit.routing.processes import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolkit.replay.table import TransitionTable
    from toolkit.routing.policies import Policy
    from toolkit.routing.router import Router
    from toolkit.routing.sweep import SweepRun
    from toolkit.routing.sweep_metrics import Scores
    from toolkit.store import Cache
    from toolkit.suites.config import TrainConfig
    from toolkit.suites.suite import Split, Suite

SPLITS: "tuple[Split, ...]" = ("train", "validation", "test")
"""The splits that a sweep needs which chooses an alpha."""
AlphasOption = Annotated[
    str,
    typer.Option("--alphas", help="Comma-separated prices of cost; auto spreads them evenly over what predictors spend."),
]
SeedsOption = Annotated[int, typer.Option("--seeds", help="Routers per alpha, with seeds from 0.", min=1, max=1000)]
AlgorithmOption = Annotated[
    str, typer.Option("--algorithm", help="exact, ppo, another registered algorithm, or one of stable-baselines3.")
]
ConditionedOption = Annotated[
    bool, typer.Option("--conditioned", help="Train one router per seed, which observes alpha, for all alphas.")
]
ProcessesOption = Annotated[int, typer.Option("--processes", help="Processes side by side; 0 for one per core.", min=0)]
SampledOption = Annotated[
    bool, typer.Option("--sampled", help="Report routers that sample their actions instead of taking the most probable one.")
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        "--budget-cost",
        help="Also choose, on the validation split, the alpha that spends most within this mean cost of a question.",
        min=0,
        show_default=False,
    ),
]
RouterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--router",
        metavar="FILE:NAME",
        help="Also evaluate a router of yours at every alpha; its file is executed. Can be repeated.",
        show_default=False,
    ),
]
ByBenchmarkOption = Annotated[
    bool,
    typer.Option("--by-benchmark", help="Also compare with every baseline by benchmark, with 95% intervals."),
]
FigureOption = Annotated[
    Path | None,
    typer.Option("--figure", help="File for a figure of cost and quality: .pdf, .svg or .png.", show_default=False),
]
ColumnsOption = Annotated[
    int, typer.Option("--columns", help="Width of the figure, in columns of a paper: 1 or 2.", min=1, max=2)
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
    sampled: SampledOption = False,
    budget_cost: BudgetOption = None,
    router: RouterOption = None,
    by_benchmark: ByBenchmarkOption = False,
    figure: FigureOption = None,
    columns: ColumnsOption = 2,
    full: FullOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Train and evaluate a router for each alpha and seed. If repeated, the command trains only what is missing.

    Example: toolkit sweep quickstart --alphas 0,0.05,0.1,0.2 --seeds 3 --figure frontier.pdf

    Example: toolkit sweep quickstart --budget-cost 1.5
    """
    from toolkit.report.sweep import budget_sentence, rows
    from toolkit.report.tables import write
    from toolkit.routing.alphas import parse_alphas
    from toolkit.routing.sweep import affordable_alpha, plan_runs, routers_by_alpha
    from toolkit.suites.benchmarks import synthetic_benchmarks

    prices = parse_alphas(alphas)
    _check_files(runs_dir, figure, output, by_benchmark, format)
    n_processes = processes or available_cpus()
    if n_processes > 1:
        prepare()
    resolved, opened = open_suite(suite, cache)
    config = train_config(resolved, settings, algorithm=algorithm, allow_stop=allow_stop, holdout=holdout)
    table = _load_table(resolved, opened, config, ("train", "test") if budget_cost is None else SPLITS)
    runs = plan_runs(resolved, config, prices or _auto_alphas(table, config), seeds, runs_dir, conditioned)
    synthetic = synthetic_benchmarks(resolved.config.benchmarks)
    others = _others(router or [], resolved, opened, table, synthetic, runs)
    _train(resolved, opened, table, runs, synthetic, n_processes)
    routers = routers_by_alpha(runs)
    scores = _scores(resolved, opened, table, config, routers, sampled, others)
    choice = None if budget_cost is None else affordable_alpha(routers, table, budget_cost, sampled)
    _draw(scores, table, config, figure, columns)
    if format != Format.TABLE or output:
        write(rows(scores, budget_cost is not None, choice), format, output)
        return
    _show(scores, resolved, opened, runs, full)
    if budget_cost is not None:
        typer.echo("\n" + budget_sentence(scores, budget_cost, choice))
    if by_benchmark or full:
        _show_benchmarks(routers, table, synthetic, sampled)
    if figure:
        typer.echo(f"Figure: {figure}")


def _scores(
    suite: "Suite",
    cache: "Cache",
    table: "TransitionTable",
    config: "TrainConfig",
    routers: "Mapping[float, Sequence[Router]]",
    sampled: bool,
    others: "Mapping[float, Mapping[str, Policy]]",
) -> "Scores":
    from toolkit.replay.costs import money_of
    from toolkit.routing.sweep_metrics import scores_of
    from toolkit.routing.swept import swept

    money = money_of(suite.config.currency, cache.suites.cost_unit(suite.key))
    return scores_of(swept(table, routers, "test", config.allow_stop, sampled, others), money)


def _others(
    references: "Sequence[str]",
    suite: "Suite",
    cache: "Cache",
    table: "TransitionTable",
    synthetic: "Mapping[str, bool]",
    runs: "Sequence[SweepRun]",
) -> "dict[float, dict[str, Policy]]":
    """Evaluate and record routers of the user's at every alpha of a sweep, before anything is trained."""
    from toolkit.routing.custom import CustomRouter
    from toolkit.routing.untrained import Setting, sweep_routed

    setting = Setting(suite, cache, table, synthetic, "test", alpha=0.0, allow_stop=runs[0].config.allow_stop)
    alphas = list(dict.fromkeys(alpha for run in runs for alpha in run.alphas))
    return sweep_routed(setting, [CustomRouter(reference) for reference in references], alphas) if references else {}


def _show(scores: "Scores", suite: "Suite", cache: "Cache", runs: "Sequence[SweepRun]", full: bool) -> None:
    from toolkit.report.sweep import render
    from toolkit.routing.sweep import collapses
    from toolkit.routing.train import run_name

    names = [run_name(suite, run.config, run.seed) for run in runs]
    typer.echo(render(scores, collapses(cache, names, scores.swept.router), len(runs), runs[0].config.algorithm, full))


def _show_benchmarks(
    routers: "Mapping[float, Sequence[Router]]", table: "TransitionTable", synthetic: "Mapping[str, bool]", sampled: bool
) -> None:
    from toolkit.report.sweep_benchmarks import render_by_benchmark
    from toolkit.routing.sweep import by_alpha

    typer.echo("\n" + render_by_benchmark(by_alpha(routers, table, synthetic, sampled)))


def _draw(scores: "Scores", table: "TransitionTable", config: "TrainConfig", path: Path | None, columns: int) -> None:
    if path is None:
        return
    from toolkit.replay.exact import curve, frontier
    from toolkit.report.plots import cost_quality

    rows = table.rows("test")
    oracle = curve(table, rows, frontier(table, rows, config.allow_stop))
    cost_quality(scores, oracle, table.models, path, config.algorithm, columns)


def _check_files(runs_dir: Path, figure: Path | None, output: Path | None, by_benchmark: bool, format: Format) -> None:
    """Check what the sweep is to write, before any training."""
    from toolkit.report.output import check_figure, check_folder

    if by_benchmark and (format != Format.TABLE or output):
        raise SuiteError("The comparison by benchmark is text only. Leave --by-benchmark out, or --format and --output.")
    check_folder(runs_dir, "--runs-dir")
    if figure:
        check_figure(figure)
    if figure and output and figure.resolve() == output.resolve():
        raise SuiteError(f"--figure and --output are both {figure}. Name two files.")


def _auto_alphas(table: "TransitionTable", config: "TrainConfig") -> list[float]:
    from toolkit.routing.alphas import auto_alphas

    alphas = auto_alphas(table, allow_stop=config.allow_stop)
    if len(alphas) == 1:
        note("What predictors choose costs the same at every alpha, so the sweep has alpha 0 alone.")
    return alphas


def _load_table(suite: "Suite", cache: "Cache", config: "TrainConfig", splits: "Sequence[Split]") -> "TransitionTable":
    """Load the table of a sweep.

    Raises:
        SuiteError: One of the splits that the sweep needs has no questions, or there is no such algorithm.
    """
    from toolkit.replay.table import load_table, remedy_without_questions
    from toolkit.routing.evaluate import check_names
    from toolkit.routing.train import settings_of

    table = load_table(cache, suite, config.holdout)
    for split in splits:
        if not len(table.rows(split)):
            held_out = f" when {config.holdout} is held out" if config.holdout else ""
            raise SuiteError(
                f"The {split} split of suite {suite.name} has no questions{held_out}, and a sweep needs some. "
                f"{remedy_without_questions(table.split)}"
            )
    check_names(table)
    settings_of(table, config)  # an unknown algorithm is found out before training
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
    cache.suites.record(suite)  # with the training settings of its file, which have worked
