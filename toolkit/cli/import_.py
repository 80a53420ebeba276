"""`toolkit import`: take in an exported folder or another cache."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from toolkit.cli.common import cache_path


def import_(
    source: Annotated[Path, typer.Argument(help="A folder that `toolkit export` wrote, or another cache.", exists=True)],
    cache: Annotated[Path, typer.Option("--cache", help="The cache that takes it in; made if it is not there.")],
    prefer: Annotated[
        Literal["ours", "theirs"] | None,
        typer.Option(
            help="Which to keep where both sides have an answer and they differ. Default: refuse.", show_default=False
        ),
    ] = None,
) -> None:
    """Merge an exported folder or another cache into a cache; what is there already is not doubled.

    Example: toolkit import quickstart-parquet --cache cache/quickstart.duckdb
    """
    from toolkit.store import Cache

    opened = Cache(cache_path("", cache))
    opened.create()
    added = opened.merge(source, prefer)
    what = ", ".join(f"{rows} {table}" for table, rows in added.items() if rows) or "nothing new"
    typer.echo(f"{opened.path}: {what} from {source}.")
