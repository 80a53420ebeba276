"""Malformed command lines over all commands: every argument and option in turn gets values that nothing should accept."""

from __future__ import annotations

import inspect
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from toolkit.cli import commands

LONG = "x" * 5000
TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    LONG,
    "\ud800",
    "\udcff",
    "\x1b[2J",
    "..",
    "/",
    "-",
    "é\u202e",
    "0",
    "-1",
    "nan",
    "1e400",
    "a=b",
    "{}",
]
"""Values for anything: names, numbers, settings."""
PLACES = [
    "missing",
    "missing/deeper",
    "folder",
    "empty.duckdb",
    "text.duckdb",
    "text.toml",
    "text.csv",
    "text.jsonl",
    "text.parquet",
    "text.zip",
    "binary.toml",
    "binary.csv",
    "binary.jsonl",
    "fifo.duckdb",
    "fifo.toml",
    "fifo.csv",
    "fifo.jsonl",
    "fifo.zip",
    "folder.duckdb",
    "folder.toml",
    "folder.csv",
    "folder.jsonl",
    "folder.zip",
    "socket.duckdb",
    "loop.duckdb",
    "loop.toml",
    "dangling.duckdb",
    "/dev/null",
    "/dev/zero",
    "/proc/self/mem",
    'it\'s a "name" [x] *.duckdb',
    "unreadable.duckdb",
    "read-only/new.duckdb",
    "text.duckdb/below",
]
"""Paths that are nothing, or something else than what a command expects."""


def make_places(folder: Path) -> None:
    """Make what `PLACES` names."""
    for name in ("empty.duckdb",):
        (folder / name).write_bytes(b"")
    for suffix in ("duckdb", "toml", "csv", "jsonl", "parquet", "zip"):
        (folder / f"text.{suffix}").write_text("certainly\nnot that\n")
        (folder / f"folder.{suffix}").mkdir()
        os.mkfifo(folder / f"fifo.{suffix}")
        (folder / f"binary.{suffix}").write_bytes(bytes(range(256)) * 20)
        (folder / f"loop.{suffix}").symlink_to(folder / f"loop.{suffix}")
        (folder / f"dangling.{suffix}").symlink_to(folder / "nowhere")
        (folder / f"unreadable.{suffix}").write_text("x")
        (folder / f"unreadable.{suffix}").chmod(0)
    (folder / "folder").mkdir()
    (folder / 'it\'s a "name" [x] *.duckdb').write_text("x")
    (folder / "read-only").mkdir(mode=0o500)
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path is short
        bound.bind("socket.duckdb")
        os.chdir(here)


def calls(seed: int, per_parameter: int) -> Iterator[list[str]]:
    """Yield command lines in which one value is malformed; the others are plausible, or are left out."""
    draw = random.Random(seed)
    for name, function in commands().items():
        parameters = inspect.signature(function).parameters
        arguments = [parameter for parameter in parameters.values() if _is_argument(parameter)]
        for parameter in parameters.values():
            for value in draw.sample(TEXTS + PLACES, per_parameter):
                line = [value if other is parameter else _plausible(other.name) for other in arguments]
                if parameter not in arguments:
                    line += _option(parameter.name, value)
                yield [*name.split(), *line]
        yield [*name.split(), *draw.sample(TEXTS + PLACES, 4)]


def _is_argument(parameter: inspect.Parameter) -> bool:
    kind = type(getattr(parameter.annotation, "__metadata__", [None])[0]).__name__
    return kind == "ArgumentInfo"


def _plausible(name: str) -> str:
    return {"query": "SELECT 1", "question": "addition/0", "folder": "missing", "source": "missing.csv"}.get(name, "scripted")


def _option(name: str, value: str) -> list[str]:
    words = {"settings": "--set", "allow_stop": "--allow-stop", "sample_": "--sample"}
    return [words.get(name, f"--{name.rstrip('_').replace('_', '-')}"), value]
