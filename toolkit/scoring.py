"""Scores responses by metrics, model-written code many programs at a time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from toolkit import sandbox
from toolkit.config import SuiteConfig
from toolkit.keys import canonical_json, text_key
from toolkit.metrics import METRICS, Metric, Score, judged, program
from toolkit.sandbox import run_all
from toolkit.suite import Question, metrics_of

Row = Mapping[str, Any]


def check(config: SuiteConfig, questions: Iterable[Question]) -> None:
    """Make sure, before anything is generated, that what has to be run may be run.

    Raises:
        SandboxError: A metric runs code, and that is off or cannot be isolated.
    """
    if any(METRICS[name].runs_code for question in questions for name in metrics_of(question, config)):
        sandbox.check(config.code.sandbox)


class Scoring(NamedTuple):
    """One response to score by one metric."""

    question: Question
    response: str
    metric: Metric


def scorings(pairs: Iterable[tuple[Question, str]], config: SuiteConfig) -> list[Scoring]:
    """Return what is to be scored of responses: all that the suite says."""
    return [Scoring(question, response, METRICS[name]) for question, response in pairs for name in metrics_of(question, config)]


def score(scorings: Sequence[Scoring], mode: sandbox.Mode) -> list[Row]:
    """Score responses; returns rows of the table `scores`, in the order given.

    Raises:
        SandboxError: A metric runs code, and that is off or cannot be isolated.
    """
    programs = [
        (program(one.response, one.question.reference.tests), one.question.reference.tests)
        for one in scorings
        if one.metric.runs_code and one.question.reference.tests
    ]
    verdicts = iter(zip(programs, run_all(programs, mode), strict=True))
    rows = []
    for one in scorings:
        if one.metric.runs_code and one.question.reference.tests:
            (code, _), verdict = next(verdicts)
            given = judged(code, verdict)
        else:
            given = one.metric.score(one.response, one.question.reference)
        rows.append(_row(one, given))
    return rows


def _row(one: Scoring, given: Score) -> Row:
    return {
        "question": one.question.key,
        "text": text_key(one.response),
        "metric": one.metric.label,
        "value": given.value,
        "detail": canonical_json({"extracted": given.extracted} | given.detail),
    }
