"""Compare one worker of a Ray cluster with several on this machine: `python -m tests.benchmarks.workers`.

Uses questions from all benchmarks of the quickstart suite, its first model in float32, and one thread per worker. The sides run
in turns, after the workers have loaded their weights; the best run of each counts.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.benchmarks.decoding import mixed
from tests.content import content
from tests.scripted import encode
from toolkit.core.workspace import Workspace
from toolkit.engines.ray import RaySettings, RayWorkers
from toolkit.generation.generate import generate
from toolkit.store import Cache
from toolkit.suites.suite import Suite


def response_rate(workers: RayWorkers, suite: Suite, cache: Cache, workspace: Workspace) -> float:
    """Generate a suite; return the responses per second."""
    started = time.perf_counter()
    report = generate(suite, cache, workspace, open_runner=workers.open_runner, encode=encode)
    assert not report.failed
    return report.generated / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="quickstart")
    parser.add_argument("--questions", type=int, default=240)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048, help="tokens per batch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("cache/weights"), help="folder of downloaded weights")
    options = parser.parse_args()
    suite, _, base = mixed(options.suite, options.questions, options.store.absolute(), options.tokens)
    engine = suite.config.engine.model_copy(update={"batch_tokens": options.batch})
    config = suite.config.model_copy(update={"engine": engine})
    whole = partial(Suite, config, suite.models, encoder=suite.encoder)
    folder = Path(tempfile.mkdtemp())
    rates: dict[int, list[float]] = {1: [], options.workers: []}
    contents = []
    for turn in range(options.turns):
        for replicas, measured in rates.items():
            with RayWorkers(RaySettings(replicas=replicas)) as workers:
                few = suite.questions[: 8 * replicas]
                response_rate(
                    workers,
                    whole(questions=few),
                    Cache(folder / f"{turn}-{replicas}-few.duckdb"),
                    Workspace(base, options.store),
                )
                cache = Cache(folder / f"{turn}-{replicas}.duckdb")
                workspace = Workspace(base, options.store)
                measured.append(response_rate(workers, whole(questions=suite.questions), cache, workspace))
                contents.append(content(cache))
                print(f"{replicas} workers: {measured[-1]:.2f} responses/s; {workers.worker_stats}", flush=True)
    one, many = map(max, rates.values())
    same = all(rows == contents[0] for rows in contents)
    print(f"{options.workers} workers: {many / one:.2f} times the rate of one; the caches {'are equal' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
