"""Reads results in the long format: a table with one row per response, as docs/outcomes.md describes it.

Converts and checks every value: text columns stay text in every format, and only scores, costs, tokens and samples are
numbers. Knows nothing of suites or caches; `toolkit.outcomes.results` checks the rows against each other.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache, partial
from math import inf, isfinite
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.core.errors import BenchmarkError, did_you_mean
from toolkit.core.text import is_well_formed
from toolkit.outcomes.reading import PlacedRow, read_table
from toolkit.outcomes.results import QuestionText, ResultRow, shown
from toolkit.suites.config import MAX_SAMPLES
from toolkit.suites.section import check_name
from toolkit.suites.suite import Split
from toolkit.tasks.values import render_chat

SPLITS: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The split that a word in the column `split` means."""
MAX_COST = 1e100
"""Largest cost of a response: sums and squares of costs stay finite."""
MAX_TOKENS = 2**31 - 1
"""Most tokens of a response: the cache stores them in 32 bits."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_BOOLEANS = {"true": 1.0, "false": 0.0}


class ResultTable(NamedTuple):
    """The results of a table.

    Attributes:
        rows: One per response.
        ignored: Columns that mean nothing here.
        n_unscored: Rows without a score, which are left out as missing responses.
        n_clipped: Scores that were clipped to [0, 1].
    """

    rows: list[ResultRow]
    ignored: tuple[str, ...]
    n_unscored: int
    n_clipped: int


def read_results(path: Path, *, clip: bool = False) -> ResultTable:
    """Read a table of results.

    Args:
        path: The file.
        clip: Whether to clip scores to [0, 1] instead of refusing those outside.

    Raises:
        BenchmarkError: The table cannot be read, lacks a column, or has a malformed row; the message names row and column.
    """
    table = read_table(path, COLUMNS)
    _check_columns(path, table.columns)
    columns = {name: convert for name, convert in COLUMNS.items() if name in table.columns}
    if all(row.values.get("split") is None for row in table.rows):
        columns.pop("split", None)
    results, n_clipped = [], 0
    for row in table.rows:
        values = {name: _converted(path, row, name, convert) for name, convert in columns.items()}
        score = values["score"]
        if score is None:
            continue
        if clip and not 0 <= score <= 1:
            values["score"], n_clipped = min(max(score, 0.0), 1.0), n_clipped + 1
        for column, problem in _problems(values):
            raise BenchmarkError(f"{path}, {row.place}, column {column}: {problem}.")
        results.append(_result(row.place, values))
    if not results:
        raise BenchmarkError(f"{path} has no row with a score.")
    return ResultTable(
        rows=results,
        ignored=tuple(name for name in dict.fromkeys(table.columns) if name not in COLUMNS),
        n_unscored=len(table.rows) - len(results),
        n_clipped=n_clipped,
    )


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    missing = [column for column in ("benchmark", "item", "question", "score") if column not in columns]
    if "model" not in columns and "path" not in columns:
        missing.append("model")
    if "cost" not in columns and not {"prompt_tokens", "completion_tokens"} <= set(columns):
        missing.append("cost (or prompt_tokens and completion_tokens)")
    if missing:
        present = shown(", ".join(columns) or "none")
        raise BenchmarkError(
            f"{path} lacks the columns {', '.join(missing)}; it has {present}. Rename or add them; docs/outcomes.md describes "
            "all columns."
        )


def _converted(path: Path, row: PlacedRow, name: str, convert: "Callable[[Any], Any]") -> Any:
    value = row.values.get(name)
    if value is None:
        return None
    try:
        return convert(value)
    except ValueError as error:
        raise BenchmarkError(f"{path}, {row.place}, column {name}: {error}.") from None


def _result(place: str, values: Mapping[str, Any]) -> ResultRow:
    return ResultRow(
        place=place,
        benchmark=values["benchmark"],
        item=values["item"],
        sample=values.get("sample") or 0,
        path=values.get("path") or (values["model"],),
        question=QuestionText(values["question"], values.get("reference"), values.get("split")),
        response=values.get("response"),
        prompt_tokens=values.get("prompt_tokens"),
        completion_tokens=values.get("completion_tokens"),
        cost=values.get("cost"),
        score=values["score"],
    )


def _problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the column and a description of what is wrong with a converted row."""
    for column in ("benchmark", "item", "question"):
        if not (values[column] or "").strip():
            yield column, "it is empty"
    path, model = values.get("path"), values.get("model")
    if not path and model is None:
        yield "model", "it is empty"
    elif path and model is not None and path[-1] != model:
        yield "path", f"{shown(' > '.join(path))} does not end with the row's model, {shown(model)}"
    if "split" in values and values["split"] is None:
        yield "split", "it is empty, and other rows have one. Give every row its split, or leave out the column"
    score = values["score"]
    if not 0 <= score <= 1:
        yield (
            "score",
            f"{score:g} is not in [0, 1]. Scale the scores, for example percentages by 1/100; or clip those outside: --clip",
        )
    if values.get("cost") is None:
        for column in ("prompt_tokens", "completion_tokens"):
            if values.get(column) is None:
                yield column if column in values else "cost", "a row needs a cost, or both prompt_tokens and completion_tokens"


