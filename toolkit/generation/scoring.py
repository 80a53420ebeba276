"""Scores responses by metrics, in a process of its own; programs that models wrote run several at a time."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from toolkit.core.calls import Outcome, call_each, portable
from toolkit.core.errors import MetricError
from toolkit.core.hashing import canonical_json, text_key
from toolkit.core.text import well_formed
from toolkit.store import Row
from toolkit.suites.config import SuiteConfig
from toolkit.suites.resolving import metrics_of
from toolkit.suites.suite import Question
from toolkit.tasks import sandbox
from toolkit.tasks.metrics import FILTERED, METRICS, Metric, Score, checked_score
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


class MetricFailure(NamedTuple):
    """A metric that raised an exception, or returned something that is not a score: the response has no score."""

    scoring: Scoring
    reason: str


def check_sandbox(config: SuiteConfig, questions: Iterable[Question]) -> None:
    """Check, before anything is generated, that the code that a suite's metrics run may be run.

    Raises:
        SandboxError: A metric runs code, and running code is off or the code cannot be isolated.
    """
    if any(METRICS[name].runs_code for question in questions for name in metrics_of(question, config)):
        sandbox.check(config.code.sandbox)


def check_metrics(config: SuiteConfig, questions: Iterable[Question]) -> None:
    """Check, before anything is generated, that metrics from outside the toolkit can score a question's own reference.

    Raises:
        MetricError: One cannot, or cannot be run in another process.
    """
    first = {name: question for question in reversed(list(questions)) for name in metrics_of(question, config)}
    scorings = [
        Scoring(question=question, response="".join(question.reference.answers[:1]), metric=METRICS[name])
        for name, question in first.items()
        if not METRICS[name].runs_code and not METRICS[name].is_own
    ]
    for failure in score_each(scorings, "off"):
        if isinstance(failure, MetricFailure):
            raise MetricError(
                f"Metric {failure.scoring.metric.name} cannot score the reference answer of question "
                f"{failure.scoring.question.item} of {failure.scoring.question.benchmark}: {failure.reason}. Nothing has been "
                "generated. Correct the metric, and repeat the command."
            )


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
        MetricError: A metric failed.
        SandboxError: A metric runs code, and running code is off or the code cannot be isolated.
    """
    scores = score_each(scorings, mode)
    raise_failures([score for score in scores if isinstance(score, MetricFailure)])
    return score_rows(scorings, scores)


def score_each(scorings: Sequence[Scoring], mode: sandbox.Mode) -> list[Score | MetricFailure]:
    """Score responses, each within the limits of `toolkit.core.calls`; one that exceeds them scores 0, and its detail says so.

    Raises:
        MetricError: A metric cannot be run in another process.
        SandboxError: A metric runs code, and running code is off or the code cannot be isolated.
    """
    programs = [(scoring, scoring.tests) for scoring in scorings if scoring.tests]
    outcomes = list(call_each((program, (scoring.response, tests)) for scoring, tests in programs))
    code = [
        (str(outcome.value), tests)
        for outcome, (_, tests) in zip(outcomes, programs, strict=True)
        if outcome.kind == "returned"
    ]
    verdicts = sandbox.run_all(code, mode)  # they run while the other metrics are computed
    scores = iter(list(_scores([scoring for scoring in scorings if not scoring.tests])))
    judgements = (judged(text, verdict) for (text, _), verdict in zip(code, verdicts, strict=True))
    program_scores = (next(judgements) if outcome.kind == "returned" else _without_score(outcome) for outcome in outcomes)
    return [next(program_scores) if scoring.tests else next(scores) for scoring in scorings]


def _scores(scorings: Sequence[Scoring]) -> Iterator[Score | MetricFailure]:
    """Score responses by metrics that run no code."""
    scorers = {scoring.metric: partial(checked_score, scoring.metric.score) for scoring in scorings}
    for metric, scorer in scorers.items():
        try:
            portable(scorer)
        except TypeError as error:
            raise MetricError(
                f"Metric {metric.name} cannot be run in a process of its own, which every metric is, so that no response can "
                f"hang the toolkit: {error}. Create that object within the function, or put the metric into a package."
            ) from None
    calls = ((scorers[scoring.metric], (scoring.response, scoring.question.reference)) for scoring in scorings)
    for scoring, outcome in zip(scorings, call_each(calls), strict=True):
        if outcome.kind == "raised":
            yield MetricFailure(scoring, outcome.reason)
        else:
            yield outcome.value if outcome.kind == "returned" else _without_score(outcome)


def _without_score(outcome: Outcome) -> Score:
    """Return the score of a response that could not be scored, or whose program could not be read."""
    return Score(0.0, None, {"verdict": outcome.kind, "reason": f"the response could not be scored: {outcome.reason}"})


def score_rows(scorings: Sequence[Scoring], scores: Sequence[Score | MetricFailure]) -> list[Row]:
    """Return the rows of the table `scores`; failures have none."""
    return [_row(scoring, score) for scoring, score in zip(scorings, scores, strict=True) if isinstance(score, Score)]


def raise_failures(failures: Sequence[MetricFailure]) -> None:
    """Raise an error that describes failures of metrics, if there are any.

    Raises:
        MetricError: There are.
    """
    if failures:
        (question, _, metric), reason = failures[0]
        count = sum(failure.scoring.metric == metric for failure in failures)
        raise MetricError(
            f"Metric {metric.name} failed on {count} response{'s' * (count > 1)}, first on one to question {question.item} "
            f"of {question.benchmark}: {reason}. Such a response has no score by this metric; everything else is kept. Correct "
            "the metric and repeat the command, which scores what has no score yet."
        )


def _row(scoring: Scoring, score: Score) -> Row:
    return {
        "question": scoring.question.key,
        "text": text_key(scoring.response),
        "metric": scoring.metric.label,
        "value": score.value,
        "detail": well_formed(canonical_json({"extracted": score.extracted} | score.detail)),
    }
