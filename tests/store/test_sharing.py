"""Several processes on one cache: they take turns, nobody waits for ever, and no row is lost or doubled."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import SUITE, toolkit
from tests.content import content
from tests.scripted import encode, right_answers, scripted
from tests.worker import make_suite
from toolkit.core.errors import CacheBusyError, CacheError
from toolkit.core.progress import NoProgress
from toolkit.core.workspace import Workspace
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation import state
from toolkit.generation.generate import generate
from toolkit.generation.state import Shard
from toolkit.replay.table import load_table
from toolkit.report.status import render
from toolkit.store import KEYS, Batch, Cache, generations
from toolkit.suites.suite import Suite

ROOT = Path(__file__).parents[2]
HOLD = "import duckdb, sys; con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'r'); print('held', flush=True); input()"


@contextmanager
def holding(cache: Cache, mode: str) -> Iterator[subprocess.Popen[str]]:
    """Another process with the file open, as a notebook has it: `r` for reading, `w` for writing."""
    command = [sys.executable, "-c", HOLD, str(cache.path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.stdin.write("\n")
            process.stdin.close()
            process.wait()


class HoldAfter(NoProgress):
    """Lets another process open the file after so many batches, once."""

    def __init__(self, cache: Cache, mode: str, batches: int) -> None:
        self.holder = holding(cache, mode)
        self.left = batches
        self.process: subprocess.Popen[str] | None = None

    def advance(self, nodes: int) -> None:
        self.left -= 1
        if self.left == 0:
            self.process = self.holder.__enter__()

    def release(self) -> None:
        self.holder.__exit__(None, None, None)


def run(suite: Suite, path: Path, wait: float = 60, **options: Any) -> Cache:
    cache = Cache(path, wait=wait)
    generate(suite, cache, Workspace(path.parent, path.parent), engine=scripted(right_answers(suite)), encode=encode, **options)
    return cache


def assert_sound(cache: Cache) -> None:
    """No key occurs twice."""
    for table, key in KEYS.items():
        columns = ", ".join(key)
        assert not cache.arrow(f"SELECT {columns} FROM {table} GROUP BY ALL HAVING count(*) > 1").num_rows, table


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAX_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(state, "MAX_WAIT_SECONDS_BLOCKED", 0.0)
    monkeypatch.setattr(generations, "MAX_PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize("mode", ["r", "w"])
def test_generate_goes_on_to_the_end_while_a_notebook_holds_the_file(
    mode: str, suite: Suite, tmp_path: Path, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(suite, tmp_path / "whole.duckdb")
    path = tmp_path / "c.duckdb"
    progress = HoldAfter(Cache(path), mode, batches=3)
    with pytest.raises(CacheBusyError) as caught:
        run(suite, path, wait=0.1, progress=progress)
    assert progress.process
    assert f"process {progress.process.pid} (python" in str(caught.value)
    assert f"process {progress.process.pid} (python" in caplog.text  # said when it began, too
    progress.release()
    cache = Cache(path)
    assert cache.arrow("FROM nodes WHERE depth > 0").num_rows < 24 * 6
    assert "finished batches wait in" in render(cache, None)

    class Never(ScriptedEngine):
        def generate(self, prompts: Any) -> Any:
            raise AssertionError("everything was spooled")

    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=Never, encode=encode)
    assert report.generated == 0
    assert content(cache) == content(whole)
    assert not cache.generations.spool.folder.exists()


def test_what_is_spooled_is_taken_in_as_soon_as_the_file_is_free(suite: Suite, tmp_path: Path, impatient: None) -> None:
    cache = Cache(tmp_path / "c.duckdb", wait=0.1)
    progress = HoldAfter(cache, "w", batches=2)
    calls = iter(range(1000))

    class Releasing(ScriptedEngine):
        def generate(self, prompts: Any) -> Any:
            if next(calls) == 6:
                assert cache.generations.spool.files()
                progress.release()
            return super().generate(prompts)

    script = right_answers(suite)
    generate(
        suite,
        cache,
        Workspace(tmp_path, tmp_path),
        progress=progress,
        encode=encode,
        engine=lambda e, m, w: Releasing(e, m, w, script),
    )
    assert not cache.generations.spool.files()
    assert content(cache) == content(run(suite, tmp_path / "whole.duckdb"))


def test_a_spooled_batch_taken_in_twice_changes_nothing(cache: Cache) -> None:
    before = content(cache)
    nodes = cache.arrow("FROM nodes").to_pylist()
    cache.generations.spool.put(Batch(generations=cache.arrow("FROM generations").to_pylist(), nodes=nodes))
    assert cache.generations.drain() == 1
    assert content(cache) == before


def test_a_broken_spool_file_is_named_and_kept(cache: Cache) -> None:
    cache.generations.spool.folder.mkdir()
    broken = cache.generations.spool.folder / "1-1.json"
    broken.write_text('{"generations": [')
    with pytest.raises(CacheError, match=r"1-1\.json is not a spooled batch"):
        cache.generations.drain()
    assert broken.exists()


def test_shards_together_are_the_whole(suite: Suite, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        cache = run(suite, tmp_path / "c.duckdb", shard=Shard(number, 3))
        done = sum(row.done for row in cache.suites.progress(suite.name))
        assert done < 24 * 6 or number == 3
    assert content(cache) == content(run(suite, tmp_path / "whole.duckdb"))


def test_a_finished_shard_leaves_the_rest_to_others_and_is_no_failure(llama: Path, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SUITE.format(llama=llama, encoder=encoder))
    for shard, said in (("1/2", r"(\d+) of 72 nodes are left to the other shards"), ("2/2", r"0 failed, in .* s\.")):
        done = toolkit(tmp_path, "generate", "small.toml", "--shard", shard)
        assert done.returncode == 0
        assert re.search(said, done.stdout), done.stdout
        assert "--retry" not in done.stderr


@pytest.mark.parametrize("shards", [None, ("1/2", "2/2")])
def test_two_processes_and_readers_share_a_file(shards: tuple[str, str] | None, tmp_path: Path) -> None:
    suite, path = make_suite(tmp_path, 16), tmp_path / "c.duckdb"
    workers = []
    for n in range(2):
        shard = ["--shard", shards[n]] if shards else []
        command = [sys.executable, "-m", "tests.worker", str(path), "--questions", "16", "--seconds", "0.05", *shard]
        workers.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
    reader, reads, rows = Cache(path), 0, 0
    while any(worker.poll() is None for worker in workers):
        if path.exists():
            found = reader.arrow("FROM nodes WHERE depth > 0").num_rows
            assert found >= rows
            reads, rows = reads + 1, found
            assert "scripted" in render(reader, None) or not rows
        time.sleep(0.05)
    for worker in workers:
        _, said = worker.communicate()
        assert worker.returncode == 0, said
    assert reads > 3
    assert_sound(reader)
    assert load_table(reader, suite).quality.shape == (48, 7)
    assert content(reader) == content(run(suite, tmp_path / "whole.duckdb"))
