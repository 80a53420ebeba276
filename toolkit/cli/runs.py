"""`toolkit runs`: list runs, show one, compare two, and delete some."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from toolkit.cli.common import App, CacheOption, Format, FormatOption, FullOption, OutputOption, RunsDirOption, app, only_cache
from toolkit.cli.completion import complete_run
from toolkit.cli.open_router import find_run, open_router
from toolkit.cli.terminal import note
from toolkit.core.commands import command
from toolkit.core.errors import CacheError, PolicyError
from toolkit.core.workspace import cache_folder

if TYPE_CHECKING:
    from toolkit.store import Cache
    from toolkit.store.runs import RecordedRun

group = App(help="List, show, compare and delete runs.", no_args_is_help=False, rich_markup_mode=None)
app.add_typer(group, name="runs")

RunArgument = Annotated[str, typer.Argument(help="A run: its name, or the hash at the end of it.", autocompletion=complete_run)]


@group.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    cache: CacheOption = None,
    suite: Annotated[str | None, typer.Option(help="Only runs of this suite.", show_default=False)] = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """List runs, newest first: what trained them, the settings that differ, and Q, C and R of the newest evaluation."""
    if context.invoked_subcommand is None:
        list_(cache=cache, suite=suite, format=format)


@group.command("list")
def list_(
    cache: CacheOption = None,
    suite: Annotated[str | None, typer.Option(help="Only runs of this suite.", show_default=False)] = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """List runs, newest first: what trained them, the settings that differ, and Q, C and R of the newest evaluation.

    `toolkit runs` alone does the same.

    Example: toolkit runs list
    """
    from toolkit.report.runs import render_list, run_rows
    from toolkit.report.tables import write

    summaries = _summaries(cache, suite)
    if format == Format.TABLE and not output:
        typer.echo(render_list(summaries))
    else:
        write(run_rows(summaries), format, output)


@group.command()
def show(
    run: RunArgument,
    cache: CacheOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    full: FullOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Show one run: what trained it, its files and settings, and its evaluations. Other formats give the evaluations.

    Example: toolkit runs show fast
    """
    from toolkit.report.runs import render_run
    from toolkit.report.tables import write
    from toolkit.routing.run_files import run_files

    recorded, opened = _find(run, cache)
    evaluations = opened.runs.evaluations(recorded.run)
    if format == Format.TABLE and not output:
        files = run_files(recorded, opened.path, runs_dir)
        typer.echo(render_run(opened.runs.row(recorded.run), evaluations, opened.runs.count(recorded.run), files, full))
    else:
        write(evaluations, format, output)


@group.command()
def compare(
    first: RunArgument,
    second: RunArgument,
    cache: CacheOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="The questions to compare on.")] = "test",
    alpha: Annotated[
        float | None,
        typer.Option(help="Price of cost. Default: the one that both were trained for.", show_default=False, min=0),
    ] = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Compare two trained runs on the same questions: the differences of Q, C and R, by benchmark and overall.

    Example: toolkit runs compare fast slow
    """
    from toolkit.replay.table import load_table
    from toolkit.report.runs import difference_rows, render_differences
    from toolkit.report.tables import write
    from toolkit.routing.paired import compare_routers
    from toolkit.routing.run_pairs import shared_alpha

    opened_runs = [_find(run, cache) for run in (first, second)]
    routers = [open_router(recorded.run, opened.path, runs_dir, split, trust=False) for recorded, opened in opened_runs]
    (left, suite, opened), (right, _, _) = routers
    titles = [recorded.short for recorded, _ in opened_runs]
    at_alpha = command("runs", "compare", first, second, "--alpha", f"{left.card['alpha']:g}", cache=cache)
    price = shared_alpha(left.card, right.card, alpha, at_alpha)
    table = load_table(opened, suite, left.card["settings"].get("holdout"))
    for router in (left, right):
        router.check_table(table)
    differences = compare_routers(table, left, right, split, price)
    if format == Format.TABLE and not output:
        typer.echo(render_differences(differences, titles[0], titles[1], price, split))
    else:
        write(difference_rows(differences, titles[0], titles[1]), format, output)


@group.command()
def delete(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs: their names, or the hashes at their ends.", autocompletion=complete_run),
    ],
    cache: CacheOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Delete. Without this option, nothing is changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted, also with --yes.")] = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Delete runs: their evaluations and decisions in the cache, and what training wrote to their folders. Nothing else.

    Without --yes nothing is changed.

    Example: toolkit runs delete fast --dry-run
    """
    from toolkit.report.runs import deletion_rows, render_deletion
    from toolkit.report.tables import count, write
    from toolkit.routing.run_files import delete_files, run_files

    doomed = list({recorded.run: (recorded, opened) for recorded, opened in (_find(run, cache) for run in runs)}.values())
    files = [run_files(recorded, opened.path, runs_dir) for recorded, opened in doomed]
    counts = [opened.runs.count(recorded.run) for recorded, opened in doomed]
    rows = deletion_rows([recorded for recorded, _ in doomed], counts, files)
    if format == Format.TABLE and not output:
        typer.echo(render_deletion(rows))
    else:
        write(rows, format, output)
    if dry_run or not yes:
        note(f"{count(len(doomed), 'run')} would be deleted; nothing was changed. To delete: --yes")
        return
    for (recorded, opened), place in zip(doomed, files, strict=True):
        delete_files(place)
        opened.runs.delete(recorded.run)
    note(f"{count(len(doomed), 'run')} deleted.")


def _summaries(cache: Path | None, suite: str | None) -> "list[dict[str, Any]]":
    """Return the runs of the cache that the user names, or of all in the folder of caches that can be read."""
    from toolkit.store import Cache

    opened = [only_cache(cache, suite)] if cache or suite else [Cache(path) for path in sorted(cache_folder().glob("*.duckdb"))]
    summaries: list[dict[str, Any]] = []
    for file in opened or [only_cache(cache, suite)]:
        with contextlib.suppress(*(() if cache or len(opened) < 2 else (CacheError,))):  # another cache may be foreign or busy
            summaries += [{"cache": file.path.stem, **row} for row in file.runs.summaries(suite)]
    return sorted(summaries, key=lambda row: row["trained"], reverse=True)


def _find(run: str, cache: Path | None) -> "tuple[RecordedRun, Cache]":
    """Return a recorded run and its cache.

    Raises:
        PolicyError: There is no such run, or several caches have it.
    """
    from toolkit.store import Cache

    recorded, path = find_run(run, cache, or_suite=False)
    if not recorded.suite:
        raise PolicyError(f"The suite of run {recorded.run} is not in {path}; the file is damaged.")
    return recorded, Cache(path)
