"""Converts rows of any format into typed frames, and checks every value; a message names file, row and column.

A column whose values are all plain is converted at once; any other is converted value by value, with the same result.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import polars as pl

from toolkit.core.errors import BenchmarkError, did_you_mean
from toolkit.core.hashing import text_key
from toolkit.core.text import separator_hint
from toolkit.outcomes.rows import Rows
from toolkit.outcomes.values import COLUMNS, HOP, MAX_COST, NUMBER_COLUMNS, TEXT_COLUMNS, shown, to_score

SCORE_PREFIX = "score:"
"""Columns of further scores are called `score:NAME`."""
PLACE = ("file", "place")
"""Columns that say where a row was read."""
TYPES: Mapping[str, type[pl.DataType]] = {
    "score": pl.Float64,
    "cost": pl.Float64,
    "sample": pl.Int32,
    "prompt_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
}
"""Types of the columns of numbers; all others are text."""


@dataclass(frozen=True)
class Conversion:
    """What the user asks of the values.

    Attributes:
        columns: Names of columns of the table by the columns of the long format that they stand for.
        metrics: Names of the scores that are the quality: of each row, the first that it has. Empty for its column `score`.
        clip: Whether scores outside [0, 1] are clipped instead of refused.
        scale: Lowest and highest possible score, which become 0 and 1; None to leave scores as they are.
        benchmark: Name of the benchmark if there is no such column.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[str] = ()
    clip: bool = False
    scale: tuple[float, float] | None = None
    benchmark: str = "imported"


@dataclass
class Notes:
    """What was read, and what was left out or changed.

    Attributes:
        ignored: Columns that mean nothing here.
        metrics: Names of further scores.
        n_rows: Number of rows.
        n_unscored: Rows without a score, which are missing responses.
        n_clipped: Scores that were clipped to [0, 1].
        n_further_outside: Further scores outside [0, 1], which are left out.
        added: Columns that the table lacks, and what stands for them.
    """

    ignored: dict[str, None] = field(default_factory=dict)
    metrics: dict[str, None] = field(default_factory=dict)
    n_rows: int = 0
    n_unscored: int = 0
    n_clipped: int = 0
    n_further_outside: int = 0
    added: dict[str, str] = field(default_factory=dict)


def convert_rows(parts: Iterator[Rows], conversion: Conversion, notes: Notes) -> Iterator[pl.DataFrame]:
    """Convert rows part by part.

    Args:
        parts: The rows as a format reads them.
        conversion: What the user asks of the values.
        notes: Is told what was left out.

    Yields:
        Frames with the columns of the long format (`path` as text, with `HOP` between its models), further scores, and `PLACE`.

    Raises:
        BenchmarkError: A column is missing, or a value is not what its column takes.
    """
    for rows in parts:
        yield _converted(rows, conversion, notes)
    unknown = [name for name in conversion.metrics if name not in notes.metrics]
    if unknown and notes.n_rows:
        known = f"{did_you_mean(unknown[0], notes.metrics)}" if notes.metrics else "there are no columns score:NAME"
        raise BenchmarkError(f"There is no score {unknown[0]!r}; {known}.")


def _converted(rows: Rows, conversion: Conversion, notes: Notes) -> pl.DataFrame:
    columns = _renamed(rows, conversion)
    if notes.n_rows:  # JSON has no columns: whole parts of a table may lack one, as no row there has a value
        nothing = [None] * len(rows.places)
        columns = dict.fromkeys(("question", "model", *_absent_score(columns)), nothing) | columns
    _check_columns(rows.file, columns)
    scores = [name for name in columns if name.startswith(SCORE_PREFIX)]
    notes.metrics |= dict.fromkeys(name.removeprefix(SCORE_PREFIX) for name in scores)
    notes.ignored |= dict.fromkeys([*(name for name in columns if name not in COLUMNS and name not in scores), *rows.ignored])
    notes.n_rows += len(rows.places)
    series = {name: _column(rows, name, columns[name]) for name in columns if name in COLUMNS or name in scores}
    frame = pl.DataFrame({**series, "place": pl.Series(rows.places, dtype=pl.String)})
    frame = frame.with_columns(pl.lit(rows.file).cast(pl.Categorical).alias("file"))
    frame = _completed(_with_path(frame), conversion, notes)
    frame = _with_score(frame, scores, conversion, notes)
    _check_rows(frame)
    return frame


