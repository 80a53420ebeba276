"""`toolkit show`: the tree of one question."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, only_cache


def show(
    question: Annotated[str, typer.Argument(help="BENCHMARK/ITEM, or the beginning of a question's key.")],
    suite: Annotated[
        str | None, typer.Option(help="Name of a recorded suite; default: the only one, or the newest.", show_default=False)
    ] = None,
    cache: CacheOption = None,
    sample: Annotated[int, typer.Option(help="Which sampled tree.", min=0)] = 0,
) -> None:
    """Show every answer of one question as a tree, the path with the highest reward marked.

    Example: toolkit show geography/capital-iraq
    """
    from toolkit.report.question import render

    typer.echo(render(only_cache(cache), question, suite, sample))
