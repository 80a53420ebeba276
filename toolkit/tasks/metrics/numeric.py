"""The metric that compares the last number of an answer exactly (pure)."""

import re
import unicodedata
from collections import deque
from fractions import Fraction

from toolkit.tasks.metrics.base import Metric, Reference, Score
from toolkit.tasks.metrics.text import final_answer

MAX_DIGITS = 1000
"""Longer decimals are compared digit by digit; fractions with longer numerators or denominators are not read."""
MAX_EXPONENT_DIGITS = 9
"""Powers of ten with longer exponents are not read."""

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)])[-\u2212])?(?P<decimal>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:[eE](?P<exponent>[-+\u2212]?\d+)(?!\w|\.\d)"
    r"|\s*(?:\\times|\\cdot|[*x\u00b7\u00d7])\s*10\s*(?:\^|\*\*)\s*\{?\s*(?P<power>[-+\u2212]?\d+))?"
    r"(?:\s*/\s*(?P<denominator>\d+))?"
)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_MIXED_NUMBER = re.compile(r"(?<![\d./,])(\d{1,400})\s+(\d{1,400})\s*/\s*(\d{1,400})(?![\d/])")
_MINUS_DOLLARS = re.compile(r"([-\u2212])\s*\$\s*")

Number = Fraction | tuple[str, int]
"""An exact value; a decimal longer than `MAX_DIGITS` as its significant digits, with the sign, and the power of ten."""


def parse_number(text: str) -> Number | None:
    """Return the last number in `text`, or None: an integer, decimal or fraction, with separators or a power of ten."""
    last = deque(_NUMBER.finditer(text), maxlen=1)
    if not last:
        return None
    (match,) = last
    whole, _, decimals = _ascii_digits(match["decimal"]).replace(",", "").partition(".")
    exponent = _ascii_digits(match["exponent"] or match["power"] or "0")
    if len(exponent.lstrip("-+0")) > MAX_EXPONENT_DIGITS:
        return None
    digits = f"{whole}{decimals}".lstrip("0")
    significant = digits.rstrip("0")
    power = int(exponent) - len(decimals) + len(digits) - len(significant)
    return _number("-" if match["sign"] else "", significant, power, _ascii_digits(match["denominator"] or "1"))


def _number(sign: str, digits: str, power: int, denominator: str) -> Number | None:
    """Return `digits` times 10 to the `power`, divided by the denominator; None if that is not defined or too long."""
    divisor = denominator.lstrip("0")
    if not digits or not divisor:
        return Fraction(0) if divisor else None
    if len(digits) + abs(power) <= MAX_DIGITS >= len(divisor):
        return Fraction(int(sign + digits)) * Fraction(10) ** power / int(divisor)
    return (sign + digits, power) if divisor == "1" else None


def _ascii_digits(text: str) -> str:
    """Write the digits of other scripts, and the minus sign, in ASCII."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(char, char)) for char in text.replace("\u2212", "-"))


def numeric_match(response: str, reference: Reference) -> Score:
    r"""Score 1 if the last number of the answer exactly equals an accepted one.

    The answer is what follows `####` (GSM8K), stands in a `\boxed{}`, or follows `Answer:`; otherwise the whole response.
    """
    number = parse_number(_plain_fractions(_answer_part(response)))
    is_right = number is not None and number in {parse_number(_plain_fractions(answer)) for answer in reference.answers}
    return Score(float(is_right), _text(number))


def _text(number: Number | None) -> str | None:
    return "{}e{}".format(*number) if isinstance(number, tuple) else None if number is None else str(number)


def _answer_part(response: str) -> str:
    _, mark, rest = response.rpartition("####")
    if mark and parse_number(rest.strip().partition("\n")[0]) is not None:
        return rest.strip().partition("\n")[0]
    boxes = _BOXED.findall(response)
    return boxes[-1] if boxes else final_answer(response)


def _plain_fractions(text: str) -> str:
    """Write LaTeX fractions and thousands separators as plain text; the mixed number `1 1/2` becomes one fraction."""
    text = _LATEX_FRACTION.sub(r"\1/\2", text).replace("{,}", ",").replace("\\!", "").replace("\\,", "").replace("\\$", "$")
    return _MIXED_NUMBER.sub(_as_one_fraction, _MINUS_DOLLARS.sub(r"\1", text))


def _as_one_fraction(mixed: re.Match[str]) -> str:
    whole, numerator, denominator = map(int, mixed.groups())
    return f"{whole * denominator + numerator}/{mixed[3]}" if denominator else mixed[0]


NUMERIC_MATCH = Metric("numeric_match", 3, numeric_match)
