"""Metrics: one response against one reference, a value in [0, 1] (pure).

A metric has a version: change what it returns for any input and the version goes up, so that cached scores of
the old one stay what they are. Normalisation follows the SQuAD v1.1 evaluation script.
"""

import re
import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Reference:
    """What a response is compared with.

    Attributes:
        answers: Accepted answers, any of which counts. For choices, the text of the right one.
        choices: All choices in the order shown (A, B, ...); empty where there are none.
    """

    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """The value of one metric for one response, in [0, 1], and what was read out of the response."""

    value: float
    extracted: str | None


@dataclass(frozen=True)
class Metric:
    """A named, versioned scorer."""

    name: str
    version: int
    score: Callable[[str, Reference], Score]

    @property
    def label(self) -> str:
        """Name and version as kept beside every score, e.g. `token_f1@1`."""
        return f"{self.name}@{self.version}"


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MARKER = re.compile(r"(?:final answer|answer)\s*(?:is)?\s*[:=]\s*", re.IGNORECASE)
_NUMBER = re.compile(r"(?:(?<![\w)])[-\u2212])?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?|\.\d+)")
_LETTER = re.compile(r"^\W*([A-Z])(?:[.):,\]]|\s*(?:\n|$))")


def normalise(text: str) -> str:
    """Lower-case, drop punctuation and English articles, and collapse white space (SQuAD v1.1)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def final_answer(response: str) -> str:
    """Return what follows the last `Answer:` on its line, or the whole response where there is no such mark."""
    marks = list(_MARKER.finditer(response))
    if not marks:
        return response.strip()
    rest = response[marks[-1].end() :].strip()
    return rest.splitlines()[0].strip() if rest else ""


def _token_f1(prediction: str, answer: str) -> float:
    predicted, expected = normalise(prediction).split(), normalise(answer).split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * shared / (len(predicted) + len(expected))


def token_f1(response: str, reference: Reference) -> Score:
    """Score the overlap of words with the closest accepted answer (SQuAD F1)."""
    prediction = final_answer(response)
    return Score(max(_token_f1(prediction, answer) for answer in reference.answers), prediction)


def exact_match(response: str, reference: Reference) -> Score:
    """Score 1 where the normalised response equals a normalised accepted answer (SQuAD EM)."""
    prediction = final_answer(response)
    return Score(float(normalise(prediction) in {normalise(answer) for answer in reference.answers}), prediction)


def parse_number(text: str) -> Fraction | None:
    """Return the last number in `text`: integer, decimal or fraction, thousands separators allowed; else None."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    try:
        return Fraction(found[-1].replace(",", "").replace("\u2212", "-").replace(" ", ""))
    except ZeroDivisionError:
        return None


def numeric_match(response: str, reference: Reference) -> Score:
    """Score 1 where the last number of the answer equals an accepted one exactly."""
    number = parse_number(final_answer(response))
    hit = number is not None and number in {parse_number(answer) for answer in reference.answers}
    return Score(float(hit), None if number is None else str(number))


def chosen(response: str, choices: tuple[str, ...]) -> int | None:
    """Return the position of the one choice that a response names, by letter or by text; None if none or several."""
    answer = final_answer(response)
    letters = string.ascii_uppercase[: len(choices)]
    by_text = [
        position
        for position, choice in enumerate(choices)
        if re.search(rf"\b{re.escape(normalise(choice))}\b", normalise(answer))
    ]
    found = _LETTER.match(answer)
    if found and found[1] in letters:
        position = letters.index(found[1])
        if by_text and position not in by_text:
            return None
        return position
    return by_text[0] if len(by_text) == 1 else None


def choice_match(response: str, reference: Reference) -> Score:
    """Score 1 where the response names the right choice, and only that, by letter or by text."""
    position = chosen(response, reference.choices)
    if position is None:
        return Score(0.0, None)
    return Score(float(reference.choices[position] in reference.answers), reference.choices[position])


METRICS = {
    metric.name: metric
    for metric in (
        Metric("token_f1", 1, token_f1),
        Metric("exact_match", 1, exact_match),
        Metric("numeric_match", 1, numeric_match),
        Metric("choice_match", 1, choice_match),
    )
}
