"""Shows what a run of `generate` did, as text for people."""

from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from uuid import UUID

from toolkit.core.text import printable
from toolkit.engines.ray import WorkerStats
from toolkit.generation.budget import Budget, format_amount
from toolkit.generation.state import GenerationReport
from toolkit.report.tables import aligned
from toolkit.suites.suite import Question


def render(report: GenerationReport, path: Path) -> str:
    """Count what a run generated into the cache at `path`, and quote the most frequent failure."""
    filtered = f"{report.filtered} withheld by a content filter (quality 0), " if report.filtered else ""
    lines = [
        f"{report.generated - report.failed} responses generated, {report.shared} shared with an equal prompt, {filtered}"
        f"{report.failed} failed, in {report.seconds:.0f} s. Cache: {path}"
    ]
    if report.failures:
        [(failure, count)] = report.failures.most_common(1)
        lines += [f"{_retried(report)} The most frequent failure ({count}): {printable(failure.reason)}."]
    return "\n".join(lines)


def _retried(report: GenerationReport) -> str:
    """Say which failures the next run tries again, and which only `--retry` does."""
    if report.transient == report.failed:
        return "The next run tries the failures again."
    if not report.transient:
        return "Only a run with --retry tries the failures again."
    return f"The next run tries {report.transient} of the {report.failed} failures again, and the others only with --retry."


def render_workers(workers: Sequence[WorkerStats]) -> str:
    """Lay out what each worker of a cluster did."""
    rows = [
        [worker.worker, worker.responses, f"{worker.tokens / worker.seconds:.1f}" if worker.seconds else ""]
        for worker in workers
    ]
    return aligned(["worker", "responses", "tokens/s"], rows)


def render_exhausted(
    suite: str, budget: Budget, report: GenerationReport, questions: Sequence[Question], complete: Collection[UUID]
) -> str:
    """Say how far a budget went, and how to train on the questions that it completed.

    Args:
        suite: The suite as the user named it.
        budget: The budget.
        report: What the run did.
        questions: All questions of the suite.
        complete: The complete ones.
    """
    limit = _complete_per_benchmark(questions, complete)
    lines = [
        f"The budget of {budget} is exhausted: {format_amount(report.spent.of(budget.unit), budget.unit)} spent. "
        f"{len(complete)} of {len(questions)} questions are complete, among them the first {limit} of every benchmark. "
        f"The same command continues with another {budget}."
    ]
    if limit:
        lines.append(
            f"To train on those: toolkit generate {suite} --limit {limit}, which generates nothing, then toolkit train."
        )
    return "\n".join(lines)


def _complete_per_benchmark(questions: Sequence[Question], complete: Collection[UUID]) -> int:
    """Return the largest n such that the first n questions of every incomplete benchmark are complete."""
    counts = []
    for _, group in groupby(questions, lambda question: question.benchmark):
        incomplete = [place for place, question in enumerate(group) if question.key not in complete]
        counts += incomplete[:1]
    return min(counts, default=0)
