"""Worker processes, forked from a server process that has imported slow libraries and has no threads.

joblib starts each worker from nothing instead. With it, a sweep of 6 runs took 21.7 s, and with these 18.5 s (two lightly
loaded cores, one run each); and Ctrl-C while its workers were importing ended in a traceback, not after the runs in flight.
"""

import multiprocessing
from multiprocessing.context import BaseContext

SLOW_IMPORTS = ["torch._dynamo", "stable_baselines3", "duckdb", "pydantic"]
"""Libraries that workers import and that start no thread; PyTorch imports `_dynamo` late, and takes seconds for it."""


def worker_context() -> BaseContext:
    """Return the context of worker processes; where they cannot be forked, each starts from nothing."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    context.set_forkserver_preload(SLOW_IMPORTS)
    return context


def prepare() -> None:
    """Begin to import what workers need, while this process continues."""
    if worker_context().get_start_method() == "forkserver":
        from multiprocessing.forkserver import ensure_running

        ensure_running()
