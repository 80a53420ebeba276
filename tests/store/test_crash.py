"""Whatever ends a run, the cache opens, holds every committed row, and the same command continues."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest

from tests.content import content
from tests.scripted import encode, right_answers, scripted
from tests.soak.kills import kill
from tests.worker import make_suite
from toolkit.core.errors import CacheError
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.store import Cache
from toolkit.store.checkpoint import HEADERS, checkpoint
from toolkit.suites.suite import Suite


def run(suite: Suite, path: Path, files: Path) -> Cache:
    cache = Cache(path)
    generate(suite, cache, Workspace(files, files), engine=scripted(right_answers(suite)), encode=encode)
    return cache


def test_killed_ten_times_at_random_moments_it_continues_to_the_same_content(tmp_path: Path) -> None:
    killed = kill(tmp_path, 10)
    assert killed.kills >= 10
    assert sum(1 for count in killed.moments if count) >= 2  # all over the work, not at one point of it


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A small file system of its own."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_a_reason_and_continues_with_room(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, 24)
    with mounted(tmp_path / "small", "3200k") as small:
        cache = Cache(small / "c.duckdb")
        with pytest.raises(CacheError, match="disk full"):
            run(suite, cache.path, tmp_path)
        held = cache.arrow("FROM nodes WHERE depth > 0").num_rows
        assert 0 < held < 72 * 6
        subprocess.run(["mount", "-o", "remount,size=50m", str(small)], check=True)
        run(suite, cache.path, tmp_path)
        assert content(cache) == content(run(suite, tmp_path / "whole.duckdb", tmp_path))


def test_a_read_only_folder_can_be_read_and_says_so_when_written(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, 4)
    with mounted(tmp_path / "small", "20m") as small:
        cache = run(suite, small / "c.duckdb", tmp_path)
        before = content(cache)
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        assert content(cache) == before
        run(suite, cache.path, tmp_path)  # a finished suite needs no writing
        with pytest.raises(CacheError, match=r"c\.duckdb"):
            run(make_suite(tmp_path, 5), cache.path, tmp_path)
        with pytest.raises(CacheError, match="cannot be created"):
            Cache(small / "new.duckdb").create()
        assert content(cache) == before


def test_a_wal_left_behind_is_taken_in(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, 4)
    cache = run(suite, tmp_path / "c.duckdb", tmp_path)
    program = (
        "import duckdb, os, sys; con = duckdb.connect(sys.argv[1]); "
        "con.execute(\"INSERT INTO meta VALUES ('left', 'behind')\"); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(cache.path)])
    assert cache.path.with_name("c.duckdb.wal").exists()
    assert cache.arrow("FROM meta WHERE key = 'left'").num_rows == 1
    with cache.write() as con:
        con.execute("DELETE FROM meta WHERE key = 'left'")
    assert not cache.path.with_name("c.duckdb.wal").exists()


class Killed:
    """A connection that dies in the middle of a checkpoint: one page of the metadata block is new, the header old."""

    def __init__(self, con: duckdb.DuckDBPyConnection, path: Path) -> None:
        self.con, self.path = con, path
        self.left: dict[Path, bytes] = {}

    def execute(self, query: str) -> duckdb.DuckDBPyConnection:
        if query != "CHECKPOINT":
            return self.con.execute(query)
        beside = [self.path, *(self.path.with_name(self.path.name + ending) for ending in (".wal", ".blocks"))]
        self.left = {path: path.read_bytes() for path in beside}
        self.con.execute(query)
        first = slice(HEADERS, HEADERS + 4096)
        torn = bytearray(self.left[self.path])
        torn[first] = self.path.read_bytes()[first]
        assert torn != self.left[self.path]
        self.left[self.path] = bytes(torn)
        raise KeyboardInterrupt


def test_a_metadata_block_half_written_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = run(make_suite(tmp_path, 4), tmp_path / "c.duckdb", tmp_path)
    before, killed = content(cache), list[Killed]()

    def interrupted(con: Any, file: Any, path: Path) -> None:
        killed.append(Killed(con, path))
        checkpoint(cast(Any, killed[0]), file, path)

    with monkeypatch.context() as patch:
        patch.setattr("toolkit.store.file.checkpoint", interrupted)
        with suppress(KeyboardInterrupt), cache.write() as con:
            con.execute("INSERT INTO meta VALUES ('left', 'behind')")
    for path, held in killed[0].left.items():
        path.write_bytes(held)
    copy = cache.path.with_name("c.duckdb.blocks")
    kept = copy.read_bytes()
    with pytest.raises(duckdb.Error, match="checksum"):
        duckdb.connect(str(cache.path), read_only=True)
    assert cache.arrow("FROM meta WHERE key = 'left'").num_rows == 1
    assert not copy.exists()
    with cache.write() as con:
        con.execute("DELETE FROM meta WHERE key = 'left'")
    copy.write_bytes(kept)  # the checkpoint came to its end, and the copy is of an earlier state
    assert content(cache) == before
    assert not copy.exists()


def test_sigterm_stops_after_the_batch_and_continues(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.scripted import encode, right_answers; from tests import worker;"
        "from toolkit.cli.progress_bar import ProgressBar; from toolkit.generation import generate as g;"
        "old = g.generate; worker.generate = lambda *a, **k: (b := ProgressBar(1)).__enter__() and old(*a, **k, progress=b);"
        "worker.work(Path(sys.argv[1]), 16, 0.05)"
    )
    path = tmp_path / "c.duckdb"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and (not path.exists() or not Cache(path).arrow("FROM nodes WHERE depth > 0").num_rows):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Stopping after the work in flight" in said
    assert 0 < Cache(path).arrow("FROM nodes WHERE depth > 0").num_rows < 48 * 6
    suite = make_suite(tmp_path, 16)
    assert content(run(suite, path, tmp_path)) == content(run(suite, tmp_path / "whole.duckdb", tmp_path))
