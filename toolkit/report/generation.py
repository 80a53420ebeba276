"""Shows what a run of `generate` did, as text for people."""

from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from uuid import UUID

from toolkit.core.commands import command
from toolkit.core.text import printable
from toolkit.engines.ray import WorkerStats
from toolkit.generation.budget import Budget, format_amount
from toolkit.generation.state import GenerationReport
from toolkit.report.tables import aligned
from toolkit.store import NodeCounts
from toolkit.suites.suite import Question


def render(report: GenerationReport, path: Path) -> str:
    """Count what a run generated into the cache at `path` and what its engine reused; quote the most frequent failure."""
    filtered = f"{report.filtered} withheld by a content filter (quality 0), " if report.filtered else ""
    lines = [
        f"{report.generated - report.failed} responses generated, {report.shared} shared with an equal prompt, {filtered}"
        f"{report.failed} failed, in {report.seconds:.0f} s. Cache: {path}"
    ]
    if report.cached_tokens is not None and report.prompt_tokens:
        share = report.cached_tokens / report.prompt_tokens
        lines += [f"Prompt tokens that the engine had already read: {share:.0%} of {report.prompt_tokens:,}"]
    if report.failures:
        [(failure, count)] = report.failures.most_common(1)
        lines += [f"The most frequent failure ({count}): {printable(failure.reason)}"]
    return "\n".join(lines)


def render_workers(workers: Sequence[WorkerStats]) -> str:
    """Lay out what each worker of a cluster did."""
    rows = [
        [worker.worker, worker.responses, f"{worker.tokens / worker.seconds:.1f}" if worker.seconds else ""]
        for worker in workers
    ]
    return aligned(["worker", "responses", "tokens/s"], rows)


def render_failures(counts: NodeCounts, status: str | None, again: str) -> str:
    """Say how many nodes failed, and which command shows why or tries them again.

    Args:
        counts: The nodes of the suite.
        status: The command that shows the reasons; None if another suite of the name is current.
        again: The command of the run, without `--retry`.
    """
    lines = [f"{counts.failed} of {counts.nodes} nodes failed."]
    if counts.missing:
        lines.append(f"{counts.missing} are missing: they follow failed nodes or belong to other shards.")
    if status:
        lines.append(f"To see why: {status}")
    else:
        lines.append("No model has responded, so the suite of this name that was recorded before stays current.")
    if counts.transient:
        lines.append(f"To try the {counts.transient} again that failed for a passing cause: {again}")
    if counts.permanent:
        lines.append(f"To try the {counts.permanent} again that failed for good, once the cause is fixed: {again} --retry")
    return "\n".join([*lines, 'To leave their questions out, set incomplete = "exclude question" in the suite.'])


def render_exhausted(
    suite: str,
    cache: Path | None,
    budget: Budget,
    report: GenerationReport,
    questions: Sequence[Question],
    complete: Collection[UUID],
) -> str:
    """Say how far a budget went, and how to train on the questions that it completed.

    Args:
        suite: The suite as the user named it.
        cache: The cache, if the user named one.
        budget: The budget.
        report: What the run did.
        questions: All questions of the suite.
        complete: The complete ones.
    """
    limit = _complete_per_benchmark(questions, complete)
    progress = f"{len(complete)} of {len(questions)} questions are complete"
    if limit:
        progress += f", among them the first {limit} of every benchmark"
    lines = [
        f"The budget of {budget} is exhausted: {format_amount(report.spent.of(budget.unit), budget.unit)} spent. "
        f"{progress if complete else 'No question is complete yet'}. The same command continues with another {budget}."
    ]
    if limit:
        lines += [
            "To train on those, for which nothing is generated:",
            command("generate", suite, "--limit", limit, cache=cache),
            command("train", suite, cache=cache),
        ]
    return "\n".join(lines)


def _complete_per_benchmark(questions: Sequence[Question], complete: Collection[UUID]) -> int:
    """Return the largest n such that the first n questions of every incomplete benchmark are complete."""
    counts = []
    for _, group in groupby(questions, lambda question: question.benchmark):
        incomplete = [place for place, question in enumerate(group) if question.key not in complete]
        counts += incomplete[:1]
    return min(counts, default=0)
