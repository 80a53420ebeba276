"""What a benchmark is: a named, versioned set of questions with its prompt and its metric.

The benchmarks themselves are in the package `benchmarks`, in installed packages (entry points `toolkit.benchmarks`), and in
users' own Python files.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from toolkit.core import registry
from toolkit.core.errors import BenchmarkError, ToolkitError
from toolkit.core.registry import Registry
from toolkit.core.text import is_well_formed
from toolkit.tasks.data import Dataset, DataSplit, PlacedRecord, Record, read
from toolkit.tasks.sandbox import Checks

Field = Literal["qa", "code", "mathematics", "words"]


@dataclass(frozen=True)
class Item:
    """One question as a benchmark yields it.

    Attributes:
        id: Stable within the benchmark, whatever the limit; `""` if the data set has none, for the row number.
        prompt: What a model is asked, with the benchmark's wording.
        answers: Accepted answers.
        choices: All choices in the order shown; empty if there are none.
        tests: For code, the tests that the program must pass.
        stratum: Kind of question; a limit keeps the shares of all kinds.
        shown: The answer as a few-shot example shows it; default: the first accepted one.
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
        name: Its name in suites and results.
        version: Changes whenever an item, a prompt or an answer does.
        field: The skill that it tests.
        metric: Name of the metric that is its quality by default.
        licence: SPDX identifier of the questions.
        synthetic: Whether a program makes the questions; results say so wherever they are shown.
        source: Where the questions come from, if not from a data set.
        load: Yields the items in a fixed order, if there is no data set.
        dataset: Where the records come from.
        item: Makes an item of a record, given the name of its split; None leaves it out (another split, another subject).
        metrics: Further metrics that are scored and cached.
        citation: The paper.
        size: Number of questions of the official release.
        repeats: Whether the official release repeats some questions, which is an error in other benchmarks.
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

        Synthetic questions keep the order in which they are made. Others are ordered by a hash of their id, so that every kind
        of question keeps its share.

        Args:
            limit: Number of questions; default: all.
            data: The user's own copy of the data set.
            downloads: Folder for fetched packages.
            seed: Another seed selects other questions.
            shots: Number of examples shown before each question, from the split reserved for them.

        Raises:
            BenchmarkError: A record is malformed, empty or repeated, or there are fewer items than `limit`.
        """
        if self.synthetic:
            items = list(islice(self._checked_items(data, downloads), limit))
        else:
            items = _stratified(list(self._checked_items(data, downloads)), seed)[:limit]
        if not items:
            raise BenchmarkError(f"Benchmark {self.name} has no questions: {self.origin or 'its data'} is empty.")
        if limit is not None and len(items) < limit:
            raise BenchmarkError(
                f"Benchmark {self.name} has {len(items)} questions, fewer than limit = {limit}. Lower the limit."
            )
        return self._with_examples(items, shots, data, downloads) if shots else items

    def _checked_items(self, data: Path | None, downloads: Path) -> Iterator[Item]:
        if self.dataset:
            yield from self._read(self.dataset.test, data, downloads)
            return
        seen: set[str] = set()
        for number, item in enumerate(self._load(), 1):
            yield self._check(item, f"{self.source}, row {number}" if self.source else f"row {number}", seen)

    def _load(self) -> Iterator[Item]:
        """Yield what `load` yields; an error in it, which may be a user's own code, is one that the user can act on."""
        if not self.load:
            raise BenchmarkError(f"Benchmark {self.name} has neither load nor dataset, so it has no questions.")
        try:
            yield from self.load()
        except ToolkitError:
            raise
        except Exception as error:
            raise BenchmarkError(
                f"Benchmark {self.name}: loading its questions failed: {type(error).__name__}: {error}"
            ) from error

    def _read(self, split: DataSplit, data: Path | None, downloads: Path) -> Iterator[Item]:
        assert self.dataset
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
            return self.item(placed.record, split.name)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, SyntaxError) as error:
            record = placed.record
            columns = ", ".join(map(str, record)) if isinstance(record, dict) else repr(record)[:80]
            raise BenchmarkError(
                f"Benchmark {self.name}: {placed.place}, row {placed.number} is not a row of this data set "
                f"({type(error).__name__}: {error}); it has {columns or 'no columns'}."
            ) from None

    def _check(self, item: Item, place: str, seen: set[str]) -> Item:
        problem = _type_problem(item)
        if not problem:
            content = f"{item.prompt}\n{item.choices}"
            if item.id in seen or (content in seen and not self.repeats):
                problem = "occurs twice"
            elif not item.prompt.strip():
                problem = "has no prompt"
            elif not item.answers or not all(answer.strip() for answer in item.answers):
                problem = "has no answer, or an empty one"
            elif item.choices and not set(item.answers) & set(item.choices):
                problem = "has an answer that is not among its choices"
            seen |= {item.id, content}
        if problem:
            name = f" (id {item.id!r})" if isinstance(item, Item) else ""
            raise BenchmarkError(f"Benchmark {self.name}: {place}{name} {problem}. Fix the data, or leave the row out.")
        return item

    def _with_examples(self, items: list[Item], shots: int, data: Path | None, downloads: Path) -> list[Item]:
        if not self.dataset or not self.dataset.examples:
            raise BenchmarkError(f"Benchmark {self.name} has no split for few-shot examples. Leave out shots = {shots}.")
        if data and data.is_file():
            raise BenchmarkError(f"{data} is one file, and few-shot examples are in another. Name the folder that has both.")
        prompts = {item.prompt for item in items}
        examples: dict[str, list[Item]] = defaultdict(list)
        for example in _stratified(list(self._read(self.dataset.examples, data, downloads)), 0):
            if example.prompt not in prompts:
                for kind in {example.stratum, ""}:
                    examples[kind].append(example)

        def prompt_with_examples(item: Item) -> str:
            chosen = (examples[item.stratum] or examples[""])[:shots]
            if len(chosen) < shots:
                raise BenchmarkError(f"Benchmark {self.name} has {len(chosen)} examples to show, fewer than shots = {shots}.")
            turns = (f"{example.prompt}\n{example.shown or example.answers[0]}" for example in chosen)
            return "\n\n".join([*turns, item.prompt])

        return [replace(item, prompt=prompt_with_examples(item)) for item in items]


