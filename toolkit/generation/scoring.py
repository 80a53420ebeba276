"""Scores responses by metrics, model-written code many programs at a time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from toolkit.core.hashing import canonical_json, text_key
from toolkit.suites.config import SuiteConfig
from toolkit.suites.suite import Question, metrics_of
from toolkit.tasks import sandbox
from toolkit.tasks.metrics import METRICS, Metric, Score, judged, program
from toolkit.tasks.sandbox import run_all

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
    pairs = [(one, one.question.reference.tests if one.metric.runs_code else None) for one in scorings]
    programs = [(program(one.response, tests), tests) for one, tests in pairs if tests]
    verdicts = run_all(programs, mode)  # while they run, the other metrics are worked out
    given = [None if tests else one.metric.score(one.response, one.question.reference) for one, tests in pairs]
    judgements = (judged(code, verdict) for (code, _), verdict in zip(programs, verdicts, strict=True))
    return [_row(one, known or next(judgements)) for one, known in zip(scorings, given, strict=True)]


def _row(one: Scoring, given: Score) -> Row:
    return {
        "question": one.question.key,
        "text": text_key(one.response),
        "metric": one.metric.label,
        "value": given.value,
        "detail": canonical_json({"extracted": given.extracted} | given.detail),
    }
