"""`toolkit export`: a cache as a folder of Parquet files, or the results of a suite in formats of other tools."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, app, only_cache, open_suite, suite_name
from toolkit.cli.paths import ForceOption
from toolkit.cli.terminal import note
from toolkit.core.errors import SuiteError
from toolkit.outcomes.exporting import EXPORTS, FileExport, check_export, default_output, export_format, export_results

CACHE = "cache"
"""The format of whole caches."""
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="SUITE",
        help="A suite file (NAME.toml), or the name of a shipped or recorded suite. With --format cache: a new folder.",
    ),
]
ExportOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="|".join([CACHE, *EXPORTS]),
        help="cache: a whole cache as Parquet, which `toolkit import` reads; "
        + "; ".join(f"{name}: {export.title}" for name, export in EXPORTS.items())
        + ".",
    ),
]
ExportOutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="The file or new folder of a suite's results. Default: SUITE-FORMAT in the current folder. A file may end in "
        ".parquet, .csv, .jsonl, .csv.gz, ...",
        show_default=False,
    ),
]


@app.command()
def export(
    target: TargetArgument,
    format: ExportOption = CACHE,
    output: ExportOutputOption = None,
    cache: CacheOption = None,
    force: ForceOption = False,
) -> None:
    """Write a whole cache as Parquet, one file per table and a manifest of their hashes; or the results of a suite.

    Example: toolkit export quickstart-parquet

    Example: toolkit export quickstart --format long --output quickstart.csv.gz

    Example: toolkit export quickstart --format dataset
    """
    if format == CACHE:
        if output or force:
            raise SuiteError("--output and --force are for the results of a suite, in a format of its own, e.g. --format long.")
        source, folder = only_cache(cache), Path(target)
        rows = source.transfer.export(folder)
        typer.echo(f"{source.path}: exported {sum(rows.values())} rows of {len(rows)} tables to {folder}.")
        return
    _export_suite(target, format, output, cache, overwrite=force)


def _export_suite(reference: str, format: str, output: Path | None, cache: Path | None, *, overwrite: bool) -> None:
    from toolkit.outcomes.suite_results import read_suite_results
    from toolkit.report.output import check_output

    path = output or default_output(suite_name(reference), format)
    if isinstance(export_format(format), FileExport):
        check_output(path, overwrite=overwrite)
    check_export(format, path)
    suite, opened = open_suite(reference, cache)
    results = read_suite_results(opened, suite)
    export_results(results, format, path, overwrite=overwrite)
    typer.echo(f"{path}: {results.n_results} results of suite {suite.name}, as {format}.")
    if results.n_missing:
        total = results.n_results + results.n_missing
        note(f"Without a score, and left out: {results.n_missing} of {total} responses.")
    if format == "long":
        typer.echo(f"To import it again: {results.import_command(path)}")