def _type_problem(item: object) -> str | None:
    """Return what is wrong with the types of an item's fields: data files and users' own code may put anything there."""
    if not isinstance(item, Item):
        return f"is {type(item).__name__}, not an Item"
    for field in ("answers", "choices"):
        if not isinstance(getattr(item, field), tuple | list):
            return f"has {field} that are {type(getattr(item, field)).__name__}, not a tuple of texts"
    if not (item.tests is None or isinstance(item.tests, Checks)):
        return f"has tests that are {type(item.tests).__name__}, not Checks"
    checks = [item.tests.code, item.tests.setup, *item.tests.names] if item.tests else []
    for text in (item.id, item.prompt, item.stratum, item.shown, *item.answers, *item.choices, *checks):
        if not isinstance(text, str):
            return f"has a value of type {type(text).__name__} in place of text: {text!r:.80}"
        if not is_well_formed(text):
            return f"has half of a surrogate pair, which is not a character: {text!a:.80}"
    return None


BENCHMARKS: Registry[Benchmark] = registry.BENCHMARKS
"""Every benchmark by name: the shipped ones (once the package `benchmarks` is imported) and those of installed packages."""


def _stratified(items: list[Item], seed: int) -> list[Item]:
    """Order items such that every beginning of the list contains each stratum in proportion.

    Within a stratum the order is that of a hash of the id. The item at rank r of n comes at (r + 1/2) / n of the whole.
    """
    strata: dict[str, list[tuple[bytes, Item]]] = defaultdict(list)
    for item in items:
        text = f"{seed}\n{item.id}" if seed else item.id
        strata[item.stratum].append((hashlib.sha256(text.encode()).digest(), item))
    placed = [
        ((rank + 0.5) / len(members), digest, item)
        for members in strata.values()
        for rank, (digest, item) in enumerate(sorted(members, key=lambda member: member[0]))
    ]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]


def lettered(question: str, choices: Iterable[str]) -> str:
    """Write a question with a letter for each choice, and ask for one of the letters."""
    lines = [f"{chr(65 + number)}. {choice}" for number, choice in enumerate(choices)]
    return "\n".join([question.strip(), *lines, "Answer with the letter of the right choice."])
