"""What the values of each column of the long format may be, and how one value is converted. Knows nothing of files.

Text columns stay text in every kind of file; only scores, costs, tokens and samples are numbers.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache, partial
from math import inf, isfinite
from typing import Any

from toolkit.core.errors import did_you_mean
from toolkit.core.text import is_well_formed, printable
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
MAX_SHOWN = 60
"""Characters of a value that a message shows."""
HOP = " > "
"""Stands between the models of a path."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_BOOLEANS = {"true": 1.0, "false": 0.0}


def shown(value: object, longest: int = MAX_SHOWN) -> str:
    """Return a value as a message shows it: escaped, and shortened."""
    text = printable(value if isinstance(value, str) else repr(value)).replace("\n", "\\n")
    return f"{text[:longest]} ..." if len(text) > longest else text


def to_text(value: object) -> str:
    """Return a text as it is; an integer has only one spelling, and other numbers have several.

    Raises:
        ValueError: It is neither.
    """
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
    return _checked_name(to_text(value))


_checked_name = lru_cache(check_name)


def _question(value: object) -> str:
    if not isinstance(value, list):
        return to_text(value)
    try:
        return to_text(render_chat(value))
    except ValueError as error:
        raise ValueError(f"it {error}") from None


def _path(value: object) -> str:
    names = value if isinstance(value, list) else [name.strip() for name in to_text(value).split(">")]
    return HOP.join(map(_name, names))


def _split(value: object) -> Split:
    word = to_text(value).strip().lower()
    if word not in SPLITS:
        raise ValueError(f"there is no split {shown(word)}; {did_you_mean(word, SPLITS)}")
    return SPLITS[word]


def to_number(value: object) -> float | None:
    """Return a finite number; a text that is a number counts as one, and blank text is missing.

    Raises:
        ValueError: It is no finite number.
    """
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, str):
        if not value.strip():
            return None
        if not _NUMBER.fullmatch(value.strip()):
            raise ValueError(f"{shown(value)} is not a number")
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


def to_score(value: object) -> float | None:
    """Return a score: a number, or true or false.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    return to_number(value)


def _cost(value: object) -> float | None:
    cost = to_number(value)
    if cost is not None and not 0 <= cost <= MAX_COST:
        raise ValueError(f"{cost:g} is not a cost: it is negative, or above {MAX_COST:g}")
    return cost


def _count(value: object, largest: int, what: str) -> int | None:
    number = to_number(value)
    if number is None:
        return None
    if number != int(number) or not 0 <= number <= largest:
        raise ValueError(f"{number:.12g} is not {what}: a whole number from 0 to {largest}")
    return int(number)


TEXT_COLUMNS: Mapping[str, Callable[[Any], str]] = {
    **dict.fromkeys(("item", "response", "reference"), to_text),
    **dict.fromkeys(("benchmark", "model"), _name),
    "question": _question,
    "path": _path,
    "split": _split,
}
"""How a value of each column of text is converted."""
NUMBER_COLUMNS: Mapping[str, Callable[[Any], float | int | None]] = {
    **dict.fromkeys(("prompt_tokens", "completion_tokens"), partial(_count, largest=MAX_TOKENS, what="a number of tokens")),
    "sample": partial(_count, largest=MAX_SAMPLES - 1, what="the number of a sample"),
    "cost": _cost,
    "score": to_score,
}
"""How a value of each column of numbers is converted."""
COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)
"""The columns of the long format, those of further scores apart."""
