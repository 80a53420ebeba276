"""`toolkit export`: a cache as a folder of Parquet files."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, only_cache


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
    cache: CacheOption = None,
) -> None:
    """Write a cache as Parquet, a file a table, with a manifest of their hashes written last.

    Example: toolkit export quickstart-parquet
    """
    opened = only_cache(cache)
    rows = opened.export(folder)
    typer.echo(f"{opened.path}: {sum(rows.values())} rows of {len(rows)} tables in {folder}.")
