"""Reads results in the long format: a table with one row per response, as docs/outcomes.md describes it.

Checks every row, and the rows against each other. Knows nothing of suites or caches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.core.errors import BenchmarkError

if TYPE_CHECKING:
    import polars as pl

Cell = tuple[str, str, tuple[str, ...]]
"""Benchmark, item, and names of the models along a path."""


def _path(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else tuple(name.strip() for name in str(value).split(">"))


COLUMNS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("benchmark", "item", "question", "model", "response", "reference"), str),
    **dict.fromkeys(("prompt_tokens", "completion_tokens"), int),
    **dict.fromkeys(("cost", "score"), float),
    "path": _path,
}
"""How the values of each column are converted."""
REQUIRED_COLUMNS = ("benchmark", "item", "question", "score")


class ResultRow(NamedTuple):
    """The result of one response; `row` is its number in the table, from 1, not counting the header."""

    row: int
    benchmark: str
    item: str
    question: str
    path: tuple[str, ...]
    response: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    score: float
    reference: str | None

    @property
    def cell(self) -> Cell:
        """The cell that the row fills."""
        return self.benchmark, self.item, self.path


def read_results(table: Path) -> list[ResultRow]:
    """Read a CSV, JSONL or Parquet table; rows without a score are left out, as missing responses.

    Raises:
        BenchmarkError: The table cannot be read, lacks a column, or has a malformed or duplicate row.
    """
    frame = _read_frame(table)
    _check_columns(table, frame.columns)
    rows = frame.select(column for column in COLUMNS if column in frame.columns).iter_rows(named=True)
    results = [_result(table, number, row) for number, row in enumerate(rows, 1) if row["score"] is not None]
    if not results:
        raise BenchmarkError(f"{table} has no row with a score.")
    _check_consistency(table, results)
    return results


def _read_frame(table: Path) -> "pl.DataFrame":
    import polars as pl

    readers = {
        ".csv": lambda: pl.read_csv(table, infer_schema_length=None),
        ".jsonl": lambda: pl.read_ndjson(table, infer_schema_length=None),
        ".parquet": lambda: pl.read_parquet(table),
    }
    if table.suffix not in readers:
        raise BenchmarkError(f"{table} has an unknown format. A table of results is CSV, JSONL or Parquet.")
    try:
        return readers[table.suffix]()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BenchmarkError(f"{table} cannot be read: {str(error).splitlines()[0]}") from None


def _check_columns(table: Path, columns: Sequence[str]) -> None:
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    if "model" not in columns and "path" not in columns:
        missing.append("model")
    if "cost" not in columns and not {"prompt_tokens", "completion_tokens"} <= set(columns):
        missing.append("cost (or prompt_tokens and completion_tokens)")
    if missing:
        raise BenchmarkError(
            f"{table} lacks the columns {', '.join(missing)}; it has {', '.join(columns)}. docs/outcomes.md describes them all."
        )


def _result(table: Path, number: int, row: Mapping[str, Any]) -> ResultRow:
    """Convert and check one row."""
    try:
        values: dict[str, Any] = {
            name: None if row.get(name) is None else convert(row[name]) for name, convert in COLUMNS.items()
        }
    except ValueError as error:
        raise BenchmarkError(f"{table}, row {number}: {error}.") from None
    model = values.pop("model")
    values["path"] = values["path"] or (model and (model,))
    for problem in _problems(values, model):
        raise BenchmarkError(f"{table}, row {number} {problem}.")
    return ResultRow(row=number, **values)


def _problems(row: Mapping[str, Any], model: str | None) -> Iterator[str]:
    """Yield what is wrong with a converted row, given its column `model`."""
    tokens = (row["prompt_tokens"], row["completion_tokens"])
    if not all((row[column] or "").strip() for column in ("benchmark", "item", "question")):
        yield "has no benchmark, item or question"
    if not row["path"]:
        yield "has neither model nor path"
    elif model is not None and row["path"][-1] != model:
        yield f"has the path {' > '.join(row['path'])}, which does not end with its model {model}"
    if not 0 <= row["score"] <= 1:
        yield f"has the score {row['score']:g}, which is not in [0, 1]: scale the scores"
    if row["cost"] is None and None in tokens:
        yield "has neither a cost nor prompt_tokens and completion_tokens"
    if not 0 <= (row["cost"] or 0) < float("inf") or any((count or 0) < 0 for count in tokens):
        yield "has a cost or a number of tokens below 0, or an infinite cost"


def _check_consistency(table: Path, results: Sequence[ResultRow]) -> None:
    """Check the rows against each other."""
    cells: dict[Cell, ResultRow] = {}
    items: dict[tuple[str, str], ResultRow] = {}
    responses: dict[tuple[str, str, str | int], ResultRow] = {}
    for result in results:
        item = (result.benchmark, result.item)
        same_cell, same_item = cells.setdefault(result.cell, result), items.setdefault(item, result)
        same_response = responses.setdefault((*item, result.row if result.response is None else result.response), result)
        problem = None
        if same_cell is not result:
            problem = f"is the same cell as row {same_cell.row}"
        elif (same_item.question, same_item.reference) != (result.question, result.reference):
            problem = f"has another question or reference than row {same_item.row}, which has the same item"
        elif same_response.score != result.score:
            problem = (
                f"scores the response of row {same_response.row} differently. A score belongs to a response: correct one of "
                "the rows, or leave out the column response"
            )
        elif (result.cost is None) != (results[0].cost is None):
            problem = f"and row {results[0].row} differ: only one has a cost. Give a cost in all rows, or in none"
        if problem:
            raise BenchmarkError(f"{table}, row {result.row} {problem}.")
