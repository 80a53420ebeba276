"""`toolkit status`: how far generation is, and what was trained."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, cache_path, only_cache, suite_name


def status(
    suite: Annotated[str | None, typer.Argument(help="A suite file or name; default: all in the cache.")] = None,
    cache: CacheOption = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Show how many nodes are done, failed and missing, how many answers were shared, and the trained runs.

    Example: toolkit status quickstart
    """
    from toolkit.report.status import PROGRESS, render
    from toolkit.report.tables import write
    from toolkit.store import Cache

    name = suite_name(suite) if suite else None
    opened = Cache(cache_path(name, cache)) if name else only_cache(cache)
    if format == Format.TABLE and not output:
        typer.echo(render(opened, name))
    else:
        write(opened.arrow(PROGRESS, {"name": name}), format, output)
