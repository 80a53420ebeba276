"""`toolkit sql`: query a cache."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, app, only_cache


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SQL query; `toolkit schema` lists tables and views.")],
    cache: CacheOption = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Run a SQL query over a cache. It may read other files (read_csv), and writes no file but --output.

    Example: toolkit sql "SELECT model, avg(quality) FROM transitions WHERE depth = 1 GROUP BY model"
    """
    from toolkit.report.tables import write

    write(only_cache(cache).arrow(query), format, output)
