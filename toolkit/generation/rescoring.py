"""Scores what is cached: further metrics, or newer versions of the same, over the responses of a suite. Needs no model."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from toolkit.core.errors import SuiteError
from toolkit.core.progress import NoProgress, Progress
from toolkit.generation.scoring import Scoring, score
from toolkit.store import Batch, Cache
from toolkit.suites.suite import Question, Suite, metric_of, metrics_of
from toolkit.tasks.metrics import METRICS, Metric
from toolkit.tasks.sandbox import Mode
from toolkit.tasks.sandbox import check as check_sandbox

SCORED_AT_ONCE = 1024


class Wanted(NamedTuple):
    """A metric that a question's responses are to be scored by."""

    question: Question
    metric: Metric


def wanted(suite: Suite, only: Sequence[str] = ()) -> list[Wanted]:
    """Return what a suite's responses are to be scored by: all that the suite says, or the named metrics where they apply.

    Raises:
        SuiteError: There is no such metric, or it applies to none of the questions.
    """
    if not only:
        return [Wanted(question, METRICS[name]) for question in suite.questions for name in metrics_of(question, suite.config)]
    for name in only:
        if name not in METRICS:
            raise SuiteError(f"There is no metric {name!r}; there are: {', '.join(METRICS)}.")
        if not any(METRICS[name].applies(question.reference) for question in suite.questions):
            raise SuiteError(
                f"No question of suite {suite.name} can be scored by {name}: none has {METRICS[name].needs} to compare with."
            )
    return [
        Wanted(question, METRICS[name])
        for question in suite.questions
        for name in dict.fromkeys(only)
        if METRICS[name].applies(question.reference)
    ]


def qualities(suite: Suite) -> list[Wanted]:
    """Return the one metric of every question that is its quality."""
    return [Wanted(question, metric_of(question)) for question in suite.questions if metrics_of(question, suite.config)]


def rescore(
    suite: Suite,
    cache: Cache,
    recorded: UUID,
    wanted: Sequence[Wanted],
    mode: Mode | None = None,
    progress: Progress | None = None,
) -> int:
    """Score the cached responses of a suite that have no score by a wanted metric yet, and commit a batch at a time.

    Args:
        suite: The suite, as its questions are to be read.
        cache: Its cache.
        recorded: Key of the recorded suite whose responses are meant; the same questions, perhaps read differently.
        wanted: Questions and metrics.
        mode: How model-written code is kept apart; default: as the suite says.
        progress: Who is told of the progress and may stop the run after a batch; the next one continues.

    Returns:
        How many were scored.

    Raises:
        SandboxError: A metric runs code, and that is off or cannot be isolated; nothing is scored.
    """
    questions = {one.question.key: one.question for one in wanted}
    metrics = {one.metric.label: one.metric for one in wanted}
    missing = cache.unscored(recorded, [(one.question.key, one.metric.label) for one in wanted])
    todo = [Scoring(questions[question], response, metrics[label]) for question, label, response in missing]
    mode, progress = mode or suite.config.code.sandbox, progress or NoProgress()
    if any(one.metric.runs_code for one in todo):
        check_sandbox(mode)
    done = 0
    for start in range(0, len(todo), SCORED_AT_ONCE):
        if progress.stopped():
            break
        part = todo[start : start + SCORED_AT_ONCE]
        cache.commit(Batch(scores=score(part, mode)))
        done += len(part)
        progress.advance(len(part))
    return done
