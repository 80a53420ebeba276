"""Runs the code of a page in a folder, as a reader does from top to bottom.

Commands run in this process, which has loaded the libraries; those that need a shell, or another program, in one of their own.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from typer.testing import CliRunner

from tests.docs.page import NOT_RUN, ROOT, Block, Fence, blocks
from toolkit.cli import app
from toolkit.core.errors import CheckpointError, ToolkitError
from toolkit.core.registry import ALGORITHMS, BASELINES, BENCHMARKS, ENGINES, METRICS

PREPARED = ("toolkit import reference", "toolkit train quickstart", "toolkit evaluate quickstart")
"""Commands with which many pages begin: they run once, and pages get copies of what they leave."""
TRAINS = re.compile(r"\btoolkit (?:train|evaluate|sweep|report|route)\b|\bheadline\b|\b(?:train|sweep|evaluate)\(|\.fit\(")
"""Code whose results, and those of what follows, depend on the processor in their last digits."""
NEEDS_SHELL = re.compile(r"""[|&;<>()*?$`~\"]""")
"""What a shell interprets, outside of quotes."""


class Result(NamedTuple):
    """What code printed, and whether a router was trained before."""

    block: Block
    printed: list[str]
    after_training: bool


class PageError(Exception):
    """Code of a page failed."""


def lines_of(text: str) -> list[str]:
    """Return the lines of an output, without blank ones at both ends."""
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def command_lines(body: str) -> list[str]:
    """Return the commands of a block, one a line; a backslash at the end continues a line."""
    return [line for line in body.replace("\\\n", " ").splitlines() if shlex.split(line, comments=True)]


def toolkit_words(line: str) -> list[str] | None:
    """Return the arguments of a plain call of `toolkit`, or None if the line needs a shell."""
    program, *words = shlex.split(line, comments=True)
    unquoted = re.sub(r"'[^']*'|\"[^\"$`\\]*\"|\s#.*", "", line)
    return words if program == "toolkit" and not NEEDS_SHELL.search(unquoted) else None


def run_toolkit(words: list[str]) -> str:
    """Run a command in this process, and return what it writes to stdout."""
    done = CliRunner().invoke(app, words, prog_name="toolkit")
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code:
        raise PageError(f"toolkit {shlex.join(words)} ends with exit code {done.exit_code}:\n{done.output}")
    return done.stdout


def run_shell(line: str) -> str:
    """Run a line in a shell of its own, and return what it writes to stdout."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise PageError(f"{line}\nends with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def run_line(line: str) -> str:
    """Run a line of a shell block."""
    words = toolkit_words(line)
    return run_shell(line) if words is None else run_toolkit(words)


class Snapshots:
    """Folders as the `PREPARED` commands leave them, which processes share; made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def output(self, number: int) -> str:
        """Return what a command prints."""
        return (self._folder / f"{number}.txt").read_text("utf-8")

    def make(self, number: int) -> None:
        """Run the commands up to a number, unless that has been done."""
        if number < 0:
            return
        with FileLock(self._folder / "lock"):
            self._make(number)

    def _make(self, number: int) -> None:
        if number < 0 or (self._folder / f"{number}.txt").exists():
            return
        self._make(number - 1)
        folder = self._folder / str(number)
        begin(folder)
        if number:
            self.restore(number - 1, folder)
        with contextlib.chdir(folder):
            output = run_line(PREPARED[number])
        (self._folder / f"{number}.txt").write_text(output, "utf-8")

    def restore(self, number: int, folder: Path) -> None:
        """Copy what the commands up to a number leave into a folder."""
        left_out = shutil.ignore_patterns("weights")  # a link, which every folder has
        shutil.copytree(self._folder / str(number), folder, dirs_exist_ok=True, ignore=left_out)


def begin(folder: Path) -> None:
    """Make the folder of a reader who has downloaded the weights before, if anybody on this machine has."""
    weights = ROOT / "cache/weights"
    weights.mkdir(exist_ok=True)
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    (folder / "cache/weights").unlink(missing_ok=True)
    (folder / "cache/weights").symlink_to(weights.resolve(), target_is_directory=True)


class Runner:
    """Runs the blocks of one page, one after the other, in the current folder."""

    def __init__(self, page: Path, snapshots: Snapshots) -> None:
        self._page = page
        self._snapshots = snapshots
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._prepared: int | None = 0
        """How many of the prepared commands the page has begun with; None once it has gone on to others."""
        self.after_training = False

    def run(self, code: Fence) -> str:
        """Run a block, or write the file that it is, and return what is printed."""
        try:
            printed = self._run(code)
        except CheckpointError:
            raise
        except (ToolkitError, PageError) as error:
            raise PageError(f"{self._page.relative_to(ROOT)}:{code.line}: {error}") from error
        self.after_training |= code.title is None and bool(TRAINS.search(code.body))
        return printed

    def _run(self, code: Fence) -> str:
        if code.title is not None:
            Path(code.title).parent.mkdir(parents=True, exist_ok=True)
            Path(code.title).write_text(code.body, "utf-8")
            return ""
        language = NOT_RUN.get(code.language, code.language)
        if language == "sh":
            return "".join(map(self._run_command, command_lines(code.body)))
        self._go_on()
        return run_toolkit(["sql", code.body]) if language == "sql" else self._run_python(code)

    def _run_command(self, line: str) -> str:
        number = self._prepared
        if number is not None and number < len(PREPARED) and shlex.split(line, comments=True) == PREPARED[number].split():
            self._snapshots.make(number)
            self._prepared = number + 1
            return self._snapshots.output(number)
        self._go_on()
        return run_line(line)

    def _go_on(self) -> None:
        """Get what the prepared commands leave, before something else runs."""
        if self._prepared:
            self._snapshots.restore(self._prepared - 1, Path.cwd())
        self._prepared = None

    def _run_python(self, code: Fence) -> str:
        printed = io.StringIO()
        program = compile("\n" * code.line + code.body, str(self._page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(program, self._names)
        return printed.getvalue()


@contextlib.contextmanager
def reader(folder: Path) -> Iterator[None]:
    """Work in a folder as a reader does; what code registers or imports there ends with the block."""
    registries = (ALGORITHMS, BASELINES, BENCHMARKS, ENGINES, METRICS)
    loaded = [dict(registry._loaded) for registry in registries]
    environment, modules, path = dict(os.environ), set(sys.modules), list(sys.path)
    begin(folder)
    try:
        with contextlib.chdir(folder):
            for variable in ("TOOLKIT_CACHE", "TOOLKIT_DATA"):
                os.environ.pop(variable, None)
            sys.path.insert(0, str(folder))
            yield
    finally:
        sys.path[:] = path
        for registry, items in zip(registries, loaded, strict=True):
            registry._loaded = items
        for name in set(sys.modules) - modules:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(folder):
                del sys.modules[name]
        os.environ.clear()
        os.environ.update(environment)


def results(page: Path, folder: Path, snapshots: Snapshots, *, long: bool = False) -> Iterator[Result]:
    """Run a page in a folder, and yield what its code prints.

    Args:
        page: The page.
        folder: The folder, which is empty.
        snapshots: What the commands with which many pages begin leave.
        long: Whether to run also the code that no test runs, where the page shows its output.
    """
    with reader(folder):
        runner = Runner(page, snapshots)
        for block in blocks(page.read_text("utf-8")):
            if block.is_run or block.code.title or (long and block.is_long and block.output):
                yield Result(block, lines_of(runner.run(block.code)), runner.after_training)
