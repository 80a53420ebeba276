"""`toolkit generate`: fill a cache."""

from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import CacheOption, SandboxOption, SuiteArgument, cache_path, suite_config
from toolkit.cli.progress_bar import ProgressBar
from toolkit.core.errors import SuiteError
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from uuid import UUID

    from toolkit.engines.guard import OpenRunner
    from toolkit.generation.generate import Shard
    from toolkit.suites.config import RayConfig
    from toolkit.suites.suite import Question


FAILED = 3
"""Exit code where answers failed: the cache is not whole, and train would refuse it."""


class Executor(StrEnum):
    """Where engines run."""

    LOCAL = "local"
    RAY = "ray"


@contextmanager
def _answering(executor: Executor, config: "RayConfig", address: str | None) -> "Iterator[OpenRunner]":
    """Connect to where engines run; at the end, format_amount what each worker did.

    Raises:
        EngineError: Ray or its cluster is not there.
    """
    if executor == Executor.LOCAL:
        from toolkit.engines.guard import Guard

        yield Guard
        return
    from toolkit.engines.ray import RayWorkers
    from toolkit.report.tables import aligned

    with RayWorkers(config, address) as workers:
        yield workers.open_runner
        rows = [[r.worker, r.answers, f"{r.tokens / r.seconds:.1f}" if r.seconds else ""] for r in workers.worker_stats]
        typer.echo(aligned(["worker", "answers", "tokens/s"], rows))


def _shard(given: str | None) -> "Shard | None":
    """Read `i/n`.

    Raises:
        SuiteError: It is not such a pair, or i is not one of 1 to n.
    """
    if given is None:
        return None
    from toolkit.generation.generate import Shard

    number, slash, of = given.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise SuiteError(f"--shard {given} is not i/n with i from 1 to n. Two processes take: --shard 1/2 and --shard 2/2")
    return Shard(int(number), int(of))


def _leading(questions: "Sequence[Question]", whole: "Container[UUID]") -> "Iterator[int]":
    """Count of each benchmark that is not whole how many of its first questions are; of a whole suite, all there are."""
    for _, group in groupby(questions, lambda question: question.benchmark):
        keys = [question.key for question in group]
        lacking = [place for place, key in enumerate(keys) if key not in whole]
        if lacking:
            yield lacking[0]


def generate(
    suite: SuiteArgument,
    cache: CacheOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed for good.")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Only part i of n of the questions.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Only so many questions a benchmark: a first look at a suite.", min=1, show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Spend at most so much: 2h, '5M tokens' or '10 usd'. Whole questions first.",
            show_default=False,
            metavar="AMOUNT",
        ),
    ] = None,
    executor: Annotated[
        Executor, typer.Option(help="Where engines run: in this process, or as the workers of a Ray cluster.")
    ] = Executor.LOCAL,
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster. Default: $RAY_ADDRESS, else this machine.", show_default=False)
    ] = None,
    sandbox: SandboxOption = None,
) -> None:
    """Generate every answer of a suite that its cache does not hold yet; stop and repeat at any time.

    Exit code 3 where answers failed and the suite does not leave their questions out, 130 where it was stopped.

    Example: toolkit generate quickstart
    """
    from toolkit.generation.budget import format_amount, parse_budget
    from toolkit.generation.rescoring import wanted
    from toolkit.store import Cache
    from toolkit.suites.config import CodeConfig
    from toolkit.suites.suite import resolve

    config, folder = suite_config(suite, cache, migrate=True)
    part, allowed = _shard(shard), parse_budget(budget) if budget else None
    if allowed and allowed.unit == "usd" and not (config.engine.usd_per_hour or config.engine.usd_per_million_tokens):
        raise SuiteError(
            "A budget in usd needs prices. Give usd_per_hour or usd_per_million_tokens under [engine] in the suite, "
            "or a budget in time or tokens."
        )
    if address and executor != Executor.RAY:
        raise SuiteError("--address is that of a Ray cluster. Add --executor ray.")
    if limit:
        config = config.limited(limit)
    if sandbox:
        config = config.model_copy(update={"code": CodeConfig(sandbox=sandbox.value)})
    opened = Cache(cache_path(config.name, cache))
    opened.migrate()
    workspace = Workspace(folder, opened.path.parent / "weights")
    known = opened.recorded(config.name) if opened.exists() else None
    resolved = resolve(config, workspace, known)
    opened.create()
    opened.record(resolved)
    rows = opened.progress(config.name)
    missing, failed = sum(row.missing for row in rows), sum(row.failed for row in rows)
    total = sum(row.nodes for row in rows)
    if (
        not missing
        and not failed
        and not opened.spool.files()
        and not opened.unscored(resolved.key, [(one.question.key, one.metric.label) for one in wanted(resolved)])
        and not opened.texts_to_embed(resolved)
    ):
        typer.echo(f"Nothing to do: all {total} nodes of suite {config.name} are in {opened.path}.")
        return

    from toolkit.generation.generate import generate as run
    from toolkit.generation.generate import whole_questions

    with _answering(executor, config.engine.ray, address) as open_runner, ProgressBar(missing + failed) as bar:
        report = run(
            resolved, opened, workspace, progress=bar, retry=retry, shard=part, budget=allowed, open_runner=open_runner
        )
    typer.echo(
        f"{report.generated - report.failed} answers generated, {report.shared} shared with an equal prompt, "
        f"{report.failed} failed, in {report.seconds:.0f} s. Cache: {opened.path}"
    )
    rows = opened.progress(config.name)
    missing, failed = sum(row.missing for row in rows), sum(row.failed for row in rows)
    if allowed and report.exhausted and missing:
        whole = whole_questions(resolved, opened)
        each = min(_leading(resolved.questions, whole))
        spent = format_amount(report.spent.of(allowed.unit), allowed.unit)
        typer.echo(
            f"The budget of {allowed} ends here, {spent} spent: {len(whole)} of {len(resolved.questions)} questions are "
            f"whole, the first {each} of every benchmark among them. The same command continues with another {allowed}."
        )
        if each:
            typer.echo(
                f"To train on those: toolkit generate {suite} --limit {each}, which generates nothing, then toolkit train."
            )
        return
    if missing or failed:
        if report.stopped:
            typer.echo(f"{missing} of {total} nodes are missing; the same command continues.")
            raise typer.Exit(130)
        if not failed:
            typer.echo(f"{missing} of {total} nodes are left to the other shards; how far they are: toolkit status {suite}.")
            return
        typer.echo(
            f"{failed} of {total} nodes failed and {missing} wait for them or for others; why: toolkit status {suite}. "
            'Once the cause is mended, --retry tries again; incomplete = "exclude question" in '
            "the suite leaves such questions out.",
            err=True,
        )
        if failed and config.incomplete == "refuse":
            raise typer.Exit(FAILED)
