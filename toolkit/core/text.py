"""Text from outside: what can be stored as UTF-8, and what can be printed on a terminal.

Files and the cache keep text as it is; only `printable` changes it, and only for display.
"""

import re
from collections.abc import Iterable

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters other than tab and newline, direction overrides, line separators and lone surrogates."""


def well_formed(text: str) -> str:
    """Replace each lone surrogate by U+FFFD, as a decoder does; text that UTF-8 can express stays as it is."""
    return _SURROGATE.sub("\ufffd", text)


def is_well_formed(text: str) -> bool:
    """Return whether UTF-8 can express the text, so that DuckDB, Arrow and a tokenizer can take it."""
    return _SURROGATE.search(text) is None


def separator_hint(columns: Iterable[str]) -> str:
    """Return what to do about a table whose only column is a whole header; empty for every other table."""
    names = list(columns)
    separators = [name for mark, name in _SEPARATORS.items() if len(names) == 1 and mark in names[0]]
    return f" Its columns seem to be separated by {separators[0]}: save the file with commas." if separators else ""


def printable(text: str) -> str:
    r"""Escape what a terminal obeys, or what hides text: `\x1b` for ESC, `\u202e` for a direction override."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