def _renamed(rows: Rows, conversion: Conversion) -> dict[str, Sequence[Any]]:
    columns = dict(rows.columns)
    for name, theirs in conversion.columns.items():
        if theirs not in rows.columns:
            raise BenchmarkError(f"{rows.file} has no column {theirs!r} for {name}; it has {shown(', '.join(rows.columns))}.")
        columns.pop(theirs, None)
    return columns | {name: rows.columns[theirs] for name, theirs in conversion.columns.items()}


def _absent_score(columns: Mapping[str, object]) -> list[str]:
    return [] if any(name == "score" or name.startswith(SCORE_PREFIX) for name in columns) else ["score"]


def _check_columns(file: str, columns: Mapping[str, object]) -> None:
    missing = [name for name in ("question",) if name not in columns]
    missing += _absent_score(columns)
    missing += [] if "model" in columns or "path" in columns else ["model"]
    if missing:
        raise BenchmarkError(
            f"{file} lacks the columns {', '.join(missing)}; it has {shown(', '.join(columns) or 'none')}. Say which columns "
            f"they are, e.g. --column {missing[0]}=NAME, or name the format (--format). docs/guides/results.md has all."
            + separator_hint(columns)
        )


def _column(rows: Rows, name: str, values: Sequence[Any]) -> pl.Series:
    """Convert the values of a column."""
    is_number = name in NUMBER_COLUMNS or name.startswith(SCORE_PREFIX)
    dtype = TYPES.get(name, pl.Float64 if is_number else pl.String)
    plain = _plain_numbers(name, values) if is_number else _plain_texts(name, values)
    if plain is not None:
        return plain.cast(dtype).alias(name)
    convert: Callable[[Any], Any] = (
        to_score if name.startswith(SCORE_PREFIX) else (NUMBER_COLUMNS if is_number else TEXT_COLUMNS)[name]
    )
    converted = []
    for row, value in enumerate(values):
        try:
            converted.append(None if value is None else convert(value))
        except ValueError as error:
            raise BenchmarkError(f"{rows.file}, {rows.places[row]}, column {name}: {error}.") from None
    return pl.Series(name, converted, dtype=dtype)


def _plain_texts(name: str, values: Sequence[Any]) -> pl.Series | None:
    """Return the texts of a column as they are, or None if some of them need a conversion."""
    if not isinstance(values, pl.Series) and not set(map(type, values)) <= {str, type(None)}:
        return None
    try:
        texts = values if isinstance(values, pl.Series) else pl.Series(name, values, dtype=pl.String)
    except (UnicodeEncodeError, pl.exceptions.PolarsError):  # half of a surrogate pair
        return None
    if texts.dtype != pl.String:
        return None
    if name not in ("benchmark", "model", "path", "split"):
        return texts
    try:
        converted = {value: TEXT_COLUMNS[name](value) for value in texts.drop_nulls().unique().to_list()}
    except ValueError:
        return None
    return texts.replace_strict(converted, default=None, return_dtype=pl.String) if converted else texts


def _plain_numbers(name: str, values: Sequence[Any]) -> pl.Series | None:
    """Return the numbers of a column, or None if some of them need a conversion."""
    numbers = _numeric(name, values)
    if numbers is None or not numbers.drop_nulls().is_finite().all():
        return None
    if name not in TYPES or name == "score" or numbers.null_count() == len(numbers):
        return numbers
    is_count = name != "cost"
    largest = NUMBER_COLUMNS[name].keywords["largest"] if is_count else MAX_COST  # type: ignore[attr-defined]  # a partial
    is_plain = numbers.is_between(0, largest).all() and not (is_count and (numbers != numbers.floor()).any())
    return numbers if is_plain else None


def _numeric(name: str, values: Sequence[Any]) -> pl.Series | None:
    """Return values as a series of numbers if they are numbers, or texts of numbers."""
    if isinstance(values, pl.Series):
        return values.cast(pl.Float64) if values.dtype.is_numeric() else None
    types = set(map(type, values))
    if types <= {float, int, type(None)}:
        try:
            numbers = pl.Series(name, values, dtype=pl.Float64, strict=False)
        except (OverflowError, pl.exceptions.PolarsError):
            return None
        return numbers if numbers.null_count() == sum(value is None for value in values) else None
    if types <= {str, type(None)}:
        texts = pl.Series(name, values, dtype=pl.String)
        numbers = texts.cast(pl.Float64, strict=False)
        return numbers if numbers.null_count() == texts.null_count() else None
    return None


