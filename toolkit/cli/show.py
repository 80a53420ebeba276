"""`toolkit show`: the tree of one question."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, app, only_cache


@app.command()
def show(
    question: Annotated[str, typer.Argument(help="BENCHMARK/ITEM, or the beginning of a question's key.")],
    suite: Annotated[
        str | None, typer.Option(help="Name of a recorded suite. Default: the one recorded last.", show_default=False)
    ] = None,
    cache: CacheOption = None,
    sample: Annotated[int, typer.Option(help="Number of the sampled tree.", min=0)] = 0,
) -> None:
    """Show every response to one question as a tree, and mark the path with the highest reward.

    Example: toolkit show geography/capital-iraq
    """
    from toolkit.report.question import render

    typer.echo(render(only_cache(cache, suite), question, suite, sample))
