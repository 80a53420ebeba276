"""`toolkit import`: take in an exported folder, another cache, or other people's table of outcomes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli.common import cache_path
from toolkit.core.errors import SuiteError

if TYPE_CHECKING:
    from toolkit.store import Cache, Prefer

TABLES = (".csv", ".jsonl", ".parquet")
Incomplete = Literal["refuse", "exclude question"]


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder that `toolkit export` wrote, another cache, an outcome table (CSV, JSONL, Parquet), or `reference`: "
            "the shipped cache of the quickstart suite."
        ),
    ],
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="The cache that takes it in; made if it is not there. Of a table or `reference`: as for other commands.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Of a table: name of the suite that it becomes.", show_default=False)
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL=IN,OUT",
            help="Of a table with tokens: price of a prompt and of a completion token; may be repeated. Default: 1,1.",
            show_default=False,
        ),
    ] = None,
    incomplete: Annotated[
        Incomplete,
        typer.Option(help="Of a table: what training does about questions of which an answer is missing."),
    ] = "refuse",
    prefer: Annotated[
        Literal["ours", "theirs"] | None,
        typer.Option(
            help="Which to keep where both sides have an answer and they differ. Default: refuse.", show_default=False
        ),
    ] = None,
) -> None:
    """Merge an exported folder, another cache or an outcome table into a cache; what is there already is not doubled.

    Example: toolkit import reference

    Example: toolkit import quickstart-parquet --cache cache/quickstart.duckdb

    Example: toolkit import outcomes.csv --suite routerbench
    """
    from benchmarks.reference import REFERENCE, SUITE, reference_folder
    from toolkit.store import Cache

    if str(source) == REFERENCE and not source.exists():
        source, cache = reference_folder(), cache_path(SUITE, cache)
    if not source.exists():
        raise SuiteError(
            f"There is no {source}. Name a folder, a cache or a table that is there, or: toolkit import {REFERENCE}"
        )
    if source.suffix in TABLES:
        if not suite:
            raise SuiteError(f"{source} is a table of outcomes: name the suite that it becomes with --suite NAME.")
        _table(source, suite, Cache(cache_path(suite, cache)), rate or [], incomplete, prefer)
        return
    if suite or rate:
        raise SuiteError(f"--suite and --rate are for tables of outcomes ({', '.join(TABLES)}), which {source} is not.")
    if not cache:
        raise SuiteError("Name the cache that takes it in: --cache FILE.")
    opened = Cache(cache)
    opened.create()
    typer.echo(f"{opened.path}: {_added(opened.merge(source, prefer))} from {source}.")


def _table(source: Path, suite: str, cache: "Cache", rate: list[str], incomplete: Incomplete, prefer: "Prefer | None") -> None:
    from toolkit.outcomes.importing import import_results

    found = import_results(
        source, suite, cache, cache.path.parent / "weights", rates=_rates(rate), incomplete=incomplete, prefer=prefer
    )
    config, questions = found.suite.config, len(found.suite.questions)
    typer.echo(f"{cache.path}: {_added(found.added)} from {source}.")
    typer.echo(
        f"Suite {suite}: {len(config.models)} models, horizon {config.horizon}, {len(config.benchmarks)} benchmarks, "
        f"{questions} questions, {found.cells} outcomes."
    )
    if found.n_missing:
        typer.echo(
            f"{found.n_missing} of them are missing, e.g. {'; '.join(found.missing)}. Training refuses until they are there, "
            'or leaves their questions out: --incomplete "exclude question".',
            err=True,
        )


def _rates(given: list[str]) -> dict[str, tuple[float, float]]:
    """Read `MODEL=IN,OUT`.

    Raises:
        SuiteError: It is not of that form.
    """
    rates = {}
    for one in given:
        model, _, prices = one.rpartition("=")
        try:
            rate_in, rate_out = map(float, prices.split(","))
        except ValueError:
            raise SuiteError(f"--rate takes MODEL=IN,OUT, e.g. --rate gpt-4=10,30; given: {one}.") from None
        rates[model] = (rate_in, rate_out)
    return rates


def _added(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {table}" for table, count in rows.items() if count) or "nothing new"
