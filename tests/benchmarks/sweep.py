"""Time a whole sweep of exact learners on synthetic questions of 40 nodes each: `python -m tests.benchmarks.sweep`.

The time includes everything that the command does: start-up, reading the cache, training in one process per core, evaluation
with the baselines, and writing the results. As in any suite, 70% of the questions are for training.
"""

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tests.benchmarks.loading import NAME, make
from tests.synthetic import synthetic_table
from toolkit.store import Cache

TEXT = "left(sha256('Because of ' || position || ' and ' || number || ' it is so.'), 32)::UUID"
LEARNABLE = (
    f"UPDATE scores SET value = made.value FROM (SELECT {TEXT} AS t, value FROM qualities) AS made WHERE text = t",
    f"UPDATE embeddings SET vector = made.vector FROM (SELECT {TEXT} AS t, vector FROM answers) AS made WHERE text = t",
    """UPDATE embeddings SET vector = asked.vector FROM asked JOIN suite_questions AS s USING (position)
       JOIN questions AS q USING (question) WHERE text = left(sha256(q.prompt), 32)::UUID""",
)
"""Replaces the uninformative qualities and embeddings of a filled cache with those of a synthetic table."""
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of Linux."""


class Timing(NamedTuple):
    """Wall time and CPU time of a command and its child processes, in seconds, and its output."""

    wall: float
    cpu: float
    output: str


def learnable(path: Path, questions: int) -> Cache:
    """Make a cache whose qualities and embeddings a router can learn from."""
    table = synthetic_table(questions, noise=0.5, seed=1)
    cache = make(path, 39 * questions)
    position, number = (axis.ravel() for axis in np.indices(table.quality.shape))
    decision = number < table.n_decision_nodes
    answered, node = position[decision], number[decision]
    with cache.write() as con:
        con.register("qualities", pa.table({"position": position, "number": number, "value": table.quality.ravel()}))
        vectors = list(table.vectors[table.texts[answered, node, 1]])
        con.register("answers", pa.table({"position": answered, "number": node, "vector": vectors}))
        vectors = list(table.vectors[table.texts[:, 0, 0]])
        con.register("asked", pa.table({"position": np.arange(questions), "vector": vectors}))
        for statement in LEARNABLE:
            con.execute(statement)
    return cache


def timed(command: list[str]) -> Timing:
    """Run a command, then wait for processes that it leaves behind; their time counts, too (Linux)."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    wall = time.perf_counter() - started
    with suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Timing(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout)


def time_sweep(questions: int = 2000, alphas: int = 21, seeds: int = 5) -> Timing:
    """Run `toolkit sweep` on a cache made for it."""
    with tempfile.TemporaryDirectory() as folder:
        cache = learnable(Path(folder) / "made.duckdb", questions)
        prices = ",".join(f"{alpha:.3g}" for alpha in np.linspace(0, 0.5, alphas))
        toolkit = str(Path(sys.executable).with_name("toolkit"))
        places = ["--cache", str(cache.path), "--runs-dir", folder]
        return timed([toolkit, "sweep", NAME, *places, "--algorithm", "exact", "--alphas", prices, "--seeds", str(seeds)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--alphas", type=int, default=21)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    timing = time_sweep(options.questions, options.alphas, options.seeds)
    print(timing.output)
    routers = options.alphas * options.seeds
    print(f"{routers} routers take {timing.wall:.1f} s of wall time and {timing.cpu:.1f} s of CPU time.")


if __name__ == "__main__":
    main()
