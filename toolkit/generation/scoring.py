"""Scores responses by metrics; programs that models wrote run several at a time."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from toolkit.core.hashing import canonical_json, text_key
from toolkit.engines import FILTERED
from toolkit.store import Row
from toolkit.suites.config import SuiteConfig
from toolkit.suites.resolving import metrics_of
from toolkit.suites.suite import Question
from toolkit.tasks import sandbox
from toolkit.tasks.metrics import METRICS, Metric, Reference, Score
from toolkit.tasks.metrics.code import judged, program


class Scoring(NamedTuple):
    """A response to score by one metric."""

    question: Question
    response: str
    metric: Metric

    @property
    def tests(self) -> sandbox.Checks | None:
        """The tests to run the response against, if the metric runs code and the question has tests."""
        return self.question.reference.tests if self.metric.runs_code and self.response != FILTERED else None


def check_sandbox(config: SuiteConfig, questions: Iterable[Question]) -> None:
    """Check, before anything is generated, that the code that a suite's metrics run may be run.

    Raises:
        SandboxError: A metric runs code, and running code is off or the code cannot be isolated.
    """
    if any(METRICS[name].runs_code for question in questions for name in metrics_of(question, config)):
        sandbox.check(config.code.sandbox)


def scorings(responses: Iterable[tuple[Question, str]], config: SuiteConfig) -> list[Scoring]:
    """Pair responses with all metrics that the suite scores them by."""
    return [
        Scoring(question=question, response=response, metric=METRICS[name])
        for question, response in responses
        for name in metrics_of(question, config)
    ]


def score(scorings: Sequence[Scoring], mode: sandbox.Mode) -> list[Row]:
    """Score responses; returns rows of the table `scores`, in the order of the scorings.

    Raises:
        SandboxError: A metric runs code, and running code is off or the code cannot be isolated.
    """
    programs = [(program(scoring.response, scoring.tests), scoring.tests) for scoring in scorings if scoring.tests]
    verdicts = sandbox.run_all(programs, mode)  # they run while the other metrics are computed
    scores = [
        None if scoring.tests else apply(scoring.metric, scoring.response, scoring.question.reference) for scoring in scorings
    ]
    code_scores = (judged(code, verdict) for (code, _), verdict in zip(programs, verdicts, strict=True))
    return [_row(scoring, score or next(code_scores)) for scoring, score in zip(scorings, scores, strict=True)]


def apply(metric: Metric, response: str, reference: Reference) -> Score:
    """Score a response; one that a content filter withheld scores 0, whatever the metric."""
    return Score(value=0.0, extracted=None) if response == FILTERED else metric.score(response, reference)


def _row(scoring: Scoring, score: Score) -> Row:
    return {
        "question": scoring.question.key,
        "text": text_key(scoring.response),
        "metric": scoring.metric.label,
        "value": score.value,
        "detail": canonical_json({"extracted": score.extracted} | score.detail),
    }
