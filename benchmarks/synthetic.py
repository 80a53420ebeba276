"""What benchmarks made by `reasoning-gym` share: a fixed seed, the generator's version, and no question twice."""

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from toolkit.tasks import Benchmark, Item
from toolkit.tasks.base import Field
from toolkit.tasks.metrics import normalise

MAX_DRAWN = 4000
"""Number of questions drawn from a generator, before repeated ones are left out."""


def distinct(words: Sequence[str]) -> bool:
    """Return whether words differ after SQuAD normalisation, which drops articles; otherwise their order cannot be scored."""
    return len({normalise(word) for word in words} - {""}) == len(words)


def synthetic(
    name: str,
    field: Field,
    metric: str,
    task: str,
    seed: int,
    settings: dict[str, Any],
    ask: Callable[[dict[str, Any]], str | None],
) -> Benchmark:
    """Make a benchmark of a generator's questions, in the generator's order.

    Args:
        name: Name of the benchmark.
        field: The skill that it tests.
        metric: Name of its metric.
        task: Name of the generator.
        seed: Its seed.
        settings: Its difficulty.
        ask: Writes the prompt from the metadata of an entry; None leaves the entry out.
    """

    def load() -> Iterator[Item]:
        import reasoning_gym

        seen: set[str] = set()
        for index, entry in enumerate(reasoning_gym.create_dataset(task, size=MAX_DRAWN, seed=seed, **settings)):
            prompt = ask(entry["metadata"])
            if prompt is not None and prompt not in seen:
                seen.add(prompt)
                yield Item(str(index), prompt, (str(entry["answer"]),))

    return Benchmark(
        name=name,
        version=f"1+reasoning-gym-{importlib.metadata.version('reasoning-gym')}",
        field=field,
        metric=metric,
        synthetic=True,
        source=f"reasoning-gym {task}, seed {seed}",
        licence="Apache-2.0",
        load=load,
    )
