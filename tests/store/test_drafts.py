"""What killed processes leave beside a cache is deleted by the next one, and what a live process holds is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from toolkit.store import Cache

LONG_AGO = time.time() - 3600
KILLED = """
import os, sys
from toolkit.store import Cache, file
file.schema = lambda: os.kill(os.getpid(), 9)
Cache(sys.argv[1]).create()
"""


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def age(path: Path) -> None:
    for file in (path, *path.rglob("*")):
        os.utime(file, (LONG_AGO, LONG_AGO))


@pytest.mark.parametrize("cache_exists", [False, True])
def test_a_killed_create_leaves_nothing_for_ever(cache_exists: bool, tmp_path: Path) -> None:
    path = tmp_path / "c.duckdb"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    drafts = hidden(tmp_path)
    assert drafts
    if cache_exists:
        Cache(path).create()
        assert hidden(tmp_path) == drafts  # young: their process may be about to lock them
    for name in drafts:
        age(tmp_path / name)
    Cache(path).create()
    assert hidden(tmp_path) == []
    assert Cache(path).suites.names() == []


def test_the_folder_of_a_killed_import_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / ".c.duckdb.import-ab12cd_3"
    folder.mkdir()
    with duckdb.connect(str(folder / "migrated.duckdb")) as con:
        con.execute("CREATE TABLE t (x INTEGER)")
    age(folder)
    Cache(tmp_path / "c.duckdb").create()
    assert hidden(tmp_path) == []


def test_what_a_live_process_holds_or_belongs_to_others_stays(tmp_path: Path) -> None:
    held = tmp_path / ".c.duckdb.0123abcd"
    program = f"import duckdb, sys; con = duckdb.connect({str(held)!r}); print('held', flush=True); sys.stdin.read()"
    others = [".c.duckdb.notes", ".other.duckdb.0123abcd", ".c.duckdb.0123abcde", ".c.duckdb.wal"]
    for name in others:
        (tmp_path / name).write_text("mine")
        age(tmp_path / name)
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        age(held)
        Cache(tmp_path / "c.duckdb").create()
        assert hidden(tmp_path) == sorted([*others, held.name])
        assert process.stdin
        process.stdin.close()
    Cache(tmp_path / "c.duckdb").create()
    assert hidden(tmp_path) == sorted(others)
