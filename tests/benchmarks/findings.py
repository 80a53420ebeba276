"""Results of a script that has several parts, written as they come, so that a part that is interrupted leaves those it has."""

import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toolkit.core.errors import ToolkitError
from toolkit.report.tables import aligned

MIN_SECONDS = 5
"""Least time for which a part is begun."""


class Findings:
    """Results of checks and measurements.

    Attributes:
        rows: Each check with its result.
        documented: Cells of the row for the docs, by column.
        faults: Checks whose result is not what it should be.
        records: Measurements as plain values, by part.

    Args:
        folder: A folder for `findings.txt` and `findings.json`; None to write none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.rows: list[list[str]] = []
        self.documented: dict[str, str] = {}
        self.faults: list[str] = []
        self.records: dict[str, Any] = {}
        self._folder = folder
        self._texts: list[str] = []

    def add(self, check: str, result: str, fault: bool = False) -> None:
        """Add a result; `fault` says that it is not what it should be."""
        self.rows.append([check, result])
        print(f"{check}: {result}", file=sys.stderr, flush=True)
        if fault:
            self.faults.append(check)
        self.write()

    def show(self, text: str) -> None:
        """Print a text, such as a table, and keep it."""
        print(text, flush=True)
        self._texts.append(text)
        self.write()

    def write(self) -> None:
        """Write what is known by now."""
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            text = "\n\n".join([aligned(["check", "result"], self.rows, max_width=120), *self._texts])
            (self._folder / "findings.txt").write_text(f"{text}\n", "utf-8")
            values = {"checks": self.rows, "documented": self.documented, "faults": self.faults, **self.records}
            (self._folder / "findings.json").write_text(json.dumps(values, indent=1), "utf-8")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise a `TimeoutError` in the main thread after a time."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"stopped after {seconds:.0f} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def run_parts(
    parts: Mapping[str, Callable[[Findings], None]], limits: Mapping[str, float], seconds: float, findings: Findings
) -> None:
    """Run parts one after the other; one that fails does not keep the others from running.

    Args:
        parts: The parts by name, the most important first.
        limits: Longest time of each part, in seconds.
        seconds: Longest time of all parts.
        findings: Gets the results.
    """
    deadline = time.monotonic() + seconds
    for name, part in parts.items():
        started = time.monotonic()
        if deadline - started < MIN_SECONDS:
            findings.add(name, "no time left", fault=True)
            continue
        try:
            with time_limit(min(limits[name], deadline - started)):
                part(findings)
        except (ToolkitError, TimeoutError) as error:
            findings.add(name, str(error), fault=True)
        except Exception as error:
            traceback.print_exc()
            findings.add(name, f"{type(error).__name__}: {error}", fault=True)
        findings.add(f"time of {name}", f"{time.monotonic() - started:.0f} s")
