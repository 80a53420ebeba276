"""Compares what a page shows with what its code prints, and renews what it shows.

A shown line `...` stands for any lines, and `...` in a line for anything in it. Widths of spaces and of dashes do not count.
Numbers must be equal. After a router was trained, those with decimals may differ by `TOLERANCE`, because the last bits of
floating-point results, and with them a trained router, depend on the processor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import partial
from typing import NamedTuple, TypeVar

TOLERANCE = 0.03
"""Largest difference between numbers with decimals, once a router was trained."""

ELISION = "..."
T = TypeVar("T")
TOKEN = re.compile(
    r"(?P<elision>\.\.\.)|(?P<number>(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+(?:e[+-]\d+)?)?|\d+(?:\.\d+)?)"
    r"|(?P<spaces>\s+)|(?P<rule>-{3,}|─{3,})|(?P<word>[^\W\d]+)|(?P<sign>.)"
)


class Token(NamedTuple):
    """A piece of a line: its text, and the name of the group of `TOKEN` that it is."""

    text: str
    kind: str

    @property
    def number(self) -> float:
        """Its value, if it is a number."""
        return float(self.text.replace(",", ""))


Equal = Callable[[Token, Token], bool]


def tokens(line: str) -> list[Token]:
    """Split a line."""
    return [Token(match[0], str(match.lastgroup)) for match in TOKEN.finditer(line.rstrip())]


def equal(shown: Token, printed: Token, tolerance: float = 0.0) -> bool:
    """Return whether a shown token stands for a printed one."""
    if shown.kind != printed.kind:
        return False
    if shown.kind in ("spaces", "rule"):
        return True
    if shown.kind == "number" and tolerance and "." in shown.text + printed.text:
        return abs(shown.number - printed.number) <= tolerance + 1e-9
    return shown.text == printed.text


def same_shape(shown: Token, printed: Token) -> bool:
    """Return whether two tokens differ in nothing but the value of a number."""
    return shown.kind == printed.kind == "number" or equal(shown, printed)


def align(
    shown: Sequence[T], printed: Sequence[T], is_elision: Callable[[T], bool], same: Callable[[T, T], bool]
) -> list[slice] | None:
    """Return what each shown item stands for in what is printed, or None if they do not match."""
    reached: list[dict[int, int]] = [{0: 0}]  # after each shown item: the ends that can be reached, and from where
    for item in shown:
        ends: dict[int, int] = {}
        for start in reached[-1]:
            if is_elision(item):
                ends |= {end: start for end in range(start, len(printed) + 1) if end not in ends}
            elif start < len(printed) and same(item, printed[start]):
                ends.setdefault(start + 1, start)
        reached.append(ends)
    end, parts = len(printed), []
    if end not in reached[-1]:
        return None
    for ends in reversed(reached[1:]):
        parts.append(slice(ends[end], end))
        end = ends[end]
    return parts[::-1]


def align_line(shown: str, printed: str, same: Equal) -> list[slice] | None:
    """Align the tokens of two lines."""
    return align(tokens(shown), tokens(printed), lambda token: token.kind == "elision", same)


def align_lines(shown: Sequence[str], printed: Sequence[str], same: Equal) -> list[slice] | None:
    """Align two outputs."""
    return align(
        shown, printed, lambda line: line.strip() == ELISION, lambda a, b: a == b or align_line(a, b, same) is not None
    )


def matches(shown: Sequence[str], printed: Sequence[str], after_training: bool) -> bool:
    """Return whether a page shows what is printed."""
    return align_lines(shown, printed, partial(equal, tolerance=TOLERANCE * after_training)) is not None


def elided_line(shown: str, printed: str) -> str:
    """Return a printed line with the elisions of a shown line of the same shape."""
    parts = align_line(shown, printed, same_shape) if ELISION in shown else None
    if parts is None:
        return printed
    pieces = tokens(printed)
    shown_pieces = zip(tokens(shown), parts, strict=True)
    return "".join(
        ELISION if token.kind == "elision" else "".join(piece.text for piece in pieces[part]) for token, part in shown_pieces
    )


def elided(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """Return printed lines with the elisions of what was shown.

    Where lines have another shape than those that were shown, as many lines of the beginning and of the end are left.
    """
    if (parts := align_lines(shown, printed, same_shape)) is not None:
        return [
            shown_line if shown_line.strip() == ELISION else elided_line(shown_line, printed[part][0])
            for shown_line, part in zip(shown, parts, strict=True)
        ]
    lines: list[str] = []
    matcher = SequenceMatcher(a=[*map(shape, shown)], b=[*map(shape, printed)], autojunk=False)
    for _, start, end, printed_start, printed_end in matcher.get_opcodes():
        lines += shortened(shown[start:end], printed[printed_start:printed_end])
    return lines


def shape(line: str) -> str:
    """Return a line without its numbers and widths."""
    return "".join({"number": "0", "spaces": " ", "rule": "---"}.get(token.kind, token.text) for token in tokens(line))


def shortened(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """Return printed lines, of which the first elision of what was shown leaves out what is between beginning and end."""
    gaps = [number for number, line in enumerate(shown) if line.strip() == ELISION]
    head, tail = (gaps[0], len(shown) - gaps[-1] - 1) if gaps else (len(printed), 0)
    if not gaps or head + tail >= len(printed):
        return [elided_line(*pair) for pair in zip(shown, printed, strict=False)] + list(printed[len(shown) :])
    first = [elided_line(*pair) for pair in zip(shown[:head], printed[:head], strict=True)]
    last = [elided_line(*pair) for pair in zip(shown[len(shown) - tail :], printed[len(printed) - tail :], strict=True)]
    return [*first, shown[gaps[0]], *last]
