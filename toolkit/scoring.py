"""Scores responses by all the metrics that a suite caches, model-written code many programs at a time."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


def score(pairs: Sequence[tuple[Question, str]], config: SuiteConfig) -> list[Row]:
    """Score responses; returns rows of the table `scores`, in the order of the pairs."""
    jobs = [(question, response, METRICS[name]) for question, response in pairs for name in metrics_of(question, config)]
    programs = [
        (program(response, question.reference.tests), question.reference.tests)
        for question, response, metric in jobs
        if metric.runs_code and question.reference.tests
    ]
    verdicts = iter(zip(programs, run_all(programs, config.code.sandbox), strict=True))
    rows = []
    for question, response, metric in jobs:
        if metric.runs_code and question.reference.tests:
            (code, _), verdict = next(verdicts)
            given = judged(code, verdict)
        else:
            given = metric.score(response, question.reference)
        rows.append(_row(question, response, metric, given))
    return rows


def _row(question: Question, response: str, metric: Metric, given: Score) -> Row:
    return {
        "question": question.key,
        "text": text_key(response),
        "metric": metric.label,
        "value": given.value,
        "detail": canonical_json({"extracted": given.extracted} | given.detail),
    }
