"""Results by cell: collects converted rows, and refuses what contradicts itself. Knows nothing of suites and keys."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.converting import PLACE, SCORE_PREFIX, TYPES, refuse_row
from toolkit.outcomes.values import HOP, MAX_SHOWN, shown

ITEM = ("benchmark", "item")
QUESTION = ("question", "reference", "split")
"""What a question has beside its name."""
CELL = ("number", "sample", "path")
"""Number of the question, number of the sample, and path: what identifies a result."""
CONTENT = ("score", "response", "cost", "prompt_tokens", "completion_tokens")
"""Fields of a cell that two sources may state differently."""
TOKENS = ("prompt_tokens", "completion_tokens")
CHARACTERS_PER_TOKEN = 4
"""By which tokens are estimated if the results have neither tokens nor costs."""

QUESTION_TYPES = dict.fromkeys((*ITEM, *QUESTION), pl.String)
CELL_TYPES: dict[str, Any] = {
    "number": pl.UInt32,
    "sample": pl.Int32,
    "path": pl.String,
    **{name: TYPES.get(name, pl.String) for name in CONTENT},
    "file": pl.Categorical,
    "place": pl.String,
}


def _no_questions() -> pl.DataFrame:
    return pl.DataFrame(schema=QUESTION_TYPES)


def _no_cells() -> pl.DataFrame:
    return pl.DataFrame(schema=CELL_TYPES)


@dataclass
class Results:
    """The results of a table, or of a suite.

    Attributes:
        questions: Benchmark, item, question, reference and split of every question, in order; its row is its number. A suite
            may have questions without any result.
        cells: Every result: the columns `CELL`, `CONTENT`, `PLACE` and those of further scores.
        models: Names of the models, in order.
        horizon: Number of hops.
        samples: Number of samples.
        estimated: Whether tokens are estimated from characters.
    """

    questions: pl.DataFrame = field(default_factory=_no_questions)
    cells: pl.DataFrame = field(default_factory=_no_cells)
    models: list[str] = field(default_factory=list)
    horizon: int = 0
    samples: int = 0
    estimated: bool = False

    @property
    def metrics(self) -> list[str]:
        """Columns of further scores."""
        return [name for name in self.cells.columns if name.startswith(SCORE_PREFIX)]

    @property
    def priced_by_tokens(self) -> set[str]:
        """Models that have a response without a cost."""
        last = self.cells.filter(pl.col("cost").is_null())["path"].unique().to_list()
        return {path.rpartition(HOP)[2] for path in last}


class _Questions:
    """The questions that were collected until now, by number."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str], int] = {}
        self.rows: list[dict[str, Any]] = []

    def add(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add the questions of some rows; return number and content of each, one row per question.

        Raises:
            BenchmarkError: A row contradicts an earlier one.
        """
        first = frame.group_by(ITEM, maintain_order=True).agg(
            *(pl.col(name).drop_nulls().first() for name in QUESTION), *(pl.col(name).first() for name in PLACE)
        )
        for row in first.iter_rows(named=True):
            item = row["benchmark"], row["item"]
            if item not in self.numbers:
                self.numbers[item] = len(self.rows)
                self.rows.append(row)
                continue
            known = self.rows[self.numbers[item]]
            for name in QUESTION:
                if known[name] is None:
                    known[name] = row[name]
                elif row[name] is not None and row[name] != known[name]:
                    _refuse_other(frame.filter(_is(item) & (pl.col(name) == row[name])).row(0, named=True), name, known)
        numbers = [self.numbers[item] for item in first.select(ITEM).iter_rows()]
        first = first.with_columns(number=pl.Series(numbers, dtype=pl.UInt32))
        joined = frame.join(first.select(*ITEM, "number", *QUESTION), on=ITEM, suffix="_first", maintain_order="left")
        for name in QUESTION:
            other = joined.filter(pl.col(name) != pl.col(f"{name}_first"))
            if other.height:
                row = other.row(0, named=True)
                _refuse_other(row, name, self.rows[row["number"]])
        return joined

    def frame(self) -> pl.DataFrame:
        """Return all questions in the order of their numbers."""
        return pl.DataFrame([{name: row[name] for name in QUESTION_TYPES} for row in self.rows], schema=QUESTION_TYPES)


def _is(item: tuple[str, str]) -> pl.Expr:
    return (pl.col("benchmark") == item[0]) & (pl.col("item") == item[1])


def _refuse_other(row: Mapping[str, Any], column: str, first: Mapping[str, Any]) -> None:
    place = first["place"] if first["file"] == row["file"] else f"{first['file']}, {first['place']}"
    refuse_row(
        row,
        column,
        f"it has another {column} than {place}, which has the same item. Items with different questions need different ids",
    )


def collect(source: str, frames: Iterable[pl.DataFrame]) -> Results:
    """Collect converted rows.

    Args:
        source: What the rows are read from, for messages.
        frames: The rows, in parts, as `toolkit.outcomes.converting` makes them.

    Raises:
        BenchmarkError: Two rows contradict each other, or fill the same cell, or there is none.
    """
    questions, parts, has_split = _Questions(), [], False
    without_split: Mapping[str, Any] | None = None
    for frame in frames:
        if without_split is None and (lacking := frame.filter(pl.col("split").is_null())).height:
            without_split = lacking.row(0, named=True)
        has_split = has_split or frame["split"].null_count() < frame.height
        joined = questions.add(frame)
        parts.append(joined.select(*CELL_TYPES, *(name for name in joined.columns if name.startswith(SCORE_PREFIX))))
    if not any(part.height for part in parts):
        raise BenchmarkError(f"{source} has no row with a score.")
    if has_split and without_split:
        problem = "it is empty, and other rows have one. Give every row its split, or leave out the column"
        if questions.rows[questions.numbers[without_split["benchmark"], without_split["item"]]]["split"] is None:
            refuse_row(without_split, "split", problem)
    cells = pl.concat(parts, how="diagonal")
    paths = cells["path"].unique(maintain_order=True)
    results = Results(
        questions=questions.frame(),
        cells=cells,
        models=list(dict.fromkeys(model for path in paths.to_list() for model in path.split(HOP))),
        horizon=int(paths.str.count_matches(HOP, literal=True).max()) + 1,  # type: ignore[arg-type]
        samples=int(cells["sample"].max()) + 1,  # type: ignore[arg-type]
    )
    _check_distinct(results)
    _check_costs(results)
    return results


def _check_distinct(results: Results) -> None:
    cells = results.cells
    repeated = cells.select(CELL).is_duplicated()
    if not repeated.any():
        return
    twice = cells.filter(repeated)
    second = twice.filter(~pl.struct(CELL).is_first_distinct()).row(0, named=True)
    first = twice.filter(pl.all_horizontal(pl.col(name) == second[name] for name in CELL)).row(0, named=True)
    hint = "Number repeated generations from 0 in a column sample, or drop one" if results.samples == 1 else "Drop one"
    place = first["place"] if first["file"] == second["file"] else f"{first['file']}, {first['place']}"
    raise BenchmarkError(
        f"{second['file']}, {second['place']} is the same cell as {place}, {described(results, second)}. {hint}."
    )


def _check_costs(results: Results) -> None:
    """Check that all rows have a cost, or all have tokens; if none has either, estimate the tokens."""
    cells = results.cells
    tokens = pl.col("prompt_tokens"), pl.col("completion_tokens")
    if cells["cost"].null_count() == 0:
        return
    without_tokens = cells.filter(pl.col("cost").is_null() & (tokens[0].is_null() | tokens[1].is_null()))
    if without_tokens.height == cells.height and all(cells[name].null_count() == cells.height for name in TOKENS):
        results.cells, results.estimated = _with_estimated_tokens(results), True
        return
    if without_tokens.height:
        row = without_tokens.row(0, named=True)
        column = next((name for name in TOKENS if row[name] is None and cells[name].null_count() < cells.height), "cost")
        refuse_row(row, column, "a row needs a cost, or both prompt_tokens and completion_tokens")
    if cells["cost"].null_count() < cells.height:
        first_has = cells["cost"][0] is not None
        other = cells.filter(pl.col("cost").is_null() if first_has else pl.col("cost").is_not_null()).row(0, named=True)
        refuse_row(
            other,
            "cost",
            f"it and {cells['place'][0]} differ: only one has a cost. Give a cost in all rows, or in none",
        )


def _with_estimated_tokens(results: Results) -> pl.DataFrame:
    """Return the cells with tokens in proportion to characters; a response without text counts as one token."""
    lengths = results.questions["question"].str.len_chars().to_list()
    prompt = pl.Series([math.ceil(length / CHARACTERS_PER_TOKEN) for length in lengths], dtype=pl.Int64)
    response = (pl.col("response").str.len_chars() / CHARACTERS_PER_TOKEN).ceil().fill_null(1).clip(1)
    return results.cells.with_columns(
        prompt_tokens=prompt.gather(results.cells["number"]), completion_tokens=response.cast(pl.Int64)
    )


def described(results: Results, cell: Mapping[str, Any]) -> str:
    """Return a cell as a message names it: `benchmark/item: small > large`."""
    benchmark, item = results.questions.select(ITEM).row(cell["number"])
    text = f"{benchmark}/{item}: {cell['path']}" + (f" (sample {cell['sample']})" if cell["sample"] else "")
    return shown(text, 2 * MAX_SHOWN)
