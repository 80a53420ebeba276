"""Opens a router and the pool that it routes in, for `toolkit route` and `toolkit serve`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.open_router import open_router
from toolkit.core.commands import command
from toolkit.core.errors import PolicyError
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from toolkit.live import LivePool
    from toolkit.routing.router import Router

RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A router's file or the folder of its run, a run, or a suite, for its newest run."),
]
AlphaOption = Annotated[
    float | None,
    typer.Option(help="Price of cost, for a conditioned router. Default: its run's.", show_default=False, min=0),
]
ResidentOption = Annotated[
    int | None,
    typer.Option("--resident", help="Models in memory at a time. Default: all that are needed.", show_default=False, min=1),
]


def open_live(
    target: str, cache: Path | None, runs_dir: Path, alpha: float | None, resident: int | None, trust: bool
) -> "tuple[Router, LivePool]":
    """Open a router and its pool; no weights are loaded yet.

    Raises:
        PolicyError: There is no such router, or it takes no alpha.
    """
    from toolkit.live import LivePool

    router, suite, opened = open_router(target, cache, runs_dir, None, trust)
    if alpha is not None and not router.conditioned:
        raise PolicyError(
            f"The router {printable(router.card['run'])} decides as it was trained, for alpha {router.card['alpha']:g}. Leave "
            "--alpha out, or train one for all alphas: "
            f"{command('train', suite.name, '--set', 'alphas=[0.0, 0.05, 0.2]', cache=cache)}"
        )
    return router, LivePool(suite, opened, Workspace.beside(opened.path, _folder(target, suite.name)), limit=resident)


def _folder(target: str, suite: str) -> Path | None:
    """Return the folder in which the relative paths of a suite start: that of its file; None for the current one."""
    from toolkit.suites.loading import shipped_suites

    if target.endswith(".toml"):
        return Path(target).parent
    shipped = shipped_suites().get(suite)
    return shipped.parent if shipped else None
