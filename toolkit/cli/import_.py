"""`toolkit import`: merge an exported folder, another cache, or a table of results into a cache."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli.common import app, cache_path
from toolkit.cli.paths import cache_file
from toolkit.core.errors import SuiteError
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from toolkit.store import Cache, Prefer

TABLES = (".csv", ".jsonl", ".parquet")
Incomplete = Literal["refuse", "exclude question"]


SourceArgument = Annotated[
    Path,
    typer.Argument(
        help="A folder that `toolkit export` wrote, another cache, a table of results (CSV, JSONL, Parquet), or "
        "`reference`: the shipped cache of the quickstart suite."
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
        help="With a table of tokens: price of a prompt token and of a completion token. Can be repeated. Default: 1,1.",
        show_default=False,
    ),
]


@app.command("import")
def import_(
    source: SourceArgument,
    cache: TargetOption = None,
    suite: Annotated[
        str | None, typer.Option(help="With a table: name of the suite that it becomes.", show_default=False)
    ] = None,
    rate: RateOption = None,
    incomplete: Annotated[
        Incomplete, typer.Option(help="With a table: what training does about questions with missing responses.")
    ] = "refuse",
    prefer: Annotated[
        Literal["ours", "theirs"] | None,
        typer.Option(help="Which response to keep if both sides have different ones. Default: refuse.", show_default=False),
    ] = None,
) -> None:
    """Merge an exported folder, another cache or a table of results into a cache; nothing is duplicated.

    Example: toolkit import reference

    Example: toolkit import quickstart-parquet --cache cache/quickstart.duckdb

    Example: toolkit import outcomes.csv --suite routerbench
    """
    from benchmarks.reference import REFERENCE, SUITE, reference_folder
    from toolkit.store import Cache

    if str(source) == REFERENCE and not source.exists():
        source, cache = reference_folder(), cache_path(SUITE, cache)
    if not source.exists():
        raise SuiteError(f"There is no {source}. Name an existing folder, cache or table, or: toolkit import {REFERENCE}")
    if source.suffix in TABLES:
        if not suite:
            raise SuiteError(f"{source} is a table of results. Name the suite that it becomes: --suite NAME")
        _import_table(source, suite, Cache(cache_path(suite, cache)), rate or [], incomplete, prefer)
        return
    if suite or rate:
        raise SuiteError(f"--suite and --rate are for tables of results ({', '.join(TABLES)}), and {source} is none.")
    if not cache:
        raise SuiteError("Name the cache to import into: --cache FILE")
    target = Cache(cache)
    typer.echo(f"{target.path}: imported {_counts(target.transfer.merge(source, prefer))} from {source}.")


def _import_table(
    source: Path, suite: str, cache: "Cache", rates: Sequence[str], incomplete: Incomplete, prefer: "Prefer | None"
) -> None:
    from toolkit.outcomes.importing import import_results

    summary = import_results(
        source,
        suite,
        cache,
        Workspace.beside(cache.path).downloads,
        rates=_parse_rates(rates),
        incomplete=incomplete,
        prefer=prefer,
    )
    config, questions = summary.suite.config, len(summary.suite.questions)
    typer.echo(f"{cache.path}: imported {_counts(summary.added)} from {source}.")
    typer.echo(
        f"Suite {suite}: {len(config.models)} models, horizon {config.horizon}, {len(config.benchmarks)} benchmarks, "
        f"{questions} questions, {summary.cells} results."
    )
    if summary.n_missing:
        typer.echo(
            f"{summary.n_missing} of them are missing, e.g. {'; '.join(summary.missing)}. Training refuses the suite until "
            'they are imported, or excludes their questions: --incomplete "exclude question".',
            err=True,
        )


def _parse_rates(rates: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Parse `MODEL=IN,OUT`.

    Raises:
        SuiteError: A rate has another form.
    """
    parsed = {}
    for rate in rates:
        model, _, prices = rate.rpartition("=")
        try:
            rate_in, rate_out = map(float, prices.split(","))
        except ValueError:
            raise SuiteError(f"--rate takes MODEL=IN,OUT, e.g. --rate gpt-4=10,30; given: {rate}.") from None
        parsed[model] = (rate_in, rate_out)
    return parsed


def _counts(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {table}" for table, count in rows.items() if count) or "nothing new"
