"""`toolkit sql`: query a cache."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, only_cache


def sql(
    query: Annotated[str, typer.Argument(help="One SQL query; tables and views are listed by `toolkit schema`.")],
    cache: CacheOption = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Run a SQL query over a cache; it may read other files (read_csv), and writes none but --output.

    Example: toolkit sql "SELECT model, avg(quality) FROM transitions WHERE depth = 1 GROUP BY model"
    """
    from toolkit.report.tables import write

    write(only_cache(cache).arrow(query), format, output)
