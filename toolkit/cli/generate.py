"""`toolkit generate`: fill a cache."""

import signal
from enum import StrEnum
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from toolkit.cli.common import CacheOption, SuiteArgument, cache_path, suite_config
from toolkit.errors import SuiteError

if TYPE_CHECKING:
    from toolkit.generate import Shard


def _shard(given: str | None) -> "Shard | None":
    """Read `i/n`.

    Raises:
        SuiteError: It is not such a pair, or i is not one of 1 to n.
    """
    if given is None:
        return None
    from toolkit.generate import Shard

    number, slash, of = given.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise SuiteError(f"--shard {given} is not i/n with i from 1 to n. Two processes take: --shard 1/2 and --shard 2/2")
    return Shard(int(number), int(of))


class Sandbox(StrEnum):
    """How model-written code is kept apart; `[code]` of the suite has the same words."""

    OFF = "off"
    BUBBLEWRAP = "bubblewrap"
    PROCESS = "process"


class Bar:
    """A progress bar on stderr with rate and remaining time; Ctrl-C or SIGTERM asks to stop after the batch in flight."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._stop = False
        self._live = Console(stderr=True).is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("starting", total=total, rate="")
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> Self:
        for number in self._handlers:
            signal.signal(number, self._on_signal)
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def stage(self, title: str) -> None:
        """Show the stage; where stderr is no terminal, one line a stage."""
        self._progress.update(self._task, description=title)
        if not self._live:
            typer.echo(title, err=True)

    def advance(self, nodes: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, advance=nodes)
        task = self._progress.tasks[0]
        if task.elapsed:
            self._progress.update(self._task, rate=f"{task.completed / task.elapsed:.1f} answers/s")

    def stopped(self) -> bool:
        """Tell whether a signal came."""
        return self._stop

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop:  # a second one does not wait
            raise KeyboardInterrupt
        self._stop = True
        typer.echo("\nStopping after the batch in flight; again to stop at once.", err=True)


def generate(
    suite: SuiteArgument,
    cache: CacheOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed for good.")] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Only part i of n of the questions.", show_default=False)
    ] = None,
    sandbox: Annotated[
        Sandbox | None, typer.Option("--sandbox", help="Run model-written code, kept apart this way.", show_default=False)
    ] = None,
) -> None:
    """Generate every answer of a suite that its cache does not hold yet; stop and repeat at any time.

    Example: toolkit generate quickstart
    """
    from toolkit.config import CodeConfig
    from toolkit.store import Cache
    from toolkit.suite import resolve

    config, base = suite_config(suite, cache, migrate=True)
    part = _shard(shard)
    if sandbox:
        config = config.model_copy(update={"code": CodeConfig(sandbox=sandbox.value)})
    opened = Cache(cache_path(config.name, cache))
    opened.migrate()
    store = opened.path.parent / "weights"
    known = opened.recorded(config.name) if opened.exists() else None
    resolved = resolve(config, base, store, known)
    opened.create()
    opened.record(resolved)
    rows = opened.progress(config.name)
    missing, failed = sum(row.missing for row in rows), sum(row.failed for row in rows)
    total = sum(row.nodes for row in rows)
    if (
        not missing
        and not failed
        and not opened.spool.files()
        and not opened.unscored(resolved.key)
        and not opened.texts_to_embed(resolved)
    ):
        typer.echo(f"Nothing to do: all {total} nodes of suite {config.name} are in {opened.path}.")
        return

    from toolkit.generate import generate as run

    with Bar(missing + failed) as bar:
        report = run(resolved, opened, base, store, watcher=bar, retry=retry, shard=part)
    typer.echo(
        f"{report.generated - report.failed} answers generated, {report.shared} shared with an equal prompt, "
        f"{report.failed} failed, in {report.seconds:.0f} s. Cache: {opened.path}"
    )
    rows = opened.progress(config.name)
    missing, failed = sum(row.missing for row in rows), sum(row.failed for row in rows)
    if missing or failed:
        if report.stopped:
            typer.echo(f"{missing} of {total} nodes are missing; the same command continues.")
            raise typer.Exit(130)
        typer.echo(
            f"{failed} of {total} nodes failed and {missing} wait for them or for others; why: toolkit status {suite}. "
            'Once the cause is mended, --retry tries again; incomplete = "exclude question" in '
            "the suite leaves such questions out."
        )
