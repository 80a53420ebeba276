"""Where the keys of a TOML text are (pure): `tomllib` forgets the lines, and a message about a key should name its line."""

import re
from collections import Counter

Loc = tuple[int | str, ...]
"""Where a field is: names of tables and fields, and positions in arrays of tables."""

_PART = r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'"""
_KEY = re.compile(rf"\s*(?P<key>(?:{_PART})(?:\s*\.\s*(?:{_PART}))*)\s*=")
_HEADER = re.compile(rf"\s*(?P<open>\[\[?)\s*(?P<key>(?:{_PART})(?:\s*\.\s*(?:{_PART}))*)\s*\]")
_STRING_OR_BRACKET = re.compile(
    r"""(?P<long>\"{3}|'{3})|(?P<text>"(?:[^"\\]|\\.)*"|'[^']*')|(?P<comment>\#)|(?P<opened>[\[{])|(?P<closed>[\]}])"""
)


class _Value:
    """What a line ends within: a string of several lines, or brackets that are still open."""

    def __init__(self) -> None:
        self.quotes = ""
        self.depth = 0

    @property
    def is_open(self) -> bool:
        return bool(self.quotes) or self.depth > 0

    def read(self, text: str) -> None:
        """Follow quotes and brackets to the end of a line."""
        position = 0
        while position < len(text):
            if self.quotes:
                end = text.find(self.quotes, position)
                if end < 0:
                    return
                position, self.quotes = end + 3, ""
                continue
            token = _STRING_OR_BRACKET.search(text, position)
            if not token or token["comment"]:
                return
            self.quotes = token["long"] or ""
            self.depth += bool(token["opened"]) - bool(token["closed"])
            position = token.end()


def line_of(text: str, loc: Loc) -> int | None:
    """Return the line of a key, or of the innermost table around it that is written there; None if there is none."""
    lines = _lines(text)
    return next((lines[loc[:length]] for length in range(len(loc), 0, -1) if loc[:length] in lines), None)


def _lines(text: str) -> dict[Loc, int]:
    """Return the line of every key and table of a valid TOML text."""
    lines: dict[Loc, int] = {}
    n_tables: Counter[Loc] = Counter()
    table: Loc = ()
    value = _Value()
    for number, line in enumerate(text.split("\n"), 1):
        if value.is_open:
            value.read(line)
        elif header := _HEADER.match(line):
            table = ()
            parts = _parts(header["key"])
            for part in parts[:-1]:
                table = (*table, part)
                table = (*table, n_tables[table] - 1) if n_tables[table] else table
            table = (*table, parts[-1])
            if header["open"] == "[[":
                n_tables[table] += 1
                lines.setdefault(table, number)
                table = (*table, n_tables[table] - 1)
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            parts = _parts(key["key"])
            for length in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:length]), number)
            value.read(line[key.end() :])
    return lines


def _parts(key: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(_PART, key)]
