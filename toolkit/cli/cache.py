"""`toolkit cache`: what caches there are, what is in them, and keeping them small and up to date."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import Format, FormatOption, OutputOption, cache_folder, cache_path, only_cache
from toolkit.core.errors import CacheError

if TYPE_CHECKING:
    from toolkit.store import Cache

app = typer.Typer(help="Keep house among caches.", no_args_is_help=True, rich_markup_mode=None)

TargetArgument = Annotated[
    str | None,
    typer.Argument(help="A cache file, or the suite it is named after. Default: the only cache there is.", show_default=False),
]


def _opened(target: str | None) -> "Cache":
    """Return the cache that a file, a suite's name or nothing means.

    Raises:
        CacheError: There is none.
    """
    from toolkit.store import Cache

    if target is None:
        return only_cache(None)
    opened = Cache(Path(target) if "/" in target or target.endswith(".duckdb") else cache_path(target, None))
    if not opened.exists():
        raise CacheError(f"There is no cache {opened.path}. What there is: toolkit cache list")
    return opened


@app.command("list")
def list_(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to look. Default: $TOOLKIT_CACHE, else cache.", show_default=False)
    ] = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """List the caches of a folder: size, schema, suites, nodes, and what lies beside them or is wrong with them.

    Example: toolkit cache list
    """
    import pyarrow as pa

    from toolkit.report.tables import size, write
    from toolkit.store import Cache

    where = folder or cache_folder()
    if not where.is_dir():
        raise CacheError(f"There is no folder {where}. Name another, or make a cache: toolkit generate SUITE")
    rows = [Cache(path).overview()._asdict() for path in sorted(where.glob("*.duckdb"))]
    if format == Format.TABLE and not output:
        if not rows:
            typer.echo(f"There is no cache in {where}.")
            return
        for row in rows:
            row |= {"bytes": size(row["bytes"]), "suites": ", ".join(row["suites"])}
    write(pa.Table.from_pylist(rows), format, output)


@app.command()
def info(target: TargetArgument = None, format: FormatOption = Format.TABLE, output: OutputOption = None) -> None:
    """Show what a cache holds: suites and how far they are, models, who generated it, rows and bytes of its tables.

    Other formats give the tables. Example: toolkit cache info quickstart
    """
    import pyarrow as pa

    from toolkit.report.caches import render
    from toolkit.report.tables import write

    opened = _opened(target)
    if format == Format.TABLE and not output:
        typer.echo(render(opened))
    else:
        write(pa.Table.from_pylist([found._asdict() for found in opened.sizes()]), format, output)


@app.command()
def prune(
    target: TargetArgument = None,
    runs: Annotated[bool, typer.Option("--runs", help="Runs of superseded suites too, and all that only they need.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this, only count.")] = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Delete what no current suite and no run refers to: superseded suites and the answers that only they read.

    Without --yes nothing is changed. The file as it was stays beside it. Example: toolkit cache prune quickstart
    """
    import pyarrow as pa

    from toolkit.report.tables import size, write

    opened = _opened(target)
    found = opened.unused(runs)
    write(pa.Table.from_pylist([row._asdict() for row in found]), format, output)
    unused, before = sum(row.unused for row in found), opened.path.stat().st_size
    if not runs and (more := sum(row.unused for row in opened.unused(runs=True)) - unused):
        typer.echo(f"{more} more rows are kept for runs of superseded suites; count them too: --runs", err=True)
    if not unused:
        typer.echo(f"{opened.path}: nothing to prune.", err=True)
    elif not yes:
        typer.echo(f"{opened.path}: {unused} rows would be deleted; nothing was changed. Delete them: --yes", err=True)
    else:
        backup = opened.prune(runs)
        typer.echo(
            f"{opened.path}: {unused} rows deleted, {size(before)} before, {size(opened.path.stat().st_size)} after. "
            f"As it was, it is {backup}; delete that once you are content.",
            err=True,
        )


@app.command()
def vacuum(target: TargetArgument = None) -> None:
    """Write a cache anew, as small as its rows allow, check the copy, and put it in place in one step.

    DuckDB keeps the room of deleted rows. Takes as much disk again meanwhile. Example: toolkit cache vacuum quickstart
    """
    from toolkit.report.tables import size

    opened = _opened(target)
    before, after = opened.vacuum()
    typer.echo(f"{opened.path}: {size(before)} before, {size(after)} after.")


@app.command()
def migrate(target: TargetArgument = None) -> None:
    """Bring a cache of an older schema up to date; the file as it was stays beside it. Commands that write do so by themselves.

    Example: toolkit cache migrate quickstart
    """
    from toolkit.store import SCHEMA_VERSION

    opened = _opened(target)
    backup = opened.migrate()
    kept = f"; as it was, it is {backup}. Delete that once you are content." if backup else " already."
    typer.echo(f"{opened.path} has schema version {SCHEMA_VERSION}{kept}")
