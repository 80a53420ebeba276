"""Paths that are no file, or another one than a command expects: pipes, sockets, loops, folders, devices."""

import os
import socket
from pathlib import Path

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
    (folder / "empty.duckdb").touch()
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
