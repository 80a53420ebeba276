"""`toolkit export`: a cache as a folder of Parquet files."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, app, only_cache


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
    cache: CacheOption = None,
) -> None:
    """Write a cache as Parquet, one file per table, and a manifest of their hashes.

    Example: toolkit export quickstart-parquet
    """
    source = only_cache(cache)
    rows = source.transfer.export(folder)
    typer.echo(f"{source.path}: exported {sum(rows.values())} rows of {len(rows)} tables to {folder}.")
