"""Consent to run the Python of a benchmark file: asked once for each content of a file, and remembered."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from toolkit.core.text import printable

TrustOption = Annotated[bool, typer.Option("--trust", help="Run the Python of the suite's own benchmark files without asking.")]


def consent(trust: bool) -> Callable[[Path, str], bool]:
    """Return the function that decides whether a Python file may run, given the SHA-256 of its content.

    It may if the user has said so: now by `--trust` or on the terminal, for a file of the same content before, or for all files
    by `$TOOLKIT_TRUST`. What was said of a file is remembered until the file changes.
    """

    def decide(path: Path, sha256: str) -> bool:
        if os.environ.get("TOOLKIT_TRUST") == "1" or sha256 in _remembered():
            return True
        if not (trust or _ask(path)):
            return False
        _remember(sha256)
        return True

    return decide


def trusted_file() -> Path:
    """Return the file that lists the SHA-256 of every Python file that the user has allowed."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toolkit" / "trusted"


def _ask(path: Path) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    question = f"{printable(str(path))} is a benchmark in Python: to load it is to run its code with your rights. Run it?"
    return typer.confirm(question, err=True)


def _remembered() -> list[str]:
    try:
        return trusted_file().read_text("utf-8").split()
    except (OSError, ValueError):
        return []


def _remember(sha256: str) -> None:
    with contextlib.suppress(OSError):  # without a home, the user is asked again
        trusted_file().parent.mkdir(parents=True, exist_ok=True)
        with trusted_file().open("a", encoding="utf-8") as file:
            file.write(f"{sha256}\n")