def _text(value: object) -> str:
    """Return a text as it is; an integer has only one spelling, and other numbers have several."""
    if isinstance(value, str) and value.isascii():
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(
            f"{shown(value)} is {_kind(value)}, and this column is text. Write it as text, between quotation marks in JSON"
        )
    text = str(value)
    if not is_well_formed(text):
        raise ValueError(f"{shown(text)} has half of a surrogate pair, which no UTF-8 text can have. Correct or drop it")
    return text


def _kind(value: object) -> str:
    kinds = {bool: "a truth value", float: "a number with a point or an exponent", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"of the type {type(value).__name__}")


def _name(value: object) -> str:
    return _checked_name(_text(value))


_checked_name = lru_cache(check_name)


def _question(value: object) -> str:
    if not isinstance(value, list):
        return _text(value)
    try:
        return _text(render_chat(value))
    except ValueError as error:
        raise ValueError(f"it {error}") from None


def _path(value: object) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [name.strip() for name in _text(value).split(">")]
    return tuple(map(_name, names))


def _split(value: object) -> Split:
    word = _text(value).strip().lower()
    if word not in SPLITS:
        raise ValueError(f"there is no split {shown(word)}; {did_you_mean(word, SPLITS)}")
    return SPLITS[word]


def _number(value: object) -> float | None:
    """Return a finite number; a text that is a number counts as one, and blank text is missing."""
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, str):
        if not value.strip():
            return None
        if not _NUMBER.fullmatch(value.strip()):
            raise ValueError(f"{shown(value)} is not a finite number")
        value = float(value)
    elif isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"{shown(value)} is {_kind(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if not isfinite(number):
        raise ValueError(f"{number} is not a finite number. Leave the value out if it is missing")
    return number


def _score(value: object) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    return _number(value)


def _cost(value: object) -> float | None:
    cost = _number(value)
    if cost is not None and not 0 <= cost <= MAX_COST:
        raise ValueError(f"{cost:g} is not a cost: it is negative, or above {MAX_COST:g}")
    return cost


def _count(value: object, largest: int, what: str) -> int | None:
    number = _number(value)
    if number is None:
        return None
    if number != int(number) or not 0 <= number <= largest:
        raise ValueError(f"{number:.12g} is not {what}: a whole number from 0 to {largest}")
    return int(number)


COLUMNS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("item", "response", "reference"), _text),
    **dict.fromkeys(("benchmark", "model"), _name),
    **dict.fromkeys(("prompt_tokens", "completion_tokens"), partial(_count, largest=MAX_TOKENS, what="a number of tokens")),
    "question": _question,
    "path": _path,
    "split": _split,
    "sample": partial(_count, largest=MAX_SAMPLES - 1, what="the number of a sample"),
    "cost": _cost,
    "score": _score,
}
"""How the values of each column are converted."""
