"""The progress bar of commands that work for long."""

import signal
import time
from types import FrameType, TracebackType
from typing import Self

from toolkit.cli.terminal import is_quiet, note
from toolkit.core.text import printable

LOG_INTERVAL = 30.0
"""Seconds between two lines of progress if stderr is no terminal, such as a log file."""


class ProgressBar:
    """A progress bar on stderr with rate and remaining time; Ctrl-C or SIGTERM asks to stop after the work in flight.

    Args:
        total: Amount of work.
        unit: What is counted.
    """

    def __init__(self, total: int, unit: str = "nodes") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._unit = unit
        self._stop = False
        self._last_line = time.monotonic()
        self._is_terminal = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=is_quiet(),
        )
        self._task = self._progress.add_task("starting", total=total, rate="")
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> Self:
        for number in self._handlers:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress.live.is_started:
            self._progress.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def stage(self, title: str) -> None:
        """Show the title of a new stage; the first one shows the bar."""
        self._progress.start()
        self._progress.update(self._task, description=printable(title))
        if not self._is_terminal:
            note(title)

    def advance(self, done: int) -> None:
        """Move the bar once a stage has begun; if stderr is no terminal, write a line every `LOG_INTERVAL`."""
        self._progress.update(self._task, advance=done)
        task = self._progress.tasks[0]
        if task.elapsed:
            self._progress.update(self._task, rate=f"{task.completed / task.elapsed:.1f} {self._unit}/s")
        if not self._is_terminal and time.monotonic() - self._last_line >= LOG_INTERVAL:
            self._last_line = time.monotonic()
            note(f"{task.description}: {task.completed:.0f} of {task.total:.0f}, {task.fields['rate']}")

    @property
    def done(self) -> int:
        """Amount of work done so far."""
        return int(self._progress.tasks[0].completed)

    def stopped(self) -> bool:
        """Return whether a signal has asked to stop."""
        return self._stop

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop:  # the second signal does not wait
            raise KeyboardInterrupt
        self._stop = True
        note("\nStopping after the work in flight; repeat to stop at once.")
