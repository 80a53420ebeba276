"""Results by cell: collects the rows of a table, and adds them to the results that a suite already has.

Refuses what contradicts itself; of two sources that contradict each other, the caller chooses one. Knows nothing of keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from toolkit.core.errors import BenchmarkError, CacheError
from toolkit.core.text import printable
from toolkit.store import Prefer
from toolkit.suites.suite import Split

Item = tuple[str, str]
"""Name of the benchmark, and id of the question within it."""
Cell = tuple[str, str, int, tuple[str, ...]]
"""Benchmark, item, number of the sample, and names of the models along a path."""

MAX_SHOWN = 60
"""Characters of a value that a message shows."""
CONTENT = ("score", "response", "cost", "prompt_tokens", "completion_tokens")
"""Fields of a cell that two sources may state differently."""


class QuestionText(NamedTuple):
    """What a question is, apart from its name; `reference` and `split` are None if the table does not have them."""

    question: str
    reference: str | None
    split: Split | None


class ResultRow(NamedTuple):
    """The result of one response; `place` says where it was read, as in `row 3 (line 4)`."""

    place: str
    benchmark: str
    item: str
    sample: int
    path: tuple[str, ...]
    question: QuestionText
    response: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    score: float

    @property
    def cell(self) -> Cell:
        """The cell that the row fills."""
        return self.benchmark, self.item, self.sample, self.path


@dataclass
class Results:
    """The results of a table, or of a suite.

    Attributes:
        questions: Every question by its item, in order; a suite may have questions without any result.
        models: Names of the models, in order.
        cells: Every result by its cell.
        horizon: Number of hops.
        samples: Number of samples.
    """

    questions: dict[Item, QuestionText] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    cells: dict[Cell, ResultRow] = field(default_factory=dict)
    horizon: int = 1
    samples: int = 1


@dataclass
class Changes:
    """What a table adds to the results of a suite.

    Attributes:
        added: Number of cells that complete results of the suite did not have.
        completed: Number of cells that were missing, or that have further fields now.
        equal: Number of cells that are there already.
        replaced: Number of cells that differ, and are replaced.
        ignored: Number of cells that differ, and stay as they are.
        cells: The cells whose content is new or has changed.
    """

    added: int = 0
    completed: int = 0
    equal: int = 0
    replaced: int = 0
    ignored: int = 0
    cells: set[Cell] = field(default_factory=set)


Fields = TypeVar("Fields", QuestionText, ResultRow)


class Difference(NamedTuple):
    """A contradiction between a row of a table and a suite."""

    row: ResultRow
    column: str
    ours: object
    theirs: object


def collect(source: str, rows: Sequence[ResultRow]) -> Results:
    """Collect the rows of a table.

    Args:
        source: Name of the table, for messages.
        rows: Its rows.

    Raises:
        BenchmarkError: Two rows contradict each other, or fill the same cell.
    """
    results = Results(samples=1 + max(row.sample for row in rows), horizon=max(len(row.path) for row in rows))
    results.models = list(dict.fromkeys(model for row in rows for model in row.path))
    places: dict[Item, str] = {}
    for row in rows:
        item = (row.benchmark, row.item)
        question, cell = results.questions.setdefault(item, row.question), results.cells.setdefault(row.cell, row)
        place = places.setdefault(item, row.place)
        if cell is not row:
            is_single = results.samples == 1
            hint = "Number repeated generations from 0 in a column sample, or drop one" if is_single else "Drop one"
            raise BenchmarkError(f"{source}, {row.place} is the same cell as {cell.place}, {described(row.cell)}. {hint}.")
        if question != row.question:
            column = next(name for name in QuestionText._fields if getattr(question, name) != getattr(row.question, name))
            raise BenchmarkError(
                f"{source}, {row.place}, column {column}: it has another {column} than {place}, which has the same item. "
                "Items with different questions need different ids."
            )
        if (row.cost is None) != (rows[0].cost is None):
            raise BenchmarkError(
                f"{source}, {row.place}, column cost: it and {rows[0].place} differ: only one has a cost. Give a cost in all "
                "rows, or in none."
            )
    check_scores(source, results.cells)
    return results


def check_scores(source: str, cells: Mapping[Cell, ResultRow]) -> None:
    """Check that equal responses to a question have equal scores.

    Raises:
        BenchmarkError: Two of them differ.
    """
    responses: dict[tuple[str, str, str], ResultRow] = {}
    for row in cells.values():
        if row.response is None:
            continue
        first = responses.setdefault((row.benchmark, row.item, row.response), row)
        if first.score != row.score:
            raise BenchmarkError(
                f"{source}, {row.place}, column score: it scores the response of {first.place} differently: {row.score:g} and "
                f"{first.score:g}. A score belongs to a response: correct one of them, or leave out the column response."
            )


def merge(ours: Results, theirs: Results, prefer: Prefer | None, source: str, target: str) -> tuple[Results, Changes]:
    """Add the results of a table to those of a suite; the suite's order of models and questions stays.

    Args:
        ours: The results of the suite; its cells need not be complete.
        theirs: The results of the table.
        prefer: Whose value to keep where they contradict each other.
        source: Name of the table, for messages.
        target: Name of the suite's cache, for messages.

    Raises:
        CacheError: They contradict each other, and `prefer` does not say whose value to keep.
        BenchmarkError: Equal responses to a question have different scores.
    """
    merged = Results(
        questions=dict(ours.questions),
        models=list(dict.fromkeys([*ours.models, *theirs.models])),
        cells=dict(ours.cells),
        horizon=max(ours.horizon, theirs.horizon),
        samples=max(ours.samples, theirs.samples),
    )
    changes, differences = Changes(), []
    grid = ours.horizon, ours.samples, set(ours.models)
    for cell, row in theirs.cells.items():
        item, old = cell[:2], ours.cells.get(cell)
        question = ours.questions.get(item)
        if question is not None and question != row.question:
            different, merged.questions[item] = _merged(question, row.question, QuestionText._fields, prefer)
            differences += [Difference(row, *difference) for difference in different]
        else:
            merged.questions.setdefault(item, row.question)
        if old is None:
            merged.cells[cell] = row
            changes.cells.add(cell)
            if question is not None and len(cell[3]) <= grid[0] and cell[2] < grid[1] and grid[2].issuperset(cell[3]):
                changes.completed += 1
            else:
                changes.added += 1
            continue
        different, new = _merged(old, row, CONTENT, prefer)
        differences += [Difference(row, *difference) for difference in different]
        if new != old:
            merged.cells[cell] = new._replace(place=row.place)
            changes.cells.add(cell)
        changes.equal += new == old and not different
        changes.ignored += new == old and bool(different)
        changes.replaced += new != old and bool(different)
        changes.completed += new != old and not different
    if differences and prefer is None:
        raise _contradiction(differences, source, target)
    check_scores(source, merged.cells)
    return merged, changes


def _merged(
    ours: Fields, theirs: Fields, names: Sequence[str], prefer: Prefer | None
) -> tuple[list[tuple[str, object, object]], Fields]:
    """Return which fields differ, with both values, and our record with the further fields of theirs, or with all of them."""
    different, updates = [], {}
    for name in names:
        our_value, their_value = getattr(ours, name), getattr(theirs, name)
        if their_value is None or their_value == our_value:
            continue
        if our_value is not None:
            different.append((name, our_value, their_value))
        if our_value is None or prefer == "theirs":
            updates[name] = their_value
    return different, ours._replace(**updates) if updates else ours


def _contradiction(differences: Sequence[Difference], source: str, target: str) -> CacheError:
    row, column, ours, theirs = differences[0]
    return CacheError(
        f"Values of {source} that differ from those in {target}: {len(differences)}. The first is {row.place}, column "
        f"{column}: {shown(theirs)}, and the cache has {shown(ours)} for {described(row.cell)}. Nothing was changed. Correct "
        "the table, or choose a side: repeat the command with --prefer ours (keep what the cache has) or --prefer theirs "
        "(replace it)."
    )


def described(cell: Cell) -> str:
    """Return a cell as a message names it: `benchmark/item: small > large`."""
    benchmark, item, sample, path = cell
    text = f"{benchmark}/{item}: {' > '.join(path)}" + (f" (sample {sample})" if sample else "")
    return shown(text, 2 * MAX_SHOWN)


def shown(value: object, longest: int = MAX_SHOWN) -> str:
    """Return a value as a message shows it: escaped, and shortened."""
    text = printable(value if isinstance(value, str) else repr(value)).replace("\n", "\\n")
    return f"{text[:longest]} ..." if len(text) > longest else text
