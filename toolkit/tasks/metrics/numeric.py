"""The metric that compares the last number of an answer exactly (pure)."""

import re
from fractions import Fraction

from toolkit.tasks.metrics.base import Metric, Reference, Score
from toolkit.tasks.metrics.text import final_answer

_NUMBER = re.compile(r"(?:(?<![\w)])[-\u2212])?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?|\.\d+)")
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_MIXED_NUMBER = re.compile(r"(?<![\d./,])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/])")
_MINUS_DOLLARS = re.compile(r"([-\u2212])\s*\$\s*")


def parse_number(text: str) -> Fraction | None:
    """Return the last number in `text` (integer, decimal or fraction, with or without thousands separators), or None."""
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    try:
        return Fraction(numbers[-1].replace(",", "").replace("\u2212", "-").replace(" ", ""))
    except ZeroDivisionError:
        return None


def numeric_match(response: str, reference: Reference) -> Score:
    r"""Score 1 if the last number of the answer exactly equals an accepted one.

    The answer is what follows `####` (GSM8K), stands in a `\boxed{}`, or follows `Answer:`; otherwise the whole response.
    """
    number = parse_number(_plain_fractions(_answer_part(response)))
    is_right = number is not None and number in {parse_number(_plain_fractions(answer)) for answer in reference.answers}
    return Score(float(is_right), None if number is None else str(number))


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


NUMERIC_MATCH = Metric("numeric_match", 2, numeric_match)
