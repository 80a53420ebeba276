"""`toolkit evaluate`: evaluate routers and baselines exactly."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli.common import (
    AllowStopOption,
    CacheOption,
    Format,
    FormatOption,
    FullOption,
    OutputOption,
    RunsDirOption,
    app,
    open_suite,
)
from toolkit.cli.completion import complete_target
from toolkit.cli.open_router import TrustOption, is_suite, open_router
from toolkit.core.errors import SuiteError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.routing.custom import Routed
    from toolkit.routing.evaluate import Evaluation
    from toolkit.routing.untrained import Setting
    from toolkit.store import Cache
    from toolkit.suites.suite import Split, Suite

SplitOption = Annotated[Literal["train", "validation", "test"], typer.Option(help="The questions to evaluate on.")]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        help="Price of cost. Default: the one that the router was trained for, or the suite's.", show_default=False, min=0
    ),
]
BaselinesOption = Annotated[
    bool, typer.Option("--baselines", help="Evaluate the baselines of a suite alone, without a router.")
]
SlowOption = Annotated[
    bool, typer.Option("--slow", help="With --baselines: also those that are trained for many seconds, such as SB3 PPO.")
]
RouterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--router",
        metavar="FILE:NAME",
        help="A router of yours, e.g. my_router.py:MyRouter; its file is executed. Can be repeated.",
        show_default=False,
    ),
]
DecisionsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--decisions",
        metavar="FILE",
        help="A table with the path of every question (columns question, path). Can be repeated.",
        show_default=False,
    ),
]
OverheadOption = Annotated[
    bool, typer.Option("--overhead", help="Time the encoder and the network, one decision at a time, and record the times.")
]
OverheadRateOption = Annotated[
    float, typer.Option(help="Cost units per second of encoder and network, to add to C; both are timed once.", min=0)
]
SampledOption = Annotated[
    bool,
    typer.Option("--sampled", help="Also show the trained router with sampled actions; `router` takes its most probable one."),
]


@app.command()
def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            help="A router's file or the folder of its run, a run, or a suite, for its newest run.",
            autocompletion=complete_target,
        ),
    ],
    cache: CacheOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    split: SplitOption = "test",
    alpha: AlphaOption = None,
    baselines: BaselinesOption = False,
    slow: SlowOption = False,
    router: RouterOption = None,
    decisions: DecisionsOption = None,
    allow_stop: AllowStopOption = None,
    overhead: OverheadOption = False,
    overhead_rate: OverheadRateOption = 0.0,
    sampled: SampledOption = False,
    trust: TrustOption = False,
    full: FullOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Evaluate routers and baselines exactly: a verdict, then Q, C and R with 95% intervals.

    Example: toolkit evaluate quickstart

    Example: toolkit evaluate quickstart --baselines

    Example: toolkit evaluate quickstart --router my_router.py:MyRouter --decisions choices.csv
    """
    _check_numbers(alpha, overhead_rate)
    if slow and not baselines:
        raise SuiteError("--slow adds baselines that take many seconds, so it needs --baselines.")
    files = (router or [], decisions or [])
    is_trained = not baselines and not (any(files) and is_suite(target, cache))
    _check_options(
        baselines=baselines,
        names_routers=any(files),
        is_trained=is_trained,
        allow_stop=allow_stop,
        overhead=overhead or bool(overhead_rate),
    )

    from toolkit.report.evaluation import render
    from toolkit.report.tables import write
    from toolkit.routing.evaluate import evaluation_rows
    from toolkit.routing.policies import SAMPLED

    if is_trained:
        evaluation = _evaluate_trained(target, cache, runs_dir, split, alpha, files, overhead, overhead_rate, trust)
    else:
        evaluation = _evaluate_suite(target, cache, split, alpha, allow_stop, files, slow)
    evaluation = evaluation if sampled else evaluation.without(SAMPLED)
    if format == Format.TABLE and not output:
        typer.echo(render(evaluation, full))
    else:
        write(evaluation_rows(evaluation), format, output)


def _check_numbers(alpha: float | None, overhead_rate: float) -> None:
    """Check that prices are finite.

    Raises:
        SuiteError: One is not.
    """
    for option, value in (("--alpha", alpha), ("--overhead-rate", overhead_rate)):
        if value is not None and not math.isfinite(value):
            raise SuiteError(f"{option} takes a finite number of at least 0, e.g. {option} 0.05; this is {value}.")


