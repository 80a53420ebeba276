"""`toolkit cache`: list caches, show what is in them, and keep them small and up to date."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import App, Format, FormatOption, OutputOption, app, only_cache
from toolkit.cli.paths import existing_cache
from toolkit.cli.terminal import note
from toolkit.core.errors import CacheError, did_you_mean
from toolkit.core.workspace import cache_folder

if TYPE_CHECKING:
    from toolkit.store import Cache

group = App(help="List, inspect, prune, compact and migrate caches.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(group, name="cache")

TargetArgument = Annotated[
    str | None,
    typer.Argument(
        help="A cache file, or the suite it is named after. Default: the only cache in the folder.", show_default=False
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Delete. Without this option, rows are only counted.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only count rows, also with --yes.")]


def _find_cache(target: str | None) -> "Cache":
    """Return the cache of a file or a suite's name; without either, the only one in the folder.

    Raises:
        CacheError: There is no such cache.
    """
    from toolkit.store import Cache

    if target is None:
        return only_cache(None)
    return Cache(existing_cache(Path(target)))


@group.command("list")
def list_(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of caches. Default: $TOOLKIT_CACHE, else cache.", show_default=False)
    ] = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """List the caches of a folder: size, schema, suites, nodes, files beside them, and what is wrong with them.

    Example: toolkit cache list
    """
    from toolkit.report.tables import format_bytes, write
    from toolkit.store import Cache

    folder = folder or cache_folder()
    if not folder.is_dir():
        raise CacheError(f"There is no folder {folder}. Name another one, or make a cache: toolkit generate SUITE")
    rows = [Cache(path).housekeeping.overview()._asdict() for path in sorted(folder.glob("*.duckdb"))]
    if format == Format.TABLE and not output:
        if not rows:
            typer.echo(f"There is no cache in {folder}.")
            return
        for row in rows:
            row |= {"bytes": format_bytes(row["bytes"]), "suites": ", ".join(row["suites"])}
    write(rows, format, output)


@group.command()
def info(target: TargetArgument = None, format: FormatOption = Format.TABLE, output: OutputOption = None) -> None:
    """Show what a cache holds: suites and their progress, models, engines, and the rows and bytes of its tables.

    Other formats give the tables only.

    Example: toolkit cache info quickstart
    """
    from toolkit.report.caches import render
    from toolkit.report.tables import write

    cache = _find_cache(target)
    if format == Format.TABLE and not output:
        typer.echo(render(cache))
    else:
        write([size._asdict() for size in cache.housekeeping.sizes()], format, output)


@group.command()
def prune(
    target: TargetArgument = None,
    runs: Annotated[
        bool, typer.Option("--runs", help="Also delete runs of superseded suites, and what only they need.")
    ] = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Delete what no current suite and no run refers to: superseded suites and the responses that only they use.

    Without --yes nothing is changed. The previous file is kept as a backup.

    Example: toolkit cache prune quickstart
    """
    from toolkit.report.tables import format_bytes, write

    cache = _find_cache(target)
    tables = cache.housekeeping.unused(runs)
    write([table._asdict() for table in tables], format, output)
    unused, bytes_before = sum(table.unused for table in tables), cache.path.stat().st_size
    if not runs and (more := sum(table.unused for table in cache.housekeeping.unused(runs=True)) - unused):
        note(f"{more} more rows are kept for runs of superseded suites; to include them: --runs")
    if not unused:
        note(f"{cache.path}: nothing to prune.")
    elif dry_run or not yes:
        _note_counted(cache, unused)
    else:
        backup = cache.housekeeping.prune(runs)
        note(
            f"{cache.path}: {unused} rows deleted, {format_bytes(bytes_before)} before, "
            f"{format_bytes(cache.path.stat().st_size)} after. The previous file is {backup}; delete it if all is well."
        )


def _note_counted(cache: "Cache", rows: int) -> None:
    note(f"{cache.path}: {rows} rows would be deleted; nothing was changed. To delete them: --yes")


@group.command("remove-suite")
def remove_suite(
    suite: Annotated[str, typer.Argument(help="Name of a recorded suite.")],
    target: TargetArgument = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Remove a suite from a cache: its questions, trees and runs, and the responses that no other suite uses.

    Without --yes nothing is changed. The previous file is kept as a backup. Files of routers stay: toolkit runs delete

    Example: toolkit cache remove-suite quickstart --dry-run
    """
    from toolkit.report.tables import format_bytes, write

    cache = _find_cache(target)
    names = cache.suites.names()
    if suite not in names:
        raise CacheError(f"{cache.path} has no suite {suite!r}; {did_you_mean(suite, names)}.")
    tables = cache.housekeeping.unused(suite=suite)
    write([table._asdict() for table in tables], format, output)
    unused = sum(table.unused for table in tables)
    if dry_run or not yes:
        _note_counted(cache, unused)
        return
    backup = cache.housekeeping.prune(suite=suite)
    note(
        f"{cache.path}: suite {suite} removed, {unused} rows; the file has {format_bytes(cache.path.stat().st_size)}. The "
        f"previous file is {backup}; delete it if all is well."
    )


@group.command()
def vacuum(target: TargetArgument = None) -> None:
    """Rewrite a cache as small as its rows allow: DuckDB does not give up the space of deleted rows.

    The copy is checked before it replaces the file, and needs as much disk again meanwhile.

    Example: toolkit cache vacuum quickstart
    """
    from toolkit.report.tables import format_bytes

    cache = _find_cache(target)
    before, after = cache.housekeeping.vacuum()
    typer.echo(f"{cache.path}: {format_bytes(before)} before, {format_bytes(after)} after.")


@group.command()
def migrate(target: TargetArgument = None) -> None:
    """Migrate a cache of an older schema, and keep the previous file as a backup. Commands that write do so themselves.

    Example: toolkit cache migrate quickstart
    """
    from toolkit.store import SCHEMA_VERSION

    cache = _find_cache(target)
    backup = cache.migrate()
    outcome = f"; the previous file is {backup}. Delete it if all is well." if backup else " already."
    typer.echo(f"{cache.path} has schema version {SCHEMA_VERSION}{outcome}")
