"""Scores what is cached: added metrics, or newer versions of metrics, over the responses of a suite. Needs no model."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from toolkit.core.errors import SuiteError, did_you_mean
from toolkit.core.progress import NoProgress, Progress
from toolkit.generation.scoring import MetricFailure, Scoring, raise_failures, score_each, score_rows
from toolkit.store import Batch, Cache
from toolkit.suites.config import SuiteConfig
from toolkit.suites.resolving import metric_of, metrics_of, registered_metric, reread
from toolkit.suites.suite import Question, Suite
from toolkit.tasks import sandbox
from toolkit.tasks.metrics import METRICS, Metric

SCORE_BATCH = 1024
"""Scores that are committed together."""


class AppliedMetric(NamedTuple):
    """A metric, and a question whose responses it is to score."""

    question: Question
    metric: Metric

    @property
    def key(self) -> tuple[UUID, str]:
        """Key of the question, and label of the metric."""
        return self.question.key, self.metric.label


def metrics_to_apply(suite: Suite, only: Sequence[str] = ()) -> list[AppliedMetric]:
    """Return the metrics of every question: all that the suite lists, or the named ones where they apply.

    Raises:
        SuiteError: There is no such metric, or it applies to none of the questions.
    """
    if not only:
        return [
            AppliedMetric(question, registered_metric(name, question))
            for question in suite.questions
            for name in metrics_of(question, suite.config)
        ]
    for name in only:
        if name not in METRICS:
            raise SuiteError(
                f"There is no metric {name!r}; {did_you_mean(name, METRICS)}. If the Python file of a benchmark defines it, "
                "name the suite file instead of the suite."
            )
        if not any(METRICS[name].applies(question.reference) for question in suite.questions):
            raise SuiteError(
                f"Metric {name} applies to no question of suite {suite.name}: none has {METRICS[name].needs} to compare with."
            )
    return [
        AppliedMetric(question, METRICS[name])
        for question in suite.questions
        for name in dict.fromkeys(only)
        if METRICS[name].applies(question.reference)
    ]


def quality_metrics(suite: Suite) -> list[AppliedMetric]:
    """Return the metric of every question that is its quality."""
    return [AppliedMetric(question, metric_of(question)) for question in suite.questions if metrics_of(question, suite.config)]


def rescore(
    suite: Suite,
    cache: Cache,
    recorded: UUID,
    metrics: Sequence[AppliedMetric],
    mode: sandbox.Mode | None = None,
    progress: Progress | None = None,
) -> int:
    """Score the cached responses of a suite that the given metrics have not scored yet, and commit a batch at a time.

    Args:
        suite: The suite.
        cache: Its cache.
        recorded: Key of the recorded suite whose responses are scored; its questions may have other metrics.
        metrics: Metrics to apply, by question.
        mode: How model-written code is isolated; default: as the suite says.
        progress: Is told of the progress, and may stop after a batch; the next call continues.

    Returns:
        The number of new scores.

    Raises:
        MetricError: A metric failed on some responses; raised when all others are scored.
        SandboxError: A metric runs code, and running code is off or the code cannot be isolated; nothing is scored.
    """
    metrics_by_key = {applied.key: applied for applied in metrics}
    scorings = []
    for question, label, response in cache.scores.missing(recorded, list(metrics_by_key)):
        applied = metrics_by_key[question, label]
        scorings.append(Scoring(question=applied.question, response=response, metric=applied.metric))
    mode, progress = mode or suite.config.code.sandbox, progress or NoProgress()
    if any(scoring.metric.runs_code for scoring in scorings):
        sandbox.check(mode)
    scored = 0
    failures: list[MetricFailure] = []
    for start in range(0, len(scorings), SCORE_BATCH):
        if progress.stopped():
            break
        batch = scorings[start : start + SCORE_BATCH]
        scores = score_each(batch, mode)
        rows = score_rows(batch, scores)
        cache.generations.commit(Batch(scores=rows))
        failures += [score for score in scores if isinstance(score, MetricFailure)]
        scored += len(rows)
        progress.advance(len(rows))
    raise_failures(failures)
    return scored


def apply_suite_file(recorded: Suite, config: SuiteConfig, cache: Cache) -> Suite:
    """Apply what has changed in a suite file since the suite was recorded: prices, metrics, splits, training settings.

    Scores what a new quality metric has not scored yet, records the suite as the current one of its name, and computes its
    cost unit. Training settings alone are not recorded before a router has been trained with them. The commands that read a
    suite do this first. From Python, call it after editing a suite file and before `load_table`, `train` or `evaluate`:
    `cache.suites.get` returns the suite as it was recorded last.

    Args:
        recorded: The suite as recorded.
        config: The suite file as it is now.
        cache: The cache.

    Returns:
        The suite as the file has it; `recorded` itself if nothing has changed.

    Raises:
        MetricError: The new quality metric failed on some responses; all others are scored.
        SuiteChangedError: The file also changes what is generated; run `toolkit generate` with it.
        SandboxError: The new quality metric runs code, and running code is off or the code cannot be isolated.
    """
    suite = recorded
    if config != recorded.config:
        suite = reread(recorded, config)
        rescore(suite, cache, recorded.key, quality_metrics(suite))
        if suite.key != recorded.key or config.model_copy(update={"train": recorded.config.train}) != recorded.config:
            cache.suites.record(suite)
    cache.suites.compute_cost_unit(suite.key)
    return suite
