"""A process that generates a scripted suite, for tests that kill it or run several at once.

python -m tests.worker CACHE [--questions N] [--seconds S] [--shard i/n] [--oom P]
"""

import argparse
import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.scripted import encode, resolve_config, right_answers, suite_config
from toolkit.core.workspace import Workspace
from toolkit.engines import BatchTooLargeError, Completion, Prompt
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.generate import generate
from toolkit.generation.state import Shard
from toolkit.store import Cache
from toolkit.suites.suite import Suite

BENCHMARKS = ("addition", "word_reversal", "geography")


def make_suite(folder: Path, questions: int) -> Suite:
    """Return the suite that workers generate: two models, two hops, three benchmarks of `questions` questions each."""
    return resolve_config(suite_config(benchmarks=[{"name": name, "limit": questions} for name in BENCHMARKS]), folder)


def work(path: Path, questions: int = 8, seconds: float = 0.01, shard: str | None = None, oom: float = 0.0) -> None:
    """Generate.

    Args:
        path: The cache.
        questions: Number of questions of each benchmark.
        seconds: Time that a batch takes.
        shard: Part of the questions, as `i/n`.
        oom: Share of batches that do not fit into memory.
    """
    folder = path.parent
    suite = make_suite(folder, questions)
    script = right_answers(suite)

    class Slow(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            time.sleep(seconds)
            if len(prompts) > 1 and random.random() < oom:
                raise BatchTooLargeError("by chance")
            return super().generate(prompts)

    generate(
        suite,
        Cache(path),
        Workspace(folder, folder),
        shard=Shard(*map(int, shard.split("/"))) if shard else None,
        encode=encode,
        engine=partial(Slow, script=script),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.01)
    parser.add_argument("--shard")
    parser.add_argument("--oom", type=float, default=0.0)
    options = parser.parse_args()
    work(options.cache, options.questions, options.seconds, options.shard, options.oom)
