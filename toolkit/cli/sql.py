"""`toolkit sql`: query a cache."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, app, only_cache

ReadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        metavar="FILE",
        help="A CSV, JSON or Parquet file that the query reads, by its name in quotes. Can be repeated.",
        show_default=False,
    ),
]


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SQL query; `toolkit schema` lists tables and views.")],
    cache: CacheOption = None,
    read: ReadOption = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Run a SQL query over a cache. It reads no file but those of --read, and writes none but --output.

    Example: toolkit sql "SELECT model, avg(quality) FROM transitions WHERE depth = 1 GROUP BY model"

    Example: toolkit sql --read prices.csv "FROM 'prices.csv'"
    """
    from toolkit.report.tables import write
    from toolkit.store import read_tables

    write(only_cache(cache).arrow(query, tables=read_tables(read or [])), format, output)
