"""Short questions of general knowledge, written for this project (CC0-1.0), in two benchmarks.

Example of `geography`:

    What is the capital of France?
    Paris

Scored by SQuAD token F1, so `The capital is Paris.` scores between 0 and 1.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources

from toolkit.tasks import Benchmark, Item


def _load(has_topic: Callable[[str], bool]) -> Iterator[Item]:
    lines = (resources.files("benchmarks") / "facts.jsonl").read_text("utf-8").splitlines()
    for fact in map(json.loads, lines):
        if has_topic(fact["topic"]):
            yield Item(fact["id"], fact["question"], tuple(fact["answers"]))


_facts = partial(
    Benchmark,
    version="1",
    field="qa",
    metric="token_f1",
    synthetic=False,
    source="facts.jsonl of this package",
    licence="CC0-1.0",
)
GEOGRAPHY = _facts(name="geography", load=lambda: _load(lambda topic: topic == "geography"))
GENERAL = _facts(name="general", load=lambda: _load(lambda topic: topic != "geography"))
