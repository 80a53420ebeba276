"""The progress bar of the commands that work for long."""

import signal
import time
from types import FrameType, TracebackType
from typing import Self

import typer

SILENCE = 30.0
"""Seconds after which a log, which shows no bar, has another line."""


class ProgressBar:
    """A progress bar on stderr with rate and remaining time; Ctrl-C or SIGTERM asks to stop after what is in flight.

    Args:
        total: How much there is to do.
        unit: Of what.
    """

    def __init__(self, total: int, unit: str = "answers") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._unit = unit
        self._stop = False
        self._told = time.monotonic()
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
        """Show the stage; where stderr is no terminal, one line a stage, and one after `SILENCE`."""
        self._progress.update(self._task, description=title)
        if not self._live:
            typer.echo(title, err=True)

    def advance(self, done: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, advance=done)
        task = self._progress.tasks[0]
        if task.elapsed:
            self._progress.update(self._task, rate=f"{task.completed / task.elapsed:.1f} {self._unit}/s")
        if not self._live and time.monotonic() - self._told >= SILENCE:
            self._told = time.monotonic()
            typer.echo(f"{task.description}: {task.completed:.0f} of {task.total:.0f}, {task.fields['rate']}", err=True)

    @property
    def done(self) -> int:
        """How far it has moved."""
        return int(self._progress.tasks[0].completed)

    def stopped(self) -> bool:
        """Tell whether a signal came."""
        return self._stop

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop:  # a second one does not wait
            raise KeyboardInterrupt
        self._stop = True
        typer.echo("\nStopping after what is in flight; again to stop at once.", err=True)
