"""`toolkit evaluate`: evaluate a router and its baselines exactly."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, app, open_suite
from toolkit.core.commands import command
from toolkit.core.errors import PolicyError, SuiteError

if TYPE_CHECKING:
    from toolkit.routing.router import Router
    from toolkit.store import Cache
    from toolkit.suites.suite import Split, Suite


@app.command()
def evaluate(
    target: Annotated[str, typer.Argument(help="A policy file, or a suite, for its newest run.")],
    cache: CacheOption = None,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="The questions to evaluate on.")] = "test",
    alpha: Annotated[
        float | None,
        typer.Option(help="Price of cost. Default: the one that the router was trained for.", show_default=False, min=0),
    ] = None,
    overhead: Annotated[
        bool,
        typer.Option("--overhead", help="Time the encoder and the network, one decision at a time, and record the times."),
    ] = False,
    overhead_rate: Annotated[
        float, typer.Option(help="Cost units per second of encoder and network, to add to C; both are timed once.", min=0)
    ] = 0.0,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Evaluate a router and its baselines exactly: Q, C and R with 95% intervals, by benchmark and overall.

    Example: toolkit evaluate quickstart
    """
    from toolkit.replay.table import load_table
    from toolkit.report.evaluation import render
    from toolkit.report.tables import write
    from toolkit.routing.evaluate import evaluate as run
    from toolkit.routing.evaluate import evaluation_rows, record
    from toolkit.routing.overhead import overhead_of
    from toolkit.suites.benchmarks import synthetic_benchmarks

    router, resolved, opened = _open_router(target, cache)
    _check_suite(router, resolved, opened, split)
    table = load_table(opened, resolved, router.card["settings"].get("holdout"))
    if not len(table.rows(split)):
        raise SuiteError(
            f"The {split} split of suite {resolved.name} has no questions. Give it a share under [splits], or more questions."
        )
    measured = overhead_of(router, resolved, opened, table, split, overhead_rate, again=overhead)
    synthetic = synthetic_benchmarks(resolved.config.benchmarks)
    evaluation, probabilities = run(table, router, split, synthetic, alpha=alpha, overhead=measured)
    record(opened, resolved, table, evaluation, probabilities)
    if format == Format.TABLE and not output:
        typer.echo(render(evaluation))
    else:
        write(evaluation_rows(evaluation), format, output)


def _open_router(target: str, cache: Path | None) -> "tuple[Router, Suite, Cache]":
    """Open a policy file, or the newest run of a suite, with its suite and cache.

    Raises:
        PolicyError: There is no such file or no run.
    """
    from toolkit.routing.router import load_router

    if target.endswith(".zip"):
        router = load_router(Path(target))
        return router, *open_suite(router.card["suite"], cache)
    suite, opened = open_suite(target, cache)
    newest = opened.runs.newest(suite.name)
    if newest is None:
        raise PolicyError(
            f"No router has been trained for suite {suite.name} yet. Train one: {command('train', target, cache=cache)}"
        )
    _, policy = newest
    return load_router(Path(policy)), suite, opened


def _check_suite(router: "Router", suite: "Suite", cache: "Cache", split: "Split") -> None:
    """Check that a router has not learned from the questions of the split, and say so if its suite has changed.

    Raises:
        PolicyError: It has learned from some of them.
    """
    trained_on, run = UUID(router.card["suite_key"]), router.card["run"]
    if trained_on == suite.key:
        return
    learned = cache.runs.training_questions(trained_on, suite.key, split) if split == "test" else 0
    if learned:
        raise PolicyError(
            f"The router {run} has learned from {learned} of the {split} questions: it was trained before the splits of suite "
            f"{suite.name} changed. Train one for the suite as it is: {command('train', suite.name, cache=cache.path)}"
        )
    typer.echo(
        f"The suite {suite.name} has changed since {run} was trained (rates, metrics, splits or questions); the router is "
        "evaluated on the suite as it is now.",
        err=True,
    )
