"""A terminal gets text from outside escaped; a file or a pipe gets it as it is."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from toolkit.core.text import printable

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202eevil\x9b31m"
"""What sets a terminal's title, clears it, and hides text."""
HARMFUL = ("\x1b", "\x07", "\u202e", "\x9b")


@pytest.fixture(scope="module")
def folder(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "cache").mkdir()
    shutil.copy(whole, folder / "cache/scripted.duckdb")
    with duckdb.connect(str(folder / "cache/scripted.duckdb")) as con:
        con.execute("UPDATE generations SET response = ? || response, engine = ?", [HOSTILE, HOSTILE])
        con.execute("UPDATE suites SET name = ?", [f"scripted{HOSTILE}"])
        con.execute("UPDATE questions SET prompt = ? || prompt, benchmark = ? || benchmark", [HOSTILE, HOSTILE])
    return folder


def run(folder: Path, arguments: list[str], *, terminal: bool) -> str:
    """Run a command, its output on a terminal or on a pipe; return all of it."""
    command = [sys.executable, "-c", "from toolkit.cli import main; main()", *arguments]
    environment = os.environ | {"COLUMNS": "200", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    if not terminal:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
        return (done.stdout + done.stderr).decode()
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = b""
        try:
            while chunk := os.read(ours, 65536):
                output += chunk
        except OSError:  # the other end is closed
            pass
        os.close(ours)
    assert process.returncode is not None
    return output.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ["sql", "SELECT response FROM generations LIMIT 2"],
        ["sql", "SELECT response FROM generations LIMIT 2", "--format", "json"],
        ["sql", "SELECT response FROM generations LIMIT 2", "--format", "csv"],
        ["sql", "SELECT response FROM generations LIMIT 2", "--format", "markdown"],
        ["show", f"{HOSTILE}addition/1"],
        ["status"],
        ["cache", "info"],
        ["cache", "list"],
        ["sql", f'FROM "{HOSTILE}"'],
        ["train", HOSTILE],
    ],
    ids=lambda arguments: printable(" ".join(arguments))[:30],
)
def test_what_a_terminal_would_obey_is_escaped_there_and_nowhere_else(arguments: list[str], folder: Path) -> None:
    on_terminal = run(folder, arguments, terminal=True)
    assert not [code for code in HARMFUL if code in on_terminal], on_terminal
    assert "\\x1b" in on_terminal or "\\u001b" in on_terminal  # JSON has an escape of its own
    in_pipe = run(folder, arguments, terminal=False)
    assert "\x1b" in in_pipe or json.dumps(HOSTILE)[1:6] in in_pipe, in_pipe


def test_parquet_is_not_written_to_a_terminal(folder: Path) -> None:
    assert "--output FILE" in run(folder, ["sql", "SELECT 1", "--format", "parquet"], terminal=True)
