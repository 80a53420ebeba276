"""`toolkit evaluate`: what a router and its baselines are worth, exactly."""

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, recorded_suite


def evaluate(
    target: Annotated[str, typer.Argument(help="A policy file, or a suite: its newest run.")],
    cache: CacheOption = None,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="The questions to evaluate on.")] = "test",
    alpha: Annotated[
        float | None,
        typer.Option(help="Price of cost. Default: the one that the router was trained for.", show_default=False, min=0),
    ] = None,
    overhead: Annotated[
        bool, typer.Option("--overhead", help="Time encoder and network, one decision at a time, and keep that with the run.")
    ] = False,
    overhead_rate: Annotated[
        float, typer.Option(help="Cost units that a second of encoder and network adds to C; they are timed once.", min=0)
    ] = 0.0,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Evaluate a router and its baselines exactly: Q, C and R with 95% intervals, by benchmark and overall.

    Example: toolkit evaluate quickstart
    """
    import pyarrow as pa

    from toolkit.core.errors import PolicyError, SuiteError
    from toolkit.replay.table import load_table
    from toolkit.report.evaluation import render
    from toolkit.report.tables import write
    from toolkit.routing.evaluate import as_rows, record
    from toolkit.routing.evaluate import evaluate as run
    from toolkit.routing.overhead import overhead_of
    from toolkit.routing.router import load_router
    from toolkit.suites.benchmarks import synthetic_benchmarks

    if target.endswith(".zip"):
        router = load_router(Path(target))
        resolved, opened = recorded_suite(router.card["suite"], cache)
    else:
        resolved, opened = recorded_suite(target, cache)
        newest = opened.newest_run(resolved.name)
        if newest is None:
            raise PolicyError(f"No router has been trained for suite {resolved.name} yet. Train one: toolkit train {target}")
        router = load_router(Path(newest[1]))
    trained_on = UUID(router.card["suite_key"])
    if trained_on != resolved.key:
        seen = opened.seen_in_training(trained_on, resolved.key, split) if split == "test" else 0
        if seen:
            raise PolicyError(
                f"The router {router.card['run']} has learned from {seen} of the {split} questions: it was trained before "
                f"the splits of suite {resolved.name} changed. Train one for the suite as it is: toolkit train {resolved.name}"
            )
        typer.echo(
            f"The suite {resolved.name} has changed since {router.card['run']} was trained (rates, metrics, splits or "
            "questions); it is evaluated on the suite as it is now.",
            err=True,
        )
    table = load_table(opened, resolved, router.card["settings"].get("holdout"))
    if not len(table.rows(split)):
        raise SuiteError(
            f"The {split} split of suite {resolved.name} has no question. Give it a share under [splits], or more questions."
        )
    taken = overhead_of(router, resolved, opened, table, split, overhead_rate, again=overhead)
    evaluation, probabilities = run(
        table, router, split, synthetic_benchmarks(resolved.config.benchmarks), alpha=alpha, overhead=taken
    )
    record(opened, resolved, table, evaluation, probabilities)
    if format == Format.TABLE and not output:
        typer.echo(render(evaluation))
        return
    write(pa.Table.from_pylist(as_rows(evaluation)), format, output)
