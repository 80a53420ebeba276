"""Generation by one worker of a Ray cluster beside several, on this machine: `python -m tests.benchmarks.workers`.

Mixed questions of the quickstart suite, its first model in float32, one thread a worker. Both sides run in turns, workers and
their weights loaded beforehand; the best of each counts.
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
from toolkit.engines.ray import RayWorkers
from toolkit.generation.generate import generate
from toolkit.store import Cache
from toolkit.suites.config import RayConfig
from toolkit.suites.suite import Suite


def answered(workers: RayWorkers, suite: Suite, cache: Cache, workspace: Workspace) -> float:
    """Generate a suite; return answers a second."""
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
    parser.add_argument("--batch", type=int, default=2048, help="tokens of a batch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("cache/weights"), help="folder of fetched weights")
    options = parser.parse_args()
    suite, _, base = mixed(options.suite, options.questions, options.store.absolute(), options.tokens)
    engine = suite.config.engine.model_copy(update={"batch_tokens": options.batch})
    config = suite.config.model_copy(update={"engine": engine})
    whole = partial(Suite, config, suite.models, encoder=suite.encoder)
    folder = Path(tempfile.mkdtemp())
    rates: dict[int, list[float]] = {1: [], options.workers: []}
    contents = []
    for turn in range(options.turns):
        for replicas, found in rates.items():
            with RayWorkers(RayConfig(replicas=replicas)) as workers:
                few = suite.questions[: 8 * replicas]
                answered(
                    workers,
                    whole(questions=few),
                    Cache(folder / f"{turn}-{replicas}-few.duckdb"),
                    Workspace(base, options.store),
                )
                cache = Cache(folder / f"{turn}-{replicas}.duckdb")
                found.append(answered(workers, whole(questions=suite.questions), cache, Workspace(base, options.store)))
                contents.append(content(cache))
                print(f"{replicas} workers: {found[-1]:.2f} answers/s; {workers.worker_stats}", flush=True)
    one, many = map(max, rates.values())
    same = all(found == contents[0] for found in contents)
    print(f"{options.workers} workers: {many / one:.2f} times the rate of one; caches {'equal' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
