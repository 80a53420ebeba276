"""Compare loading the table of a large synthetic cache with a bare Arrow fetch of its embeddings.

Run as a program, it prints the peak memory of one load in bytes: `python -m tests.benchmarks.loading CACHE`.
"""

import subprocess
import sys
import time
from pathlib import Path

from tests.soak.large import make_suite
from toolkit.replay.table import TransitionTable, load_table
from toolkit.store import Cache
from toolkit.suites.suite import Suite

NAME = "scripted"
FILL = (
    """CREATE TEMP TABLE made AS SELECT q.root, q.question, q.metric, p.path, p.depth, p.number,
       left(sha256(q.position || 'node' || p.number), 32)::UUID AS node,
       left(sha256(q.position || 'generation' || p.number), 32)::UUID AS generation,
       'Because of ' || q.position || ' and ' || p.number || ' it is so.' AS response, left(sha256(response), 32)::UUID AS text
       FROM suite_questions AS q JOIN suite_paths AS p USING (suite) WHERE p.depth > 0""",
    "INSERT INTO nodes SELECT root, root, question, NULL, [], 0, NULL, 0 FROM suite_questions",
    "INSERT INTO nodes SELECT node, root, question, node, path, depth, generation, 0 FROM made",
    """INSERT INTO generations (generation, model, prompt, sample, response, text, prompt_tokens, completion_tokens,
       finish_reason, status, seconds, engine, created)
       SELECT generation, path[-1], repeat('a prompt of some length ', 12) || number, 0,
       response, text, 60, 10, 'stop', 'ok', 0.1, 'synthetic', now()::TIMESTAMP FROM made""",
    "INSERT INTO scores SELECT question, text, metric, (number % 4 = 0)::DOUBLE, '{}' FROM made",
    """INSERT INTO embeddings SELECT text, (SELECT encoder FROM suites),
       list_transform(range(384), lambda n: hash(text, n) / 2e19)
       FROM (SELECT text FROM made WHERE depth < 3 UNION SELECT left(sha256(prompt), 32)::UUID FROM questions)""",
)
"""Statements that fill a cache in DuckDB: three models, three hops, 384 features."""


def make(path: Path, nodes: int) -> Cache:
    """Make a cache with a given number of nodes."""
    cache = Cache(path)
    suite = make_suite(-(-nodes // 39), path.parent)
    cache.create()
    cache.suites.record(suite)
    with cache.write() as con:
        for statement in FILL:
            con.execute(statement)
    cache.suites.compute_cost_unit(suite.key)
    return cache


def recorded(cache: Cache) -> Suite:
    """Return the suite of such a cache."""
    suite = cache.suites.get(NAME)
    assert suite is not None
    return suite


def size(table: TransitionTable) -> int:
    """Return the size of a table's arrays in bytes."""
    return sum(value.nbytes for value in vars(table).values() if hasattr(value, "nbytes"))


def shares(cache: Cache, repeat: int = 3) -> tuple[float, float]:
    """Return a load's time relative to the bare fetch, and its peak memory relative to the size of the arrays.

    Time is wall time, because DuckDB uses all cores. Both sides run in turns and the fastest run of each counts. Memory is the
    peak of a separate process, including Python and libraries.
    """
    suite, times = recorded(cache), []
    for _ in range(repeat):
        started = time.perf_counter()
        cache.arrow("SELECT vector FROM embeddings")
        fetched = time.perf_counter()
        table = load_table(cache, suite)
        times.append((fetched - started, time.perf_counter() - fetched))
    fetch, load = map(min, zip(*times, strict=True))
    command = [sys.executable, "-m", "tests.benchmarks.loading", str(cache.path)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return load / fetch, peak / size(table)


if __name__ == "__main__":
    opened = Cache(sys.argv[1])
    load_table(opened, recorded(opened))
    status = Path("/proc/self/status").read_text("utf-8")  # the resource module would count the parent's memory
    print(1024 * int(status.partition("VmHWM:")[2].split()[0]))
