"""`toolkit schema`: what can be queried."""

from typing import Annotated

import typer

from toolkit.cli.common import Format, FormatOption, OutputOption, app


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(help="A table or view. Default: all of them, views first.")] = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """List the views and tables of a cache and what their columns mean; needs no cache.

    Example: toolkit schema transitions
    """
    from toolkit.core.errors import CacheError
    from toolkit.report.tables import write
    from toolkit.store import schema_comments

    comments = schema_comments(name)
    if not comments.num_rows:
        raise CacheError(f"A cache has no table or view {name!r}. To list them: toolkit schema")
    write(comments, format, output)
