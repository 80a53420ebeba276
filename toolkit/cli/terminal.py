"""What a terminal shows of text from outside: control characters escaped. Files and pipes get the text as it is."""

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

import typer

from toolkit.core.text import printable


class _Terminal:
    """A terminal's stream that escapes what is written to it; the rest is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, escaped."""
        return self._stream.write(printable(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, escaped."""
        self._stream.writelines(map(printable, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class PrintableFormatter(logging.Formatter):
    """Formats messages of the log for stderr."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, escaped if stderr is a terminal."""
        return for_terminal(super().format(record), sys.stderr)


class OnceFilter(logging.Filter):
    """Lets each message of the log pass once, however many routers or alphas it concerns."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message is new."""
        message = record.getMessage()
        is_new = message not in self._shown
        self._shown.add(message)
        return is_new


class _Verbosity:
    """What the user wants to see on stderr."""

    is_quiet = False


VERBOSITY = _Verbosity()


def guard_terminal() -> None:
    """Escape everything that is written to stdout if it is a terminal, so that no command can forget to."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names and texts that its encoding cannot express
    if sys.stdout.isatty():
        sys.stdout = cast(TextIO, _Terminal(sys.stdout))


def for_terminal(text: str, stream: TextIO) -> str:
    """Return text as a stream should get it: escaped if it is a terminal."""
    return printable(text) if stream.isatty() else text


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Choose what stderr shows: errors alone, or also notes and progress, or also the toolkit's log for debugging."""
    VERBOSITY.is_quiet = quiet
    logging.getLogger("toolkit").setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)


def is_quiet() -> bool:
    """Return whether only errors and results are shown."""
    return VERBOSITY.is_quiet


def note(text: str) -> None:
    """Write a note to stderr, unless the user wants quiet.

    Progress bars write there too, with codes of their own, so the stream itself is not guarded.
    """
    if not is_quiet():
        error(text)


def error(text: str) -> None:
    """Write an error to stderr."""
    typer.echo(for_terminal(text, sys.stderr), err=True)
