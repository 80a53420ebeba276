"""Processes to work side by side: all are forked from one that has imported what they need, and has no threads to trip over."""

import multiprocessing
from multiprocessing.context import BaseContext

IMPORTED = ["toolkit.routing.sweep", "torch._dynamo"]
"""What workers import; PyTorch imports `_dynamo`, which takes seconds, when its first optimizer is made."""


def context() -> BaseContext:
    """Return what makes processes; where they cannot be forked they start from nothing."""
    forked = "forkserver" in multiprocessing.get_all_start_methods()
    found = multiprocessing.get_context("forkserver" if forked else "spawn")
    found.set_forkserver_preload(IMPORTED)
    return found


def prepare() -> None:
    """Begin to import what workers need, while this process goes on with its own work."""
    if context().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        ensure_running()