def _with_path(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with a path in each row, which ends with its model; one hop if there is no path."""
    path, model = (pl.col(name) if name in frame.columns else pl.lit(None, pl.String) for name in ("path", "model"))
    frame = frame.with_columns(_path=pl.coalesce(path, model))
    if "path" in frame.columns and "model" in frame.columns:
        last = pl.col("path").str.split(HOP).list.last()
        _refuse(
            frame.filter(last != pl.col("model")),
            "path",
            lambda row: f"{shown(row['path'])} does not end with the row's model, {shown(row['model'])}",
        )
    return frame.drop([name for name in ("path", "model") if name in frame.columns]).rename({"_path": "path"})


def _completed(frame: pl.DataFrame, conversion: Conversion, notes: Notes) -> pl.DataFrame:
    """Return the frame with all columns: benchmark and item may be derived, and others be empty."""
    derived = {}
    if "benchmark" not in frame.columns:
        derived["benchmark"] = pl.lit(conversion.benchmark)
        notes.added["benchmark"] = f"all questions are of the benchmark {conversion.benchmark}"
    if "item" not in frame.columns:
        keys = {question: text_key(question).hex[:12] for question in frame["question"].drop_nulls().unique().to_list()}
        derived["item"] = pl.col("question").replace_strict(keys, default=None, return_dtype=pl.String)
        notes.added["item"] = "questions are told apart by their text"
    empty = [
        name for name in COLUMNS if name not in frame.columns and name not in (*derived, "model", "path", "score", "sample")
    ]
    return frame.with_columns(
        **derived,
        **{name: pl.lit(None, TYPES.get(name, pl.String)) for name in empty},
        sample=pl.col("sample").fill_null(0) if "sample" in frame.columns else pl.lit(0, pl.Int32),
    )


def _with_score(frame: pl.DataFrame, scores: Sequence[str], conversion: Conversion, notes: Notes) -> pl.DataFrame:
    """Return the rows with a quality, scaled and clipped as the user asks; further scores outside [0, 1] are left out."""
    if conversion.metrics:
        named = [SCORE_PREFIX + name for name in conversion.metrics if SCORE_PREFIX + name in frame.columns]
        score = pl.coalesce(named) if named else pl.lit(None, pl.Float64)
    elif "score" in frame.columns:
        score = pl.col("score")
    else:
        several = pl.sum_horizontal(pl.col(name).is_not_null() for name in scores) > 1
        options = " or ".join(f"--metric {name.removeprefix(SCORE_PREFIX)!r}" for name in scores)
        _refuse(frame.filter(several), "score", lambda _: f"there are several scores. Say which one is the quality: {options}")
        score = pl.coalesce(scores)
    if conversion.scale:
        low, high = conversion.scale
        score = (score - low) / (high - low)
    frame = frame.with_columns(score=score)
    outside = ~pl.col("score").is_between(0, 1)
    if conversion.clip:
        notes.n_clipped += frame.filter(outside).height
        frame = frame.with_columns(pl.col("score").clip(0, 1))
    hint = "Say what the lowest and highest possible scores are: --scale LOW,HIGH; or clip those outside: --clip"
    _refuse(frame.filter(outside), "score", lambda row: f"{row['score']:g} is not in [0, 1]. {hint}")
    if scores:
        inside = {name: pl.when(pl.col(name).is_between(0, 1)).then(pl.col(name)) for name in scores}
        limited = frame.with_columns(**inside)
        notes.n_further_outside += sum(limited[name].null_count() - frame[name].null_count() for name in scores)
        frame = limited
    scored = frame.filter(pl.col("score").is_not_null())
    notes.n_unscored += frame.height - scored.height
    return scored


def _check_rows(frame: pl.DataFrame) -> None:
    """Check that each row has what it needs."""
    for column in ("benchmark", "item", "question", "path"):
        name = "model" if column == "path" else column
        is_empty = pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")
        _refuse(frame.filter(is_empty), name, lambda _: "it is empty")


def _refuse(wrong: pl.DataFrame, column: str, problem: Callable[[Mapping[str, Any]], str]) -> None:
    """Refuse the first of some rows, if there is one."""
    if wrong.height:
        refuse_row(wrong.row(0, named=True), column, problem(wrong.row(0, named=True)))


def refuse_row(row: Mapping[str, Any], column: str, problem: str) -> NoReturn:
    """Refuse a row.

    Raises:
        BenchmarkError: Always; the message names file, row and column.
    """
    raise BenchmarkError(f"{row['file']}, {row['place']}, column {column}: {problem}.")
