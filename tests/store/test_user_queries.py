"""A query of a user, or of somebody whose query the user pastes, reads the cache and nothing else, and writes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from toolkit.core.errors import CacheError
from toolkit.store import Cache, opening, read_tables
from toolkit.suites.suite import Suite

HOSTILE = [
    "COPY (SELECT 1) TO '{new}'",
    "WITH a AS (COPY (SELECT 1) TO '{new}' (FORMAT csv)) SELECT 1",
    "WITH a AS (COPY (SELECT 1) TO '{cache}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1",
    "WITH a AS (COPY (SELECT 1) TO '{cache}.wal' (FORMAT csv)) FROM a",
    "WITH a AS (COPY (SELECT 1) TO '{cache}.tmp/x' (FORMAT csv)) FROM a",
    "SELECT * FROM (WITH a AS (COPY (SELECT 1) TO '{new}' (FORMAT csv)) FROM a)",
    "SELECT (WITH a AS (COPY (SELECT 1) TO '{new}' (FORMAT csv)) SELECT 1)",
    "FROM query('WITH a AS (COPY (SELECT 1) TO ''{new}'' (FORMAT csv)) SELECT 1')",
    "FROM json_execute_serialized_sql(json_serialize_sql('WITH a AS (COPY (SELECT 1) TO ''{new}'') SELECT 1'))",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{new}'",
    "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO '{new}' (FORMAT csv)) SELECT 1",
    "EXPLAIN (ANALYZE, FORMAT json) WITH a AS (COPY (SELECT 1) TO '{new}' (FORMAT csv)) SELECT 1",
    "PIVOT (WITH a AS (COPY (SELECT 1 AS x) TO '{new}' (FORMAT csv)) SELECT 1 AS x) ON x",
    "PREPARE p AS COPY (SELECT 1) TO '{new}'",
    "SELECT 1; COPY (SELECT 1) TO '{new}'",
    "EXPORT DATABASE '{new}'",
    "ATTACH '{new}'",
    "ATTACH '{new}' AS o; CREATE TABLE o.t AS SELECT 1",
    "WITH a AS (DELETE FROM nodes RETURNING node) FROM a",
    "WITH a AS (INSERT INTO meta VALUES ('a', 'b') RETURNING *) FROM a",
    "CREATE OR REPLACE TEMP VIEW nodes AS SELECT 1",
    "CREATE OR REPLACE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')",
    "FROM enable_logging(storage = 'file', storage_config = {{'path': '{new}'}})",
    "FROM enable_logging(storage_path = '{new}')",
    "FROM enable_profiling(save_location = '{new}')",
    "CALL enable_logging(storage = 'file', storage_config = {{'path': '{new}'}})",
    "SET profiling_output = '{new}'",
    "SET enable_external_access = true",
    "RESET disabled_filesystems",
    "PRAGMA enable_profiling = 'json'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "USE memory",
    "CHECKPOINT",
    "VACUUM",
    "FROM read_text('/etc/passwd')",
    "FROM '{mine}'",
    "FROM read_csv('{mine}')",
    "FROM read_blob('{cache}')",
    "FROM read_text('{cache}')",
    "FROM glob('/etc/*')",
    "FROM sniff_csv('{mine}')",
    "FROM query_table('{mine}')",
    "FROM query('FROM ''{mine}''')",
    "SELECT getenv('HOME')",
    "FROM 'https://example.com/a.csv'",
    "FROM read_parquet('s3://bucket/a.parquet')",
    "SELECT (SELECT content FROM read_text('/etc/passwd')) FROM nodes",
]
"""Queries that would write, change a setting, or read something that nobody named."""
if not duckdb.__version__.startswith("1."):  # there, logs in memory are no setting
    HOSTILE += ["FROM enable_logging()", "FROM disable_logging()"]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("query", HOSTILE)
def test_a_query_neither_writes_nor_reads_files_nor_changes_settings(
    query: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, home = tmp_path / "mine.csv", tmp_path / "home"
    mine.write_text("a\n1\n")
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    before, content = tree(tmp_path), cache.path.read_bytes()
    with pytest.raises(CacheError):
        cache.arrow(query.format(new=tmp_path / "new", cache=cache.path, mine=mine))
    assert tree(tmp_path) == before
    assert cache.path.read_bytes() == content
    assert cache.suites.names() == ["scripted"]


def test_a_query_is_as_limited_beside_another_connection_of_the_process(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a\n1\n")
    before = tree(tmp_path)
    with cache.connect() as con:
        assert con.execute("SELECT count(*) FROM nodes").fetchall() == [(24 * 7,)]
        for _ in range(2):
            with pytest.raises(CacheError, match="--read"):
                cache.arrow(f"FROM '{tmp_path / 'mine.csv'}'")
            with pytest.raises(CacheError):
                cache.arrow(f"WITH a AS (COPY (SELECT 1) TO '{cache.path}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1")
        assert cache.frame("transitions", suite="scripted").height
        assert cache.embeddings.observed(suite).n_missing == 0
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["prices.csv", "price s.jsonl", "it's.parquet", "a[1].csv"])
def test_a_query_reads_the_files_that_are_named(
    name: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prices = cache.frame("SELECT DISTINCT model, 1.5::DOUBLE AS price FROM transitions ORDER BY model")
    if name.endswith(".parquet"):
        prices.write_parquet(name)
    else:
        (tmp_path / name).write_text(prices.write_csv() if name.endswith(".csv") else prices.write_ndjson())
    quoted = name.replace("'", "''")
    query = f"SELECT DISTINCT price FROM transitions JOIN '{quoted}' USING (model)"
    assert cache.arrow(query, tables=read_tables([name])).to_pylist() == [{"price": 1.5}]
    with pytest.raises(CacheError, match="--read"):
        cache.arrow(query)


@pytest.mark.parametrize("name", ["missing.csv", "folder", "pipe.csv", "text.txt", "a\0b.csv", "", "https://example.com/a.csv"])
def test_what_is_no_table_is_refused_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text("certainly no table")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(CacheError, match="--read"):
        read_tables([name])


def test_a_query_that_needs_too_much_memory_is_told_so_and_leaves_no_file(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(opening._READ_CONFIG, "memory_limit", "40MB")
    before = tree(tmp_path)
    with pytest.raises(CacheError, match="needs too much memory"):
        cache.arrow("SELECT count(*) FROM (SELECT DISTINCT repeat('x', 60) || range FROM range(3000000))")
    assert tree(tmp_path) == before
