"""What a benchmark is: a named, versioned set of questions with its prompt and its metric.

The benchmarks themselves live in the `benchmarks` package, one file each.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from toolkit.errors import ToolkitError


@dataclass(frozen=True)
class Item:
    """One question as a benchmark yields it.

    Attributes:
        id: Stable within the benchmark, whatever the limit.
        prompt: What a model is asked, benchmark's wording included.
        answers: Accepted answers.
        choices: All choices in the order shown; empty where there are none.
    """

    id: str
    prompt: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A named, versioned set of questions.

    Attributes:
        name: As suites and results call it.
        version: Changes whenever an item, a prompt or an answer does.
        field: The skill it asks for.
        metric: Name of the metric that is its quality by default.
        generated: Whether a program made the questions up; results say so wherever they are shown.
        source: Where the questions come from.
        licence: SPDX identifier of the questions.
        load: Yields the items in a fixed order.
    """

    name: str
    version: str
    field: Literal["qa", "code", "mathematics"]
    metric: str
    generated: bool
    source: str
    licence: str
    load: Callable[[], Iterable[Item]]

    def items(self, limit: int | None = None) -> list[Item]:
        """Return the questions; a larger limit contains the smaller one.

        Generated questions come in the order of their generator, others in the order of a hash of their id.

        Raises:
            ToolkitError: An id occurs twice, an item has no prompt or answer, or there are fewer items than `limit`.
        """
        if self.generated:
            chosen = list(islice(self._checked(), limit))
        else:
            chosen = sorted(self._checked(), key=lambda item: hashlib.sha256(item.id.encode()).digest())[:limit]
        if limit is not None and len(chosen) < limit:
            raise ToolkitError(
                f"Benchmark {self.name} has {len(chosen)} questions, fewer than limit = {limit}. Lower the limit."
            )
        return chosen

    def _checked(self) -> Iterator[Item]:
        seen: set[str] = set()
        for row, item in enumerate(self.load(), 1):
            if item.id in seen:
                raise ToolkitError(f"Benchmark {self.name}, row {row}: the id {item.id!r} occurs twice.")
            if not item.prompt.strip() or not item.answers:
                raise ToolkitError(f"Benchmark {self.name}, row {row} (id {item.id!r}) has no prompt or no answer.")
            seen.add(item.id)
            yield item
