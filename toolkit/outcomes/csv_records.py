"""CSV as RFC 4180 writes it, line by line, strictly: what cannot be read without a guess is refused.

The library's module `csv` cannot tell an empty field, which is missing, from `""`, which is an empty text.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from toolkit.core.errors import BenchmarkError

_FIELD = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|((?!\r?\n)[^",][^,\n]*?)?)(,|\r?\n|\Z)')
"""A field of CSV, quoted or plain, and what ends it."""
_OPEN = re.compile(r'"[^"]*(?:""[^"]*)*\Z')
"""The beginning of a quoted field that ends on a later line."""

_Line = tuple[int, str]


def csv_records(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str | None]]]:
    """Yield the line and the fields of each record; blank lines are left out, and a field is None if it is missing.

    Args:
        path: The file, for messages.
        lines: Its lines, each with its line feed.

    Raises:
        BenchmarkError: The quotation marks of a field do not match.
    """
    numbered = enumerate(lines, 1)
    for number, line in numbered:
        if '"' in line:
            yield number, _quoted_record(path, number, line, numbered)
        elif plain := line.removesuffix("\n").removesuffix("\r"):
            yield number, [field or None for field in plain.split(",")]


def _quoted_record(path: Path, number: int, record: str, following: Iterator[_Line]) -> list[str | None]:
    """Return the fields of a record with quoted fields, which may take some of the following lines."""
    fields: list[str | None] = []
    position = 0
    while True:
        match = _FIELD.match(record, position)
        if match:
            quoted, plain, end = match.groups()
            fields.append(plain if quoted is None else quoted.replace('""', '"'))
            position = match.end()
            if end != ",":
                return fields
        elif _OPEN.match(record, position) and (rest := _lines_to_a_quote(following)):
            record, position = record[position:] + rest, 0
        else:
            raise BenchmarkError(
                f"{path}, line {number} has a field whose quotation marks do not match. A field is quoted whole, and a "
                'quotation mark in it is written twice: "He said ""no""."'
            )


def _lines_to_a_quote(following: Iterator[_Line]) -> str:
    """Return the following lines up to the first with a quotation mark; empty if none has one."""
    lines = []
    for _, line in following:
        lines.append(line)
        if '"' in line:
            return "".join(lines)
    return ""
