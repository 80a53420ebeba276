"""Made-up questions, and the responses of files as a plain reader gives them: for recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

MODELS = ("acme/small 7b", "large-v1", "third:13b")
BENCHMARKS = ("arith", "words")
VERBS = ("Add", "Subtract", "Spell", "Translate", "Rhyme")
MISSING_SHARE = 0.12


class Cell(NamedTuple):
    """A response as a file has it: its cost in the units of the file, or else its tokens or its text."""

    benchmark: str
    item: str
    model: str
    score: float
    cost: float | None = None
    tokens: tuple[int, int] | None = None
    response: str | None = None
    sample: int = 0
    split: str | None = None


class Question(NamedTuple):
    """A made-up question with the score, the tokens and the response of each model; a score is None if it was not asked."""

    number: int
    benchmark: str
    text: str
    scores: dict[str, float | None]
    tokens: dict[str, tuple[int, int]]
    responses: dict[str, str]


def questions(count: int = 70, *, is_binary: bool = True) -> list[Question]:
    """Make questions, the first of which every model was asked."""
    random = Random(7)
    made = []
    for number in range(count):
        verb = VERBS[random.randrange(len(VERBS))]
        is_missing = {model: number > 0 and random.random() < MISSING_SHARE for model in MODELS}
        scores = {model: float(random.random() < 0.6) if is_binary else round(random.random(), 6) for model in MODELS}
        made.append(
            Question(
                number=number,
                benchmark=BENCHMARKS[number % 2],
                text=f"{verb} the numbers in exercise {number * number + 17}, please.",
                scores={model: None if is_missing[model] else scores[model] for model in MODELS},
                tokens={model: (20 + number % 7, random.randrange(5, 60)) for model in MODELS},
                responses={model: f"{number} " + "so " * random.randrange(30) for model in MODELS},
            )
        )
    return made


def asked(model: str, made: list[Question]) -> Iterator[Question]:
    """Yield the questions that a model was asked."""
    return (question for question in made if question.scores[model] is not None)


def price(question: Question, model: str) -> float:
    """Return a cost in money."""
    return sum(question.tokens[model]) * 1e-6 * (1 + MODELS.index(model))


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False), "utf-8")


def lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
