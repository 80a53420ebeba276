"""What a benchmark is: a named, versioned set of questions with its prompt and its metric.

The benchmarks themselves live in the `benchmarks` package, one file each.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from toolkit.core.errors import BenchmarkError
from toolkit.tasks.data import Dataset, DataSplit, PlacedRecord, Record, read
from toolkit.tasks.sandbox import Checks

Field = Literal["qa", "code", "mathematics"]


@dataclass(frozen=True)
class Item:
    """One question as a benchmark yields it.

    Attributes:
        id: Stable within the benchmark, whatever the limit; where a data set has none, `""`: its row number is taken.
        prompt: What a model is asked, benchmark's wording included.
        answers: Accepted answers.
        choices: All choices in the order shown; empty where there are none.
        tests: What model-written code has to pass, for code.
        stratum: Kind of question; a limit keeps the kinds' shares.
        shown: The answer as a few-shot example shows it; by default the first accepted one.
    """

    id: str
    prompt: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    tests: Checks | None = None
    stratum: str = ""
    shown: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A named, versioned set of questions.

    Attributes:
        name: As suites and results call it.
        version: Changes whenever an item, a prompt or an answer does.
        field: The skill it asks for.
        metric: Name of the metric that is its quality by default.
        licence: SPDX identifier of the questions.
        synthetic: Whether a program made the questions up; results say so wherever they are shown.
        source: Where the questions come from, where it is not a data set.
        load: Yields the items in a fixed order, where there is no data set.
        dataset: Where the rows come from.
        item: Makes a row an item; None leaves it out (of another split, or of another subject).
        metrics: Further metrics that are scored and cached.
        citation: The paper.
        size: Number of questions of the official release.
        repeats: Whether the official release asks some questions twice; elsewhere that is a mistake.
    """

    name: str
    version: str
    field: Field
    metric: str
    licence: str
    synthetic: bool = False
    source: str = ""
    load: Callable[[], Iterable[Item]] | None = None
    dataset: Dataset | None = None
    item: Callable[[Record, str], Item | None] | None = None
    metrics: tuple[str, ...] = ()
    citation: str = ""
    size: int | None = None
    repeats: bool = False

    @property
    def origin(self) -> str:
        """Where the questions come from, in a few words."""
        return f"{self.dataset.hub}@{self.dataset.revision[:8]}" if self.dataset else self.source

    def items(
        self,
        limit: int | None = None,
        *,
        data: Path | None = None,
        downloads: Path = Path("cache/weights"),
        seed: int = 0,
        shots: int = 0,
    ) -> list[Item]:
        """Return the questions; a larger limit contains the smaller one.

        Generated questions come in the order of their generator, others in the order of a hash of their id, so that every
        kind of question keeps its share.

        Args:
            limit: Number of questions; all of them by default.
            data: The user's own copy of the data set, in place of where it is looked for.
            downloads: Folder for fetched packages.
            seed: Another seed draws other questions.
            shots: Number of examples shown before each question, from the split that is kept for them.

        Raises:
            BenchmarkError: A row is wrong, empty or there twice, or there are fewer items than `limit`.
        """
        if self.synthetic:
            chosen = list(islice(self._checked(data, downloads), limit))
        else:
            chosen = _sample(list(self._checked(data, downloads)), seed)[:limit]
        if limit is not None and len(chosen) < limit:
            raise BenchmarkError(
                f"Benchmark {self.name} has {len(chosen)} questions, fewer than limit = {limit}. Lower the limit."
            )
        return self._with_examples(chosen, shots, data, downloads) if shots else chosen

    def _checked(self, data: Path | None, downloads: Path) -> Iterator[Item]:
        if self.dataset:
            yield from self._read(self.dataset.test, data, downloads)
            return
        assert self.load
        seen: set[str] = set()
        for row, item in enumerate(self.load(), 1):
            yield self._check(item, f"row {row}", seen)

    def _read(self, split: DataSplit, data: Path | None, downloads: Path) -> Iterator[Item]:
        assert self.dataset
        assert self.item
        seen: set[str] = set()
        counts: Counter[str] = Counter()
        for placed in read(self.dataset, split, data, downloads):
            item = self._item(placed, split)
            if item is not None:
                kind = item.stratum or split.name
                counts[kind] += 1
                item = item if item.id else replace(item, id=f"{kind}-{counts[kind]}")
                yield self._check(item, f"{placed.place}, row {placed.number}", seen)
        if not counts:
            raise BenchmarkError(f"Benchmark {self.name}: the split {split.name} of its data has no questions.")

    def _item(self, placed: PlacedRecord, split: DataSplit) -> Item | None:
        assert self.item
        try:
            return self.item(placed.row, split.name)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, SyntaxError) as error:
            has = ", ".join(map(str, placed.row)) if isinstance(placed.row, dict) else repr(placed.row)[:80]
            raise BenchmarkError(
                f"Benchmark {self.name}: {placed.place}, row {placed.number} is no row of this data set "
                f"({type(error).__name__}: {error}); it has {has or 'no columns'}."
            ) from None

    def _check(self, item: Item, place: str, seen: set[str]) -> Item:
        problem = None
        same = f"{item.prompt}\n{item.choices}"
        if item.id in seen or (same in seen and not self.repeats):
            problem = "occurs twice"
        elif not item.prompt.strip():
            problem = "has no prompt"
        elif not item.answers or not all(answer.strip() for answer in item.answers):
            problem = "has no answer, or an empty one"
        elif item.choices and not set(item.answers) & set(item.choices):
            problem = "has an answer that is none of its choices"
        if problem:
            raise BenchmarkError(
                f"Benchmark {self.name}: {place} (id {item.id!r}) {problem}. Mend the data, or leave the row out."
            )
        seen |= {item.id, same}
        return item

    def _with_examples(self, items: list[Item], shots: int, data: Path | None, downloads: Path) -> list[Item]:
        if not self.dataset or not self.dataset.examples:
            raise BenchmarkError(f"Benchmark {self.name} has no split for few-shot examples. Leave out shots = {shots}.")
        if data and data.is_file():
            raise BenchmarkError(f"{data} is one file, and few-shot examples are in another. Name the folder that has both.")
        examples = _sample(list(self._read(self.dataset.examples, data, downloads)), 0)
        asked = {item.prompt for item in items}
        kinds: dict[str, list[Item]] = defaultdict(list)
        for example in examples:
            if example.prompt not in asked:
                kinds[example.stratum].append(example)
                if example.stratum:
                    kinds[""].append(example)

        def shown(item: Item) -> str:
            chosen = (kinds[item.stratum] or kinds[""])[:shots]
            if len(chosen) < shots:
                raise BenchmarkError(f"Benchmark {self.name} has {len(chosen)} examples to show, fewer than shots = {shots}.")
            return "\n\n".join([*(f"{one.prompt}\n{one.shown or one.answers[0]}" for one in chosen), item.prompt])

        return [replace(item, prompt=shown(item)) for item in items]


def _sample(items: list[Item], seed: int) -> list[Item]:
    """Put items in an order of which every beginning holds each stratum in proportion.

    Within a stratum the order is that of a hash of the id; the item at rank r of n comes at (r + 1/2) / n of the whole.
    """
    strata: dict[str, list[tuple[bytes, Item]]] = defaultdict(list)
    for item in items:
        strata[item.stratum].append(
            (hashlib.sha256(f"{seed}\n{item.id}".encode() if seed else item.id.encode()).digest(), item)
        )
    placed = [
        ((rank + 0.5) / len(members), digest, item)
        for members in strata.values()
        for rank, (digest, item) in enumerate(sorted(members, key=lambda member: member[0]))
    ]
    return [item for _, _, item in sorted(placed, key=lambda one: one[:2])]


def lettered(question: str, choices: Iterable[str]) -> str:
    """Write a question with its choices, a letter each, and the request for one of them."""
    lines = [f"{chr(65 + number)}. {choice}" for number, choice in enumerate(choices)]
    return "\n".join([question.strip(), *lines, "Answer with the letter of the right choice."])
