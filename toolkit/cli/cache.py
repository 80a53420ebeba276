"""`toolkit cache`: keeping house among caches."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.errors import CacheError

app = typer.Typer(help="Keep house among caches.", no_args_is_help=True, rich_markup_mode=None)

FileArgument = Annotated[Path, typer.Argument(help="The cache file.")]


@app.command()
def migrate(file: FileArgument) -> None:
    """Bring a cache of an older schema up to date; the file as it was stays beside it. Commands that write do so by themselves.

    Example: toolkit cache migrate cache/quickstart.duckdb
    """
    from toolkit.store import SCHEMA_VERSION, Cache

    opened = Cache(file)
    if not opened.exists():
        raise CacheError(f"There is no cache {file}. List them: toolkit cache list")
    backup = opened.migrate()
    kept = f"; as it was, it is {backup}. Delete that once you are content." if backup else " already."
    typer.echo(f"{file} has schema version {SCHEMA_VERSION}{kept}")
