from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.errors import CacheBusyError, CacheError
from toolkit.core.hashing import text_key
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.store import SCHEMA_VERSION, STORAGE_VERSION, Cache, read_tables, schema_comments
from toolkit.suites.resolving import reread
from toolkit.suites.suite import Suite


def test_every_table_view_and_column_has_a_comment() -> None:
    overview = schema_comments().to_pylist()
    assert {row["name"] for row in overview} >= {"transitions", "paths", "progress", "meta", "nodes", "decisions"}
    for row in overview:
        assert row["meaning"], row["name"]
        for column in schema_comments(row["name"]).to_pylist():
            assert column["meaning"], f"{row['name']}.{column['column']}"


def test_the_file_is_of_the_storage_version_that_older_versions_read(cache: Cache) -> None:
    facts = cache.arrow("SELECT key, value FROM meta").to_pylist()
    assert {"key": "storage_version", "value": STORAGE_VERSION} in facts
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{cache.path}' AS c (READ_ONLY)")
        tags = con.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'c'").fetchall()[0][0]
    assert tags["storage_version"].startswith("v1.2.0")


def test_sql_re_derives_the_keys_of_texts(cache: Cache) -> None:
    rows = cache.arrow("SELECT response, text, left(sha256(response), 32)::UUID AS again FROM generations").to_pylist()
    assert rows
    for row in rows:
        assert row["text"] == row["again"] == str(text_key(row["response"]))


def test_a_suite_is_read_back_as_it_was_recorded(cache: Cache, suite: Suite) -> None:
    assert cache.suites.get(suite.name) == suite
    assert cache.suites.get("other") is None


def test_a_suite_of_a_newer_version_is_refused_with_what_is_unknown(cache: Cache, suite: Suite) -> None:
    with cache.write() as con:
        con.execute("""UPDATE suites SET config = json_merge_patch(config, '{"train": {"of_the_future": 1}}')""")
    for read in (lambda: cache.suites.get(suite.name), lambda: verify(cache)):
        with pytest.raises(CacheError, match=r"does not understand \(train.of_the_future\).* Update the toolkit"):
            read()


def test_new_rates_are_read_not_generated(cache: Cache, suite: Suite) -> None:
    dearer = suite.config.models[0].model_copy(update={"base_rate": 12.0})
    config = suite.config.model_copy(update={"models": (dearer, *suite.config.models[1:])})
    before = cache.arrow("SELECT sum(cost) AS c FROM transitions")["c"][0].as_py()
    priced = reread(suite, config)
    cache.suites.record(priced)
    cache.suites.compute_cost_unit(priced.key)
    after = cache.arrow(
        "SELECT sum(cost) AS c, avg(cost) FILTER (depth = 1 AND model = 'sums' AND split = 'train') AS unit FROM transitions"
    )
    assert after["c"][0].as_py() != before
    assert after["unit"][0].as_py() == pytest.approx(1)  # sums is now the dearest
    assert cache.arrow("FROM suites").num_rows == 2
    cache.suites.record(suite)  # and back
    assert cache.arrow("SELECT sum(cost) AS c FROM transitions")["c"][0].as_py() == pytest.approx(before)


def test_a_larger_suite_reuses_what_is_there(cache: Cache, tmp_path: Path) -> None:
    larger = suite_config(
        horizon=3, benchmarks=[{"name": name, "limit": 10} for name in ("addition", "word_reversal", "geography")]
    )
    suite = resolve_config(larger, tmp_path)
    had = cache.arrow("FROM generations").num_rows
    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    new_questions, old_questions = 6, 24
    assert report.generated + report.shared == new_questions * (2 + 4 + 8) + old_questions * 8
    assert cache.arrow("FROM generations").num_rows == had + report.generated


@pytest.mark.parametrize("content", [b"", b"junk" * 5000, "sqlite", "duckdb", "truncated", "cut later", "overwritten", "newer"])
def test_a_foreign_or_damaged_file_is_refused_and_left_as_it_is(content: bytes | str, cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "foreign.duckdb"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "sqlite":
        with sqlite3.connect(path) as con:
            con.execute("CREATE TABLE t (x)")
        con.close()
    elif content == "truncated":
        path.write_bytes(cache.path.read_bytes()[:10_000])
    elif content == "cut later":
        path.write_bytes(cache.path.read_bytes()[:500_000])
    elif content == "overwritten":
        sound = cache.path.read_bytes()
        path.write_bytes(sound[:20_000] + b"junk" * ((len(sound) - 40_000) // 4) + sound[-20_000:])
    else:
        with duckdb.connect(str(path)) as other:
            other.execute("CREATE TABLE meta (key VARCHAR, value VARCHAR)")
            if content == "newer":
                other.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION + 1)])
    before = path.read_bytes()
    for use in (lambda: Cache(path).arrow("SELECT 1"), lambda: Cache(path).suites.names()):
        with pytest.raises(CacheError) as caught:
            use()
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_a_missing_cache_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="toolkit generate SUITE"):
        Cache(tmp_path / "none.duckdb").suites.names()


def test_waiting_for_another_process_is_bounded_and_names_it(cache: Cache) -> None:
    hold = f"import duckdb, sys; con = duckdb.connect({str(cache.path)!r}); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with pytest.raises(CacheBusyError, match=rf"held by process {process.pid} \(python"):
            Cache(cache.path, wait=0.3).suites.names()
        assert process.stdin
        process.stdin.close()
    assert Cache(cache.path, wait=5).suites.names() == ["scripted"]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM nodes",
        "COPY (SELECT 1) TO 'out.csv'",
        "COPY (PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)) TO 'out.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'out.csv'",
        "EXPLAIN (ANALYZE) COPY (SELECT 1) TO 'out.csv'",
        "EXPORT DATABASE 'out'",
        "ATTACH 'out.duckdb'",
        "ATTACH 'out.duckdb' AS o; CREATE TABLE o.t (x INT); SELECT 1",
        "SELECT 1; COPY (SELECT 1) TO 'out.csv'",
        "SET profiling_output = 'out.json'",
        "PRAGMA enable_profiling = 'json'",
        "CREATE TEMP TABLE t AS SELECT 1",
        "INSTALL httpfs",
        "CHECKPOINT",
    ],
)
def test_queries_cannot_write_anywhere(query: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(CacheError, match="read-only"):
        cache.arrow(query)
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT 1;", 1),
        ("-- how many\nFROM nodes LIMIT 2", 2),
        ("WITH a AS (SELECT 1) FROM a", 1),
        ("DESCRIBE transitions", len(schema_comments("transitions"))),
        ("PIVOT (FROM transitions WHERE depth = 1) ON model USING avg(quality) GROUP BY benchmark", 3),
        ("EXPLAIN SELECT * FROM nodes", 1),
        ("SELECT * FROM 'mine.csv' JOIN questions USING (item)", 1),
    ],
)
def test_queries_read_what_they_like(
    query: str, rows: int, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    item = cache.arrow("SELECT item FROM questions ORDER BY item LIMIT 1")["item"][0].as_py()
    (tmp_path / "mine.csv").write_text(f"item,note\n{item},yes\nnone,no\n")
    assert cache.arrow(query, tables=read_tables(["mine.csv"])).num_rows == rows


def test_a_failed_commit_leaves_nothing_behind(cache: Cache) -> None:
    def fail() -> None:
        with cache.write() as con:
            con.execute("DELETE FROM nodes")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert cache.arrow("FROM nodes").num_rows == 24 * 7
