"""`toolkit generate`: fill a cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import STOPPED, CacheOption, SandboxOption, SuiteArgument, app, read_suite, resolve_suite
from toolkit.cli.progress_bar import ProgressBar
from toolkit.cli.terminal import note
from toolkit.cli.trust import TrustOption
from toolkit.core.commands import command
from toolkit.core.errors import SuiteError

if TYPE_CHECKING:
    from toolkit.engines.guard import OpenRunner
    from toolkit.generation.budget import Budget
    from toolkit.generation.state import GenerationReport, Shard
    from toolkit.store import Cache
    from toolkit.suites.config import EngineConfig
    from toolkit.suites.suite import Suite

FAILED = 3
"""Exit code if generations failed, so that training would refuse the cache."""


class Executor(StrEnum):
    """Where engines run."""

    LOCAL = "local"
    RAY = "ray"


BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="What to spend at most: 2h, '5M tokens' or '10 usd'. Questions are completed group by group.",
        show_default=False,
        metavar="AMOUNT",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", help="Address of the Ray cluster. Default: $RAY_ADDRESS, else this machine.", show_default=False),
]


@app.command()
def generate(
    suite: SuiteArgument,
    cache: CacheOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="Also retry generations that failed for good.")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Generate only part i of n of the questions.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Questions per benchmark, for a first look at a suite.", min=1, show_default=False)
    ] = None,
    budget: BudgetOption = None,
    executor: Annotated[Executor, typer.Option(help="Run engines in this process, or on a Ray cluster.")] = Executor.LOCAL,
    address: AddressOption = None,
    sandbox: SandboxOption = None,
    trust: TrustOption = False,
) -> None:
    """Generate every response of a suite that its cache does not hold yet. Stop and repeat the command at any time.

    Exit code 3 if generations failed and the suite does not exclude their questions, 130 if the command was stopped.

    Example: toolkit generate quickstart
    """
    from toolkit.generation.budget import parse_budget
    from toolkit.generation.generate import generate as run
    from toolkit.suites.config import CodeConfig

    file = read_suite(suite, cache, migrate=True)
    part, parsed_budget = _parse_shard(shard), parse_budget(budget) if budget else None
    _check_options(file.config.engine, parsed_budget, executor, address)
    config = file.config.limited(limit) if limit else file.config
    if sandbox:
        config = config.model_copy(update={"code": CodeConfig(sandbox=sandbox.value)})
    resolved = resolve_suite(file._replace(config=config), trust=trust)
    counts = file.cache.suites.count_nodes(resolved)
    executor = Executor.LOCAL if counts.is_complete else executor
    with _open_runner(executor, config.engine, address) as runner, ProgressBar(counts.nodes - counts.done) as bar:
        report = run(
            resolved,
            file.cache,
            file.workspace,
            progress=bar,
            retry=retry,
            shard=part,
            budget=parsed_budget,
            open_runner=runner,
        )
    _conclude(suite, cache, resolved, file.cache, report, parsed_budget)
    if config != file.config and limit:
        whole = command("generate", suite, cache=cache)
        typer.echo(f"Suite {resolved.name} now has {len(resolved.questions)} questions. For all of them: {whole}")


def _parse_shard(text: str | None) -> "Shard | None":
    """Parse `i/n`.

    Raises:
        SuiteError: The text is not a pair of numbers, or i is not between 1 and n.
    """
    if text is None:
        return None
    from toolkit.generation.state import Shard

    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise SuiteError(f"--shard {text} is not i/n with i from 1 to n. Two processes take --shard 1/2 and --shard 2/2.")
    return Shard(int(number), int(count))


def _check_options(engine: "EngineConfig", budget: "Budget | None", executor: Executor, address: str | None) -> None:
    """Check options against each other and against the suite.

    Raises:
        SuiteError: The budget needs prices, or the address an executor.
    """
    if budget and budget.unit == "usd" and not (engine.usd_per_hour or engine.usd_per_million_tokens):
        raise SuiteError(
            "A budget in usd needs prices. Set usd_per_hour or usd_per_million_tokens under [engine] in the suite, "
            "or give a budget in time or tokens."
        )
    if address and executor != Executor.RAY:
        raise SuiteError("--address is the address of a Ray cluster. Add --executor ray.")


@contextmanager
def _open_runner(executor: Executor, config: "EngineConfig", address: str | None) -> "Iterator[OpenRunner]":
    """Yield what opens batch runners: an engine of this process, or the workers of a cluster, which report at the end.

    Raises:
        EngineError: Ray is not installed, or there is no such cluster.
    """
    if executor == Executor.LOCAL:
        from toolkit.engines.guard import GuardedEngine

        yield GuardedEngine
        return
    from toolkit.engines.ray import RaySettings, RayWorkers
    from toolkit.report.generation import render_workers

    with RayWorkers(config.settings(RaySettings), address) as workers:
        yield workers.open_runner
        typer.echo(render_workers(workers.worker_stats))


def _conclude(
    reference: str, path: Path | None, suite: "Suite", cache: "Cache", report: "GenerationReport", budget: "Budget | None"
) -> None:
    """Say what the run did and what is left to do, and exit with a code that says the same.

    Args:
        reference: The suite as the user named it.
        path: The cache, if the user named one.
        suite: The suite.
        cache: The cache.
        report: What the run did.
        budget: The budget, if there was one.
    """
    from toolkit.generation.question_groups import complete_questions
    from toolkit.report.generation import render, render_exhausted, render_failures

    counts = cache.suites.count_nodes(suite)
    if counts.is_complete and not report.generated and not report.shared:
        typer.echo(f"Nothing to do: all {counts.nodes} nodes of suite {suite.name} are in {cache.path}.")
        return
    typer.echo(render(report, cache.path))
    status = command("status", reference, cache=path)
    if budget and report.exhausted and counts.missing:
        complete = complete_questions(suite, cache)
        typer.echo(render_exhausted(reference, path, budget, report, suite.questions, complete))
    elif report.stopped and not counts.is_complete:
        typer.echo(f"{counts.missing} of {counts.nodes} nodes are missing; the same command continues.")
        raise typer.Exit(STOPPED)
    elif counts.missing and not counts.failed:
        typer.echo(f"{counts.missing} of {counts.nodes} nodes are left to the other shards. Their progress: {status}")
    if counts.failed:
        again = command("generate", reference, cache=path)
        recorded = cache.suites.get(suite.name)
        is_current = recorded is not None and recorded.key == suite.key
        note(render_failures(counts, status if is_current else None, again))
        if suite.config.incomplete == "refuse" and not report.exhausted:
            raise typer.Exit(FAILED)