def _check_options(*, baselines: bool, names_routers: bool, is_trained: bool, allow_stop: bool | None, overhead: bool) -> None:
    """Check that the options fit each other.

    Raises:
        SuiteError: Two of them do not.
    """
    if baselines and names_routers:
        raise SuiteError("Baselines are evaluated beside every router. Leave --baselines out, or --router and --decisions.")
    if overhead and (baselines or names_routers):
        raise SuiteError(
            "Only the overhead of a trained router is measured. Leave --overhead and --overhead-rate out, or --router, "
            "--decisions and --baselines."
        )
    if is_trained and allow_stop is not None:
        raise SuiteError(
            "A trained router stops if it was trained to. Leave --allow-stop and --no-stop out, or evaluate a suite with "
            "--baselines, --router or --decisions."
        )


def _evaluate_trained(
    target: str,
    cache: Path | None,
    runs_dir: Path,
    split: "Split",
    alpha: float | None,
    files: "tuple[Sequence[str], Sequence[Path]]",
    overhead: bool,
    overhead_rate: float,
    trust: bool,
) -> "Evaluation":
    """Evaluate and record a trained router beside the routers of the given files."""
    from toolkit.routing.evaluate import evaluate as run
    from toolkit.routing.evaluate import record
    from toolkit.routing.overhead import overhead_of
    from toolkit.routing.untrained import evaluate_routed, routed_policies

    router, suite, opened = open_router(target, cache, runs_dir, split, trust)
    alpha, trained = float(router.card["alpha"]) if alpha is None else alpha, router.card["settings"]
    setting = _setting(suite, opened, split, alpha, bool(trained.get("allow_stop")), trained.get("holdout"))
    router.check_table(setting.table)
    measured = overhead_of(router, suite, opened, setting.table, split, overhead_rate, again=overhead)
    routed = _route(setting, files)
    evaluation, probabilities = run(
        setting.table,
        router,
        split,
        setting.synthetic,
        alpha=alpha,
        overhead=measured,
        others=routed_policies(setting.table, split, routed),
    )
    evaluate_routed(setting, routed)
    record(opened, suite, setting.table, evaluation, probabilities)
    return evaluation


def _evaluate_suite(
    target: str,
    cache: Path | None,
    split: "Split",
    alpha: float | None,
    allow_stop: bool | None,
    files: "tuple[Sequence[str], Sequence[Path]]",
    slow: bool,
) -> "Evaluation":
    """Evaluate and record the routers of the given files, or the baselines alone if there are none."""
    from toolkit.routing.untrained import evaluate_baselines, evaluate_routed

    suite, opened = open_suite(target, cache)
    train = suite.config.train
    setting = _setting(
        suite,
        opened,
        split,
        train.alpha if alpha is None else alpha,
        train.allow_stop if allow_stop is None else allow_stop,
        train.holdout,
    )
    routed = _route(setting, files)
    return evaluate_routed(setting, routed)[0] if routed else evaluate_baselines(setting, slow)


def _setting(suite: "Suite", cache: "Cache", split: "Split", alpha: float, allow_stop: bool, holdout: str | None) -> "Setting":
    """Load what is evaluated on.

    Raises:
        SuiteError: The split, or the one that baselines are fitted on, has no questions.
    """
    from toolkit.replay.table import load_table, remedy_without_questions
    from toolkit.routing.untrained import Setting
    from toolkit.suites.benchmarks import synthetic_benchmarks

    table = load_table(cache, suite, holdout)
    for needed, purpose in ((split, ""), ("train", ", and baselines are fitted on them")):
        if not len(table.rows(needed)):
            raise SuiteError(
                f"The {needed} split of suite {suite.name} has no questions{purpose}. {remedy_without_questions(table.split)}"
            )
    return Setting(suite, cache, table, synthetic_benchmarks(suite.config.benchmarks), split, alpha, allow_stop)


def _route(setting: "Setting", files: "tuple[Sequence[str], Sequence[Path]]") -> "list[Routed]":
    """Let the routers of the given files decide; those of Python files first."""
    from toolkit.core.files import content_sha256
    from toolkit.outcomes.reading import read_placed
    from toolkit.routing.custom import CustomRouter, Routed, load_responses
    from toolkit.routing.decision_file import COLUMNS, decided_nodes, question_rows

    references, tables = files
    suite, cache, table, _, split, alpha, allow_stop = setting
    routers = [CustomRouter(reference) for reference in references]
    placed = {path: list(read_placed(path, COLUMNS)) for path in tables}
    responses = load_responses(cache, suite, table.rows(split)) if routers else {}
    routed = [router.route(table, split, [alpha], allow_stop, responses)[alpha] for router in routers]
    known = question_rows(cache, suite) if placed else {}
    for path, rows in placed.items():
        nodes = decided_nodes(table, split, rows, known, allow_stop, str(path))
        routed.append(Routed(name=path.name, path=path, sha256=content_sha256(path), nodes=nodes))
    return routed
