"""`toolkit show`: the tree of one question."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, app, only_cache


@app.command()
def show(
    question: Annotated[str, typer.Argument(help="BENCHMARK/ITEM, or the beginning of a question's key.")],
    suite: Annotated[
        str | None, typer.Option(help="Name of a recorded suite. Default: the one recorded last.", show_default=False)
    ] = None,
    cache: CacheOption = None,
    sample: Annotated[int, typer.Option(help="Number of the sampled tree.", min=0)] = 0,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Show every response to one question as a tree, and mark the path with the highest reward.

    Example: toolkit show geography/capital-iraq
    """
    from toolkit.report.question import render, rows, tree_of
    from toolkit.report.tables import write

    tree = tree_of(only_cache(cache, suite), question, suite, sample)
    if format == Format.TABLE and not output:
        typer.echo(render(tree))
    else:
        write(rows(tree), format, output)
