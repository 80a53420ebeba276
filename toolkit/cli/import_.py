"""`toolkit import`: add an exported folder, another cache, or a table of results to a cache."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli.common import STOPPED, app, cache_path
from toolkit.cli.paths import cache_file
from toolkit.cli.progress_bar import ProgressBar
from toolkit.core.errors import SuiteError
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from toolkit.outcomes.importing import Import, ImportSummary
    from toolkit.store import Cache

Incomplete = Literal["refuse", "exclude question"]
MAX_LISTED_COLUMNS = 10
"""Ignored columns of a table that are named."""


SourceArgument = Annotated[
    Path,
    typer.Argument(
        help="A folder that `toolkit export` wrote, another cache, a table of results (CSV, JSONL, JSON, also .gz; Parquet, "
        "Feather), or `reference`: the shipped cache of the quickstart suite."
    ),
]
TargetOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="The cache to import into; created if it does not exist. Default for tables and `reference`: as elsewhere.",
        callback=cache_file,
        show_default=False,
    ),
]
RateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        metavar="MODEL=IN,OUT",
        help="With a table of tokens: price of a prompt token and of a completion token. Can be repeated. Without any rate "
        "every token costs 1.",
        show_default=False,
    ),
]
CurrencyOption = Annotated[
    str | None,
    typer.Option(
        metavar="CODE",
        help="With a table: the currency of its costs, e.g. USD, so that results also show prices. Rates are then prices of "
        "single tokens: 1e-5, not 10 per million. Default: as before, at first none.",
        show_default=False,
    ),
]
IncompleteOption = Annotated[
    Incomplete | None,
    typer.Option(
        help="With a table: what training does about questions with missing responses. Default: as before, at first refuse.",
        show_default=False,
    ),
]
PreferOption = Annotated[
    Literal["ours", "theirs"] | None,
    typer.Option(
        help="Which content to keep if both sides have a different one: ours (the cache's) or theirs. Default: refuse.",
        show_default=False,
    ),
]


@app.command("import")
def import_(
    source: SourceArgument,
    cache: TargetOption = None,
    suite: Annotated[
        str | None, typer.Option(help="With a table: name of the suite that its results are added to.", show_default=False)
    ] = None,
    rate: RateOption = None,
    currency: CurrencyOption = None,
    incomplete: IncompleteOption = None,
    prefer: PreferOption = None,
    clip: Annotated[bool, typer.Option("--clip", help="With a table: clip scores to [0, 1] instead of refusing them.")] = False,
) -> None:
    """Add an exported folder, another cache or a table of results to a cache; nothing is duplicated.

    Example: toolkit import reference

    Example: toolkit import quickstart-parquet --cache cache/quickstart.duckdb

    Example: toolkit import outcomes.csv --suite routerbench
    """
    from benchmarks.reference import REFERENCE, SUITE, reference_folder
    from toolkit.outcomes.reading import FORMATS, is_table
    from toolkit.store import Cache

    if str(source) == REFERENCE and not source.exists():
        source, cache = reference_folder(), cache_path(SUITE, cache)
    if not source.exists():
        raise SuiteError(f"There is no {source}. Name an existing folder, cache or table, or: toolkit import {REFERENCE}")
    if is_table(source) and not source.is_dir():
        if not suite:
            raise SuiteError(f"{source} is a table of results. Name the suite that they are added to: --suite NAME")
        from toolkit.outcomes.importing import plan_import

        target = Cache(cache_path(suite, cache))
        folder = Workspace.beside(target.path).downloads
        rates = _parse_rates(rate or [])
        plan = plan_import(
            source, suite, target, folder, rates=rates, incomplete=incomplete, prefer=prefer, clip=clip, currency=currency
        )
        _import_table(plan, source, target)
        return
    if suite or rate or currency is not None or incomplete or clip:
        raise SuiteError(
            f"--suite, --rate, --currency, --incomplete and --clip are for tables of results, whose names end in "
            f"{', '.join(FORMATS)}; {source} is none."
        )
    if not cache:
        raise SuiteError("Name the cache to import into: --cache FILE")
    target = Cache(cache)
    typer.echo(f"{target.path}: imported {_counts(target.transfer.merge(source, prefer))} from {source}.")


def _import_table(plan: "Import", source: Path, cache: "Cache") -> None:
    from toolkit.engines.encoder import SuiteEncoder
    from toolkit.outcomes.importing import run_import

    if ignored := plan.table.ignored:
        listed = ", ".join(ignored[:MAX_LISTED_COLUMNS]) + (" ..." if len(ignored) > MAX_LISTED_COLUMNS else "")
        typer.echo(f"{source}: {len(ignored)} columns are ignored: {printable(listed)}.", err=True)
    encode = SuiteEncoder(plan.suite, Workspace.beside(cache.path))
    try:
        if plan.changes_rows:
            with ProgressBar(plan.work, "texts and results") as bar:
                summary = run_import(plan, cache, encode, bar)
        else:
            summary = run_import(plan, cache, encode)
    except KeyboardInterrupt:
        typer.echo("Stopped. Nothing was imported; the same command starts again.", err=True)
        raise typer.Exit(STOPPED) from None
    _conclude(summary, source, cache)


def _conclude(summary: "ImportSummary", source: Path, cache: "Cache") -> None:
    """Say what the table added, what the suite has now, and what is missing."""
    changes, table, config = summary.changes, summary.table, summary.suite.config
    counts = {
        "added": changes.added,
        "completed": changes.completed,
        "equal": changes.equal,
        "replaced": changes.replaced,
        "different and left as they are": changes.ignored,
        "without a score and left out": table.n_unscored,
        "clipped": table.n_clipped,
    }
    listed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    typer.echo(f"{cache.path}: {listed} (results of {source}).")
    samples = f", {config.samples} samples" if config.samples > 1 else ""
    typer.echo(
        f"Suite {config.name}: {len(config.models)} models, horizon {config.horizon}{samples}, {len(config.benchmarks)} "
        f"benchmarks, {len(summary.suite.questions)} questions, {summary.cells} results."
    )
    if summary.n_missing:
        typer.echo(
            f"{summary.n_missing} of them are missing, e.g. {'; '.join(summary.missing)}. "
            + (
                "Training excludes their questions until they are imported."
                if config.incomplete != "refuse"
                else "Training refuses the suite until they are imported, or excludes their questions after: toolkit import "
                f'{source} --suite {config.name} --cache {cache.path} --incomplete "exclude question"'
            ),
            err=True,
        )
    if not any(question.split == "train" for question in summary.suite.questions):
        typer.echo("No question is in the split train, so that no router can be trained until there is one.", err=True)


def _parse_rates(rates: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Parse `MODEL=IN,OUT`.

    Raises:
        SuiteError: A rate has another form, is no price, or is given twice.
    """
    parsed: dict[str, tuple[float, float]] = {}
    for rate in rates:
        model, _, prices = rate.rpartition("=")
        try:
            rate_in, rate_out = map(float, prices.split(","))
        except ValueError:
            rate_in = rate_out = math.nan
        if not model or not all(0 <= price < math.inf for price in (rate_in, rate_out)):
            raise SuiteError(
                f"--rate takes MODEL=IN,OUT with two finite prices of 0 or more, e.g. --rate gpt-4=10,30; given: {rate}."
            )
        if model in parsed:
            raise SuiteError(f"--rate {model} is given twice. Give each model one rate.")
        parsed[model] = (rate_in, rate_out)
    return parsed


def _counts(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {table}" for table, count in rows.items() if count) or "nothing new"
