"""Listing takes anything for what it is; pruning and compacting lose nothing that a suite or a run refers to."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.content import content
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from tests.worker import make_suite
from toolkit.cli.common import app
from toolkit.core.errors import CacheError
from toolkit.core.files import content_sha256
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.store import SCHEMA_VERSION, Batch, Cache
from toolkit.suites.resolving import reread
from toolkit.suites.suite import Suite

FEWER = [{"name": name, "limit": 4} for name in ("addition", "geography")]


def toolkit(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "300"})


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads(toolkit("cache", "list", str(folder), "--format", "json").stdout)
    return {Path(row["file"]).name: row for row in rows}


def filled(config: Any, cache: Cache, folder: Path, tag: str = "") -> Suite:
    suite = resolve_config(config, folder)
    answers = right_answers(suite)
    generate(
        suite,
        cache,
        Workspace(folder, folder),
        engine=scripted(lambda model, prompt: answers(model, prompt) + tag),
        encode=encode,
    )
    return suite


def test_a_list_says_what_every_file_is(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "random.duckdb").write_bytes(b"junk" * 5000)
    (tmp_path / "empty.duckdb").write_bytes(b"")
    (tmp_path / "truncated.duckdb").write_bytes(cache.path.read_bytes()[:500_000])
    with sqlite3.connect(tmp_path / "sqlite.duckdb") as con:
        con.execute("CREATE TABLE t (x)")
    con.close()
    found = listed(tmp_path)
    assert sorted(found) == ["empty.duckdb", "random.duckdb", "scripted.duckdb", "sqlite.duckdb", "truncated.duckdb"]
    sound = found.pop("scripted.duckdb")
    assert (sound["suites"], sound["nodes"], sound["note"]) == (["scripted"], 24 * 6, "")
    assert sound["bytes"] == cache.path.stat().st_size
    for row in found.values():
        assert row["nodes"] is None
        assert "cannot be opened" in row["note"] or "not a cache" in row["note"] or "damaged" in row["note"], row
    shown = toolkit("cache", "list", str(tmp_path))
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == 2 + 5


def test_a_list_mentions_what_lies_beside_a_cache(cache: Cache, tmp_path: Path) -> None:
    cache.generations.spool.put(Batch())
    cache.path.with_name("scripted.duckdb.wal").write_bytes(b"")
    cache.path.with_name("scripted.duckdb.blocks").write_bytes(b"")
    (tmp_path / ".scripted.duckdb.draft").write_bytes(b"half")
    (tmp_path / "scripted.duckdb.v1.backup").write_bytes(b"old")
    note = listed(tmp_path)["scripted.duckdb"]["note"]
    for word in (
        "scripted.duckdb.wal",
        "scripted.duckdb.blocks",
        "1 finished batches",
        ".scripted.duckdb.draft",
        "backup scripted.duckdb.v1.backup",
    ):
        assert word in note


def test_a_list_names_who_holds_a_cache(cache: Cache, tmp_path: Path) -> None:
    hold = f"import duckdb, sys; con = duckdb.connect({str(cache.path)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        assert f"held by process {process.pid}" in listed(tmp_path)["scripted.duckdb"]["note"]
        assert process.stdin
        process.stdin.close()


def test_info_shows_suites_models_engines_and_tables(cache: Cache) -> None:
    shown = toolkit("cache", "info", str(cache.path)).stdout
    for word in (
        f"schema version: {SCHEMA_VERSION}",
        "created by: hierrouter-toolkit",
        "144 of 144",
        "made/up",
        "float32",
        "scripted 0.",
    ):
        assert word in shown
    rows = {row["table"]: row for row in json.loads(toolkit("cache", "info", str(cache.path), "--format", "json").stdout)}
    for table, row in rows.items():
        assert row["rows"] == cache.arrow(f"FROM {table}").num_rows
        assert bool(row["bytes"]) == bool(row["rows"])
    with pytest.raises(CacheError, match="toolkit cache list"):
        toolkit("cache", "info", "none.duckdb")


@pytest.fixture
def superseded(cache: Cache, suite: Suite, tmp_path: Path) -> Suite:
    """The newer suite of a cache: fewer questions, another system prompt for one model, another encoder, other prices."""
    models = [model.model_dump(exclude_none=True) for model in suite.config.models]
    models[0] |= {"system_prompt": "Be brief."}
    newer = filled(suite_config(benchmarks=FEWER, models=models), cache, tmp_path, "!")
    repriced = newer.config.model_copy(
        update={"models": (newer.config.models[0].model_copy(update={"base_rate": 9.0}), newer.config.models[1])}
    )
    current = reread(newer, repriced)
    cache.suites.record(current)
    cache.suites.compute_cost_unit(current.key)
    return current


VIEWS = ("transitions", "paths", "progress", "current_suites")


def seen(cache: Cache) -> list[list[dict[str, Any]]]:
    return [cache.arrow(f"FROM {view} ORDER BY ALL").to_pylist() for view in VIEWS]


def test_pruning_keeps_all_that_a_current_suite_reads_and_nothing_else(superseded: Suite, cache: Cache, tmp_path: Path) -> None:
    filled(suite_config(name="other", benchmarks=FEWER[:1]), cache, tmp_path)
    before, digest = seen(cache), content_sha256(cache.path)
    counted = {row.table: row for row in cache.housekeeping.unused()}
    assert counted["suites"].unused == 2
    assert counted["generations"].unused > 0
    shown = toolkit("cache", "prune", str(cache.path))
    assert "nothing was changed" in shown.stderr
    assert content_sha256(cache.path) == digest
    done = toolkit("cache", "prune", str(cache.path), "--yes")
    backup = cache.path.with_name("scripted.duckdb.pruned.backup")
    assert str(backup) in done.stderr
    assert content_sha256(backup) == digest
    assert seen(cache) == before
    assert not any(finding.wrong for finding in verify(cache))
    for table, row in counted.items():
        assert cache.arrow(f"FROM {table}").num_rows == row.rows - row.unused
    assert not any(row.unused for row in cache.housekeeping.unused())
    # what is left is what the two suites need: as much as in a cache that never held anything else
    alone = Cache(tmp_path / "alone.duckdb")
    for name in ("other", "scripted"):
        config = cache.suites.get(name)
        assert config
        filled(config.config, alone, tmp_path, "!" if name == "scripted" else "")
    for table in ("suites", "suite_questions", "nodes", "generations", "questions", "models", "embeddings"):
        assert cache.arrow(f"FROM {table}").num_rows == alone.arrow(f"FROM {table}").num_rows, table
    report = generate(
        superseded, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(superseded)), encode=encode
    )
    assert (report.generated, report.shared) == (0, 0)
    assert "nothing to prune" in toolkit("cache", "prune", str(cache.path), "--yes").stderr


def test_pruning_keeps_runs_and_their_suites_unless_told(cache: Cache, suite: Suite, superseded: Suite) -> None:
    cache.runs.add({"run": "r", "suite": suite.key, "algorithm": "ppo", "alpha": 0.1, "seed": 0})
    cache.runs.add({"run": "new", "suite": superseded.key, "algorithm": "ppo", "alpha": 0.1, "seed": 0})
    for run in ("r", "new", "gone"):
        rows = [{"run": run, "split": "test", "alpha": 0.1}]
        cache.runs.add_evaluation(run, "test", rows, [{"run": run, "node": suite.key, "action": "a"}])
    before = content(cache)
    told = toolkit("cache", "prune", str(cache.path), "--yes")
    assert "--runs" in told.stderr
    assert cache.arrow("SELECT run FROM runs ORDER BY run")["run"].to_pylist() == ["new", "r"]
    assert cache.arrow("SELECT run FROM decisions ORDER BY run")["run"].to_pylist() == ["new", "r"]
    assert content(cache)["nodes"] == before["nodes"]
    toolkit("cache", "prune", str(cache.path), "--yes", "--runs")
    for table in ("runs", "evaluations", "decisions"):
        assert cache.arrow(f"SELECT run FROM {table}")["run"].to_pylist() == ["new"]
    assert len(content(cache)["nodes"]) < len(before["nodes"])
    assert not any(finding.wrong for finding in verify(cache))


def test_embeddings_of_whole_contexts_are_kept(suite: Suite, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.duckdb")
    filled(suite_config(features={"text": "context"}), cache, tmp_path)
    had = cache.arrow("FROM embeddings").num_rows
    assert had == 24 * 3
    filled(suite_config(name="newest"), cache, tmp_path)
    assert not any(row.unused for row in cache.housekeeping.unused())
    filled(suite_config(features={"text": "newest"}), cache, tmp_path)
    assert {row.table: row.unused for row in cache.housekeeping.unused()}["embeddings"] == 24 * 2  # the contexts of one answer


def test_vacuum_keeps_every_row_and_gives_room_back(cache: Cache, tmp_path: Path) -> None:
    for query in (
        "CREATE TABLE ballast AS SELECT uuid() AS u FROM range(1000000)",
        "CREATE TABLE behind_it AS SELECT uuid() AS u FROM range(100000)",
        "DROP TABLE ballast",
    ):
        with cache.write() as con:
            con.execute(query)
    before, size = content(cache), cache.path.stat().st_size
    done = toolkit("cache", "vacuum", str(cache.path))
    assert done.exit_code == 0
    assert cache.path.stat().st_size < size / 2
    assert content(cache) == before
    assert not any(finding.wrong for finding in verify(cache))
    storage = cache.arrow("SELECT tags['storage_version'] AS v FROM duckdb_databases() WHERE path IS NOT NULL")["v"][0].as_py()
    assert storage.startswith("v1.2.0")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("where", ["rewrite.digests", "rewrite.shutil.copymode", "os.replace"])
def test_a_killed_vacuum_leaves_the_file_and_the_next_clears_up(where: str, cache: Cache, tmp_path: Path) -> None:
    before = content_sha256(cache.path)
    program = (
        "import os, sys\nfrom toolkit.store import Cache, rewrite\n"
        f"{where} = lambda *a, **k: os._exit(9)\nCache(sys.argv[1]).housekeeping.vacuum()"
    )
    assert subprocess.run([sys.executable, "-c", program, str(cache.path)]).returncode == 9
    assert content_sha256(cache.path) == before
    assert ".scripted.duckdb.draft" in listed(tmp_path)["scripted.duckdb"]["note"]
    cache.housekeeping.vacuum()
    assert listed(tmp_path)["scripted.duckdb"]["note"] == ""


def test_compacting_while_another_process_generates_loses_no_row(tmp_path: Path) -> None:
    path = tmp_path / "c.duckdb"
    command = [sys.executable, "-m", "tests.worker", str(path), "--seconds", "0.2"]
    vacuums = 0
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        while process.poll() is None:
            if path.exists():
                Cache(path).housekeeping.vacuum()
                vacuums += 1
            time.sleep(0.05)
    assert process.returncode == 0
    assert vacuums >= 3
    suite, undisturbed = make_suite(tmp_path, 8), Cache(tmp_path / "whole.duckdb")
    generate(suite, undisturbed, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    assert content(Cache(path)) == content(undisturbed)


@pytest.mark.parametrize("name", ["theirs", "cache", "main", "temp", "system", "memory", "select"])
def test_a_cache_may_have_any_name(name: str, cache: Cache, tmp_path: Path) -> None:
    named = Cache(tmp_path / f"{name}.duckdb")
    named.transfer.merge(cache.path)
    assert not any(named.transfer.merge(cache.path).values())
    named.housekeeping.vacuum()
    assert content(named) == content(cache)


@pytest.mark.skipif(os.sep != "/", reason="there, a backslash separates folders")
def test_a_name_with_a_backslash_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="backslash"):
        Cache(tmp_path / "a\\b.duckdb").create()
    assert not list(tmp_path.iterdir())


def test_a_removed_suite_leaves_what_others_share_and_what_nobody_asked_to_delete(tmp_path: Path) -> None:
    """Two suites share questions and models; an earlier version of the one that stays has rows that `prune` would delete."""
    cache = Cache(tmp_path / "both.duckdb")
    filled(suite_config(), cache, tmp_path)
    filled(suite_config(benchmarks=FEWER), cache, tmp_path)
    expected = content(cache)
    assert sum(table.unused for table in cache.housekeeping.unused())
    filled(suite_config(name="wider", benchmarks=[{"name": "addition", "limit": 20}]), cache, tmp_path)
    both = content(cache)
    assert both != expected
    for options in ([], ["--dry-run"], ["--dry-run", "--yes"]):
        assert "nothing was changed" in toolkit("cache", "remove-suite", "wider", str(cache.path), *options).output
        assert content(cache) == both
    toolkit("cache", "remove-suite", "wider", str(cache.path), "--yes")
    assert content(cache) == expected
    assert not any(finding.wrong for finding in verify(cache))
    with pytest.raises(CacheError, match="did you mean 'scripted'"):
        toolkit("cache", "remove-suite", "scriptd", str(cache.path))
