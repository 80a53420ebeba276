"""A user's own benchmark as a table of rows: fills the prompt's columns, and reads answers and choices (pure).

Cells become text by the rules of `toolkit.tasks.values`, so CSV, JSON and Parquet of the same data give the same questions.
"""

import json
import re
import string
from collections.abc import Callable
from functools import partial
from string import Formatter
from typing import Any, NamedTuple

from toolkit.core.errors import BenchmarkError
from toolkit.core.text import separator_hint
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.tasks import Item, Record
from toolkit.tasks.formats import PlacedRecord
from toolkit.tasks.values import is_chat, text_of

_INDEXED = re.compile(r"(?P<column>[^\[]+)(?P<keys>(?:\[[^\[\]]*\])+)")


class Row(NamedTuple):
    """A row of the table, and what a message says of its place."""

    place: str
    record: Record

    def cell(self, field: str) -> Any:
        """Return the value of a column, or of an element of it: `column[0]`, `column[name]`.

        Raises:
            BenchmarkError: The row has no such column or element.
        """
        if field in self.record:
            return self.record[field]
        indexed = _INDEXED.fullmatch(field)
        if not indexed or indexed["column"] not in self.record:
            columns = [str(column) for column in self.record]
            raise BenchmarkError(
                f"{self.place} has no {field!r}; it has {', '.join(columns) or 'no columns'}.{separator_hint(columns)}"
            )
        value = self.record[indexed["column"]]
        for key in re.findall(r"\[([^\[\]]*)\]", indexed["keys"]):
            try:
                value = value[int(key)] if isinstance(value, list) and key.isdecimal() else dict(value)[key]
            except (KeyError, IndexError, TypeError, ValueError):
                raise BenchmarkError(f"{self.place} has no {field!r}.") from None
        return value

    def read(self, field: str, convert: Callable[[Any], Any]) -> Any:
        """Return a cell after a conversion.

        Raises:
            BenchmarkError: The cell is missing, or the conversion refuses its value.
        """
        value = self.cell(field)
        try:
            return convert(value)
        except (ValueError, TypeError) as error:
            raise BenchmarkError(f"{self.place}: {field!r} {error}.") from None


def read_item(entry: BenchmarkConfig, placed: PlacedRecord) -> Item:
    """Make a question of a row.

    Raises:
        BenchmarkError: A column is missing, or its value is not what the entry expects.
    """
    assert entry.prompt
    row = Row(f"Benchmark {entry.name}: {placed.place}, row {placed.number}", placed.record)
    choices = row.read(entry.choices, _choices) if entry.choices else ()
    return Item(
        id=row.read(entry.id, text_of) if entry.id else f"row-{placed.number}",
        prompt=fill(entry.prompt, row),
        answers=row.read(entry.answer, lambda value: _accepted_answers(value, choices)),
        choices=choices,
        stratum=row.read(entry.stratum, text_of) if entry.stratum else "",
    )


def fill(template: str, row: Row) -> str:
    """Replace the columns in braces by the row's cells."""
    parts = []
    for literal, field, spec, conversion in Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            convert = partial(_formatted, spec=spec, conversion=conversion) if spec or conversion else text_of
            parts.append(row.read(field, convert))
    return "".join(parts)


def _formatted(value: object, spec: str | None, conversion: str | None) -> str:
    try:
        return format(Formatter().convert_field(value, conversion), spec or "")
    except (ValueError, TypeError) as error:
        raise ValueError(f"cannot be formatted by {spec or conversion!r}: {error}") from None


def _choices(value: object) -> tuple[str, ...]:
    """Return the choices of a row: a list, which a CSV cell holds as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list | tuple):
        raise ValueError('is not a list of choices, such as ["red", "blue"]')
    return tuple(map(text_of, value))


def _accepted_answers(value: object, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the accepted answers of a row; the letter of a choice becomes the choice."""
    is_list = isinstance(value, list | tuple) and not is_chat(value)
    answers = tuple(map(text_of, value)) if isinstance(value, list | tuple) and is_list else (text_of(value),)
    if len(answers) == 1 and choices and answers[0] not in choices and len(answers[0]) == 1:
        position = string.ascii_uppercase.find(answers[0].upper())
        return (choices[position],) if 0 <= position < len(choices) else answers
    return answers
