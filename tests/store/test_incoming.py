"""What no cache would have is refused on import: with its file, row and reason, and before anything is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.content import content
from toolkit.core.errors import CacheError
from toolkit.core.files import content_sha256
from toolkit.store import Cache

ROWS: dict[str, tuple[str, str]] = {
    "UPDATE scores SET value = 'nan' WHERE rowid = 3": ("scores", "row 4: its value is not"),
    "UPDATE scores SET value = 1e9 WHERE rowid = 0": ("scores", "row 1: its value is not"),
    "UPDATE scores SET value = -0.5 WHERE rowid = 0": ("scores", "row 1: its value is not"),
    "UPDATE scores SET value = NULL WHERE rowid = 0": ("scores", "row 1: its value is not"),
    "UPDATE scores SET metric = NULL WHERE rowid = 2": ("scores", "row 3: its metric is NULL"),
    "UPDATE generations SET generation = NULL WHERE rowid = 1": ("generations", "row 2: its generation is NULL"),
    "INSERT INTO questions FROM questions LIMIT 1": ("questions", "another row has the same question"),
    "INSERT INTO decisions VALUES ('r', left(sha256('a'), 32)::UUID, 'x', 2, true)": ("decisions", "its probability"),
    "INSERT INTO suite_paths FROM suite_paths LIMIT 1": ("suite_paths", "another row has the same suite and number"),
    "UPDATE generations SET prompt_tokens = -5 WHERE rowid = 0": ("generations", "row 1: it is neither"),
    "UPDATE generations SET status = 'fine' WHERE rowid = 0": ("generations", "row 1: it is neither"),
    "UPDATE generations SET cost = 'inf' WHERE rowid = 0": ("generations", "row 1: its cost is not a finite number"),
    "UPDATE generations SET seconds = 'nan' WHERE rowid = 0": ("generations", "row 1: its seconds is not a finite number"),
    "UPDATE generations SET response = 'forged' WHERE rowid = 0": ("generations", "row 1: its text is not the hash"),
    "UPDATE generations SET model = uuid() WHERE rowid = 0": ("generations", "row 1: its model is missing"),
    "UPDATE nodes SET generation = uuid() WHERE rowid = (SELECT max(rowid) FROM nodes)": ("nodes", "its generation is missing"),
    "UPDATE nodes SET generation = NULL WHERE rowid = (SELECT max(rowid) FROM nodes)": ("nodes", "its generation is missing"),
    "UPDATE nodes SET parent = uuid() WHERE rowid = (SELECT max(rowid) FROM nodes)": ("nodes", "its parent is missing"),
    "UPDATE nodes SET question = uuid() WHERE rowid = 0": ("nodes", "row 1: its question is missing"),
    "UPDATE nodes SET depth = 7 WHERE rowid = 0": ("nodes", "row 1: its path does not have"),
    "UPDATE embeddings SET vector = ['nan'::FLOAT] WHERE rowid = 0": ("embeddings", "its vector has numbers"),
    "UPDATE embeddings SET vector = vector[:3] WHERE rowid = 0": ("embeddings", "its vector is not as long"),
    "UPDATE embeddings SET vector = NULL WHERE rowid = 0": ("embeddings", "its vector has numbers"),
    "UPDATE suites SET cost_unit = 'nan'": ("suites", "row 1: its cost_unit is not a finite number"),
    "UPDATE suites SET horizon = 0": ("suites", "row 1: its horizon"),
    "UPDATE suite_models SET rate_in = -1 WHERE rowid = 0": ("suite_models", "row 1: its rates"),
    "UPDATE suite_models SET model = uuid() WHERE rowid = 1": ("suite_models", "row 2: its model is missing"),
    "UPDATE suite_questions SET question = uuid() WHERE rowid = 0": ("suite_questions", "row 1: its question is missing"),
    "DELETE FROM generations": ("nodes", "its generation is missing"),
}
"""Changes of a sound cache, and the table and the reason with which an import of it is refused."""


@pytest.mark.parametrize("change", ROWS)
@pytest.mark.parametrize("source", ["folder", "cache"])
def test_a_row_that_no_cache_has_is_refused_with_its_place(source: str, change: str, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    mine = Cache(tmp_path / "mine/mine.duckdb")
    mine.transfer.merge(cache.path)
    before = mine.path.read_bytes()
    with duckdb.connect(str(cache.path)) as con:
        con.execute(change)
    table, reason = ROWS[change]
    path = cache.path
    if source == "folder":  # rows are exported in another order
        path, reason = tmp_path / "export", re.sub(r"^row \d+", r"row \\d+", reason)
        cache.transfer.export(path)
    new = Cache(tmp_path / "mine/new.duckdb")
    for target in (mine, new):
        with pytest.raises(CacheError, match=f"{table}.*{reason}"):
            target.transfer.merge(path, "theirs")
    assert mine.path.read_bytes() == before
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["mine.duckdb"]


def rewritten(folder: Path, table: str, query: str) -> None:
    """Replace a table of an export by the rows of a query over it, with the right hash."""
    file = folder / f"{table}.parquet"
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE t AS FROM '{file}'")
        con.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet)")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tables"][table]["sha256"] = content_sha256(file)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT *, 1 AS more FROM t", "column 'more'"),
        ("SELECT * EXCLUDE (value) FROM t", "column 'value' is missing"),
        ("SELECT * REPLACE (value::VARCHAR AS value) FROM t", "column 'value' is VARCHAR"),
        ("SELECT * REPLACE (text::VARCHAR AS text) FROM t", "column 'text' is VARCHAR"),
        ("SELECT 1 AS nothing", "column"),
    ],
)
def test_other_columns_are_refused(query: str, reason: str, cache: Cache, tmp_path: Path) -> None:
    cache.transfer.export(tmp_path / "export")
    rewritten(tmp_path / "export", "scores", query)
    new = Cache(tmp_path / "new.duckdb")
    with pytest.raises(CacheError, match=f"scores.parquet: {reason}"):
        new.transfer.merge(tmp_path / "export")
    assert not new.path.exists()


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "tables is a list": lambda manifest: manifest | {"tables": []},
    "tables is text": lambda manifest: manifest | {"tables": "all"},
    "tables lack hashes": lambda manifest: manifest | {"tables": dict.fromkeys(manifest["tables"], 1)},
    "a huge version": lambda manifest: manifest | {"schema_version": float("inf")},
    "a fraction": lambda manifest: manifest | {"schema_version": 4.5},
    "a truth": lambda manifest: manifest | {"schema_version": True},
    "text": lambda manifest: manifest | {"schema_version": "5"},
    "zero": lambda manifest: manifest | {"schema_version": 0},
    "negative": lambda manifest: manifest | {"schema_version": -3},
    "null": lambda manifest: manifest | {"schema_version": None},
    "a list": lambda manifest: [],
    "a number": lambda manifest: 7,
    "a path out of the folder": lambda manifest: manifest | {"tables": manifest["tables"] | {"../secret": {"sha256": "x"}}},
    "an absolute path": lambda manifest: manifest | {"tables": manifest["tables"] | {"/etc/passwd": {"sha256": "x"}}},
    "a wrong hash": lambda manifest: manifest | {"tables": manifest["tables"] | {"nodes": {"sha256": "0" * 64}}},
    "a hash of another type": lambda manifest: manifest | {"tables": manifest["tables"] | {"nodes": {"sha256": [1]}}},
    "an earlier version": lambda manifest: manifest | {"schema_version": 2},
}


@pytest.mark.parametrize("kind", [*MANIFESTS, "1e400", "no JSON", "not UTF-8", "deep", "a folder"])
def test_a_manifest_that_no_export_has_is_refused(kind: str, cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    cache.transfer.export(folder)
    file = folder / "manifest.json"
    text = file.read_text()
    if kind in MANIFESTS:
        file.write_text(json.dumps(MANIFESTS[kind](json.loads(text))))
    elif kind == "a folder":
        file.unlink()
        file.mkdir()
    else:
        damage = {"1e400": re.sub(r'_version": \d+', '_version": 1e400', text), "no JSON": text[:-5], "deep": "[" * 100_000}
        file.write_bytes(damage[kind].encode() if kind in damage else b"\xff\xfe{}")
    new = Cache(tmp_path / "new.duckdb")
    with pytest.raises(CacheError, match="export"):
        new.transfer.merge(folder)
    assert not new.path.exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", ["link", "chain", "pipe", "folder", "text", "empty"])
def test_a_file_that_leads_elsewhere_or_is_no_parquet_is_refused(kind: str, cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    cache.transfer.export(folder)
    file, outside = folder / "scores.parquet", tmp_path / "outside.parquet"
    digest = content_sha256(file)
    if kind in ("link", "chain"):
        file.rename(outside)
        if kind == "chain":
            (folder / "inside").symlink_to(outside)
        file.symlink_to(folder / "inside" if kind == "chain" else outside)
    else:
        file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    if kind == "folder":
        file.mkdir()
    if kind in ("text", "empty"):
        file.write_text("no parquet" if kind == "text" else "")
        digest = content_sha256(file)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tables"]["scores"]["sha256"] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    new = Cache(tmp_path / "new.duckdb")
    with pytest.raises(CacheError, match=r"scores\.parquet"):
        new.transfer.merge(folder)
    assert not new.path.exists()


@pytest.mark.parametrize("name", ["a[1]*", "it's", "run=1", "ü x", "a,b; c"])
def test_a_folder_may_have_any_name(name: str, cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / name / "export"
    cache.transfer.export(folder)
    new = Cache(tmp_path / name / "new.duckdb")
    new.transfer.merge(folder)
    assert content(new) == content(cache)


@pytest.mark.parametrize("kind", ["pipe", "link", "device"])
def test_a_manifest_that_leads_elsewhere_is_not_read(kind: str, cache: Cache, tmp_path: Path) -> None:
    cache.transfer.export(tmp_path / "exported")
    manifest = tmp_path / "exported" / "manifest.json"
    content = manifest.read_text()
    manifest.unlink()
    if kind == "pipe":
        os.mkfifo(manifest)
    else:
        (tmp_path / "elsewhere.json").write_text(content)
        manifest.symlink_to(tmp_path / "elsewhere.json" if kind == "link" else "/dev/zero")
    with pytest.raises(CacheError, match="leads elsewhere"):
        Cache(tmp_path / "new.duckdb").transfer.merge(tmp_path / "exported")
    assert not (tmp_path / "new.duckdb").exists()
