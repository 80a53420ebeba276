"""`toolkit status`: how far generation is, and what was trained."""

from typing import Annotated

import typer

from toolkit.cli.common import (
    CacheOption,
    Format,
    FormatOption,
    FullOption,
    OutputOption,
    app,
    cache_path,
    only_cache,
    suite_name,
)
from toolkit.core.commands import command


@app.command()
def status(
    suite: Annotated[str | None, typer.Argument(help="A suite file or name. Default: all suites of the cache.")] = None,
    cache: CacheOption = None,
    full: FullOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Show how many nodes are done, failed and missing, how many share a generation, and the trained runs.

    Example: toolkit status quickstart
    """
    from toolkit.report.status import render
    from toolkit.report.tables import write
    from toolkit.store import Cache

    name = suite_name(suite) if suite else None
    shown = Cache(cache_path(name, cache)) if name else only_cache(cache)
    if format == Format.TABLE and not output:
        typer.echo(render(shown, name, full))
        if suite and name not in shown.suites.names():
            typer.echo(f"To generate it: {command('generate', suite, cache=cache)}")
    else:
        write(shown.query("progress_by_hop", name=name), format, output)
