"""Make a cache of a million made-up nodes and time what users wait for: commits while it grows, then reading it.

python -m tests.soak.large [--nodes 1000000] [--folder FOLDER]
"""

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from tests.docs.page import bodies
from tests.scripted import suite_config
from toolkit.core.hashing import text_key
from toolkit.core.workspace import Workspace
from toolkit.report.status import render
from toolkit.store import Batch, Cache, Row, now
from toolkit.suites.keys import child_key, generation_key, question_key
from toolkit.suites.resolving import resolve_models, split_of
from toolkit.suites.suite import Question, Suite
from toolkit.tasks.metrics import Reference

BATCH_ROWS = 256
PAGE = Path(__file__).parents[2] / "docs/guides/sql.md"


class Rows(NamedTuple):
    """The rows of one made-up node."""

    generation: Row
    node: Row
    score: Row


def make_suite(questions: int, folder: Path) -> Suite:
    """Three models, three hops, and questions that no benchmark has."""
    base = suite_config(horizon=3)
    third = base.models[0].model_copy(update={"name": "third", "system_prompt": "third"})
    config = base.model_copy(update={"models": (*base.models, third)})
    asked = []
    for n in range(questions):
        prompt, reference = f"Made-up question number {n}?", Reference((str(n),))
        benchmark = config.benchmarks[n % len(config.benchmarks)].name
        key = question_key(benchmark, "1", str(n), prompt, reference)
        asked.append(Question(key, benchmark, "1", str(n), prompt, reference, "exact_match@1", split_of(prompt, config.splits)))
    return Suite(config, resolve_models(config, Workspace(folder, folder)), tuple(asked), "made-up@0")


def nodes(suite: Suite) -> Iterator[Rows]:
    """Make up every node of a suite, a hop at a time as generation does."""
    level: list[tuple[UUID, UUID, UUID, list[UUID]]] = [(root, root, question.key, []) for question, _, root in suite.trees()]
    for depth in range(1, suite.horizon + 1):
        below: list[tuple[UUID, UUID, UUID, list[UUID]]] = []
        for model in suite.models:
            for parent, root, question, path in level:
                node = child_key(parent, model.key)
                digest = hashlib.sha256(node.bytes).digest()
                response = f"Because of {digest.hex()[:40]} the answer is {digest[0] % 10}."
                prompt = f"user: context {parent} of some length, as a prompt of two hundred characters would have it " * 2
                generation = generation_key(model.key, prompt, 0)
                here = [*path, model.key]
                below.append((node, root, question, here))
                yield Rows(
                    {
                        "generation": generation,
                        "model": model.key,
                        "prompt": prompt,
                        "sample": 0,
                        "response": response,
                        "text": text_key(response),
                        "prompt_tokens": 60 + digest[1],
                        "completion_tokens": 4 + digest[2] % 20,
                        "finish_reason": "stop",
                        "status": "ok",
                        "error": None,
                        "transient": None,
                        "seconds": 0.1,
                        "engine": "made up",
                        "created": now(),
                    },
                    {
                        "node": node,
                        "root": root,
                        "question": question,
                        "parent": parent,
                        "path": here,
                        "depth": depth,
                        "generation": generation,
                        "dropped_responses": 0,
                    },
                    {
                        "question": question,
                        "text": text_key(response),
                        "metric": "exact_match@1",
                        "value": float(digest[0] % 4 == 0),
                        "detail": "{}",
                    },
                )
        level = below


def batch_of(rows: list[Rows]) -> Batch:
    """Put rows into one batch."""
    return Batch([row.generation for row in rows], [row.node for row in rows], [row.score for row in rows])


def timed(action: Callable[[], object]) -> float:
    """Return how long an action takes, in seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def queries() -> list[str]:
    """Return the queries of docs/guides/sql.md, in their order."""
    return bodies(PAGE.read_text("utf-8"), "sql")


def fill(cache: Cache, made: Iterator[Rows], batch_rows: int = 20_000) -> None:
    """Commit what is left of some rows."""
    for rest in iter(lambda: list(islice(made, batch_rows)), []):
        cache.generations.commit(batch_of(rest))


def grow(cache: Cache, suite: Suite, sizes: list[int], repeats: int = 20) -> None:
    """Fill a cache, and print what a commit of 256 rows takes at each size."""
    made, filled = nodes(suite), 0
    print(f"| nodes before | commit of {BATCH_ROWS} rows, median ms | slowest of {repeats}, ms |\n| ---: | ---: | ---: |")
    for size in sizes:
        while filled < size - repeats * BATCH_ROWS:
            part = list(islice(made, min(20_000, size - repeats * BATCH_ROWS - filled)))
            if not part:
                break
            cache.generations.commit(batch_of(part))
            filled += len(part)
        before = filled
        took = []
        for _ in range(repeats):
            batch = batch_of(list(islice(made, BATCH_ROWS)))
            took.append(1000 * timed(partial(cache.generations.commit, batch)))
            filled += BATCH_ROWS
        print(f"| {before:,} | {statistics.median(took):.0f} | {max(took):.0f} |", flush=True)
    fill(cache, made)


def read(cache: Cache, suite: Suite) -> None:
    """Print what opening, `status` and the queries of docs/guides/sql.md take."""
    print("\n| what | seconds |\n| --- | ---: |")
    print(f"| open the file, read the schema version | {timed(lambda: cache.arrow('SELECT 1')):.2f} |")
    print(f"| status, in this process | {timed(lambda: render(cache, None)):.2f} |")
    command = [sys.executable, "-c", "from toolkit.cli import main; main()", "status", "--cache", str(cache.path)]
    print(f"| toolkit status, as a command | {timed(lambda: subprocess.run(command, check=True, capture_output=True)):.2f} |")
    for n, query in enumerate(queries(), 1):
        print(f"| query {n} of sql.md | {timed(partial(cache.arrow, query)):.2f} |", flush=True)


def main() -> None:
    """Make the cache and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    cache = Cache(folder / "large.duckdb")
    suite = make_suite(-(-options.nodes // 39), folder)
    if not cache.exists():
        cache.create()
        cache.suites.record(suite)
        sizes = [size for size in (10_000, 30_000, 100_000, 300_000, 1_000_000) if size <= options.nodes]
        grow(cache, suite, sizes)
        cache.suites.compute_cost_unit(suite.key)
    read(cache, suite)
    print(f"\n{cache.path}: {cache.path.stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
