"""The metric for questions with choices: which choice does a response name, by letter or by text (pure)?"""

import re
import string
from itertools import groupby
from operator import itemgetter

from toolkit.tasks.metrics.base import Metric, Reference, Score
from toolkit.tasks.metrics.text import final_answer, normalise

_LETTER = re.compile(r"^[^\w\n]*([A-Z])(?:[.):,\]]|[^\S\n]*$)", re.MULTILINE)
_NAMED_LETTER = re.compile(r"(?:(?:[Aa]nswer|[Oo]ption|[Cc]hoice)(?:\s+is)?(?:\s*:)?\s*\(?|\()([A-Z])(?:\)|\b)(?!')")


def chosen(response: str, choices: tuple[str, ...]) -> int | None:
    """Return the position of the choice that a response names, by letter, text or both; None if it is not exactly one."""
    answer = final_answer(response)
    folded = [choice.strip().casefold() for choice in choices]
    bare_answer = answer.casefold().removesuffix(".")
    if folded.count(bare_answer) == 1:
        return folded.index(bare_answer)
    by_text = _positions_in(normalise(answer), [normalise(choice) for choice in choices])
    letters = string.ascii_uppercase[: len(choices)]
    named_letters = {*_LETTER.findall(answer), *_NAMED_LETTER.findall(answer)}
    by_letter = {letters.index(letter) for letter in named_letters if letter in letters}
    if len(by_letter) == 1:
        (position,) = by_letter
        return position if not by_text or position in by_text else None
    return next(iter(by_text)) if len(by_text) == 1 and not by_letter else None


def _positions_in(answer: str, choices: list[str]) -> set[int]:
    """Return the choices that occur in an answer as whole words, except where they only occur within a longer choice."""
    spans = {
        (match.start(), -match.end(), position)
        for position, choice in enumerate(choices)
        if choice
        for match in re.finditer(rf"(?<!\w){re.escape(choice)}(?!\w)", answer)
    }
    positions, last_end = set(), 0  # a span is within a longer one if one that began before it, or as early, ends as late
    for (_, negative_end), group in groupby(sorted(spans), key=itemgetter(0, 1)):
        if -negative_end > last_end:
            positions |= {position for _, _, position in group}
            last_end = -negative_end
    return positions


def choice_match(response: str, reference: Reference) -> Score:
    """Score 1 if the response names the right choice, and no other, by letter or by text."""
    position = chosen(response, reference.choices)
    if position is None:
        return Score(0.0, None)
    return Score(float(reference.choices[position] in reference.answers), reference.choices[position])


CHOICE_MATCH = Metric("choice_match", 3, choice_match, needs="choices")
