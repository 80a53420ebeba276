"""Compare one worker of a Ray cluster with several on this machine: `python -m tests.benchmarks.workers`.

Uses questions from all benchmarks of the quickstart suite, its first model in float32, and one thread per worker. The sides run
in turns, after the workers have loaded their weights; the best run of each counts.
"""

import argparse
import random
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.content import content
from tests.scripted import encode
from toolkit.core.workspace import Workspace
from toolkit.engines.ray import RaySettings, RayWorkers
from toolkit.generation.generate import generate
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.resolving import resolve
from toolkit.suites.suite import Suite


def sample_suite(workspace: Workspace, questions: int, tokens: int, batch_tokens: int) -> Suite:
    """Reduce the quickstart to one hop, its first model and some questions, sampled evenly from its benchmarks."""
    config = load_config(find_suite("quickstart"))
    limited = config.limited(-(-questions // len(config.benchmarks)))
    model = config.models[0].model_copy(update={"max_tokens": tokens})
    engine = EngineConfig(device="cpu", batch_tokens=batch_tokens)
    suite = resolve(limited.model_copy(update={"horizon": 1, "models": (model,), "engine": engine}), workspace)
    return Suite(suite.config, suite.models, tuple(random.Random(0).sample(suite.questions, questions)), suite.encoder)


def response_rate(workers: RayWorkers, suite: Suite, cache: Cache, workspace: Workspace) -> float:
    """Generate a suite; return the responses per second."""
    started = time.perf_counter()
    report = generate(suite, cache, workspace, open_runner=workers.open_runner, encode=encode)
    assert not report.failed
    return report.generated / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=240)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048, help="tokens per batch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("cache/weights"), help="folder of downloaded weights")
    options = parser.parse_args()
    workspace = Workspace(find_suite("quickstart").parent, options.store.absolute())
    suite = sample_suite(workspace, options.questions, options.tokens, options.batch)
    whole = partial(Suite, suite.config, suite.models, encoder=suite.encoder)
    folder = Path(tempfile.mkdtemp())
    rates: dict[int, list[float]] = {1: [], options.workers: []}
    contents = []
    for turn in range(options.turns):
        for replicas, measured in rates.items():
            with RayWorkers(RaySettings(replicas=replicas)) as workers:
                few = whole(questions=suite.questions[: 8 * replicas])
                response_rate(workers, few, Cache(folder / f"{turn}-{replicas}-few.duckdb"), workspace)
                cache = Cache(folder / f"{turn}-{replicas}.duckdb")
                measured.append(response_rate(workers, whole(questions=suite.questions), cache, workspace))
                contents.append(content(cache))
                print(f"{replicas} workers: {measured[-1]:.2f} responses/s; {workers.worker_stats}", flush=True)
    one, many = map(max, rates.values())
    same = all(rows == contents[0] for rows in contents)
    print(f"{options.workers} workers: {many / one:.2f} times the rate of one; the caches {'are equal' if same else 'DIFFER'}")


if __name__ == "__main__":
    main()
