"""A cache of a stranger runs nothing of its own: what its file defines beside tables is refused before any of it is read."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import duckdb
import pytest

from tests.content import content
from toolkit.core.errors import CacheError
from toolkit.generation.verify import verify
from toolkit.store import Cache, checkpoint

FOREIGN = {
    "macro": "CREATE MACRO sha256(x) AS 'forged'",
    "table macro": "CREATE MACRO duckdb_functions() AS TABLE SELECT 'none' AS function_name, false AS internal,"
    " 'x' AS database_name WHERE false",
    "reading macro": "CREATE MACRO count_star() AS (SELECT max(content) FROM read_text('{secret}'))",
    "view": "CREATE VIEW mine AS FROM read_text('{secret}')",
    "redefined view": "CREATE OR REPLACE VIEW progress AS SELECT 'all' AS suite, content FROM read_text('{secret}')",
    "altered view": "CREATE OR REPLACE VIEW current_suites AS SELECT * EXCLUDE (age) FROM"
    " (SELECT *, row_number() OVER (PARTITION BY name ORDER BY recorded) AS age FROM suites) WHERE age = 1",
    "no view": "DROP VIEW transitions",
    "type": "CREATE TYPE mood AS ENUM ('good')",
    "sequence": "CREATE SEQUENCE counter",
    "index": "CREATE INDEX by_model ON generations (model)",
    "schema": "CREATE SCHEMA other",
}
"""Statements that make a sound cache a foreign one; its rows are as they were."""
NO_CACHE = {
    "meta as a view": "ALTER TABLE meta RENAME TO m; CREATE VIEW meta AS SELECT 'schema_version' AS key, content AS value"
    " FROM read_text('{secret}')",
    "nodes as a view": "ALTER TABLE nodes RENAME TO n; CREATE VIEW nodes AS FROM n",
    "a default": "ALTER TABLE scores ALTER value SET DEFAULT 1.0",
    "another column": "ALTER TABLE scores ADD COLUMN note VARCHAR",
    "another type": "ALTER TABLE scores ALTER value TYPE VARCHAR",
    "a missing table": "DROP TABLE decisions",
    "no version": "DELETE FROM meta WHERE key = 'schema_version'",
    "no number": "UPDATE meta SET value = 'five' WHERE key = 'schema_version'",
    "a negative version": "UPDATE meta SET value = '-1' WHERE key = 'schema_version'",
}
"""Statements after which a file is not a cache."""


def altered(cache: Cache, statement: str, tmp_path: Path) -> Cache:
    secret = tmp_path / "secret"
    secret.write_text("5")
    with duckdb.connect(str(cache.path)) as con:
        con.execute(statement.format(secret=secret))
    return Cache(cache.path)


def uses(cache: Cache) -> list[Callable[[], object]]:
    return [
        cache.suites.names,
        lambda: cache.arrow("SELECT 1"),
        lambda: cache.frame("progress"),
        lambda: cache.query("recorded_suites"),
        lambda: verify(cache),
        cache.create,
        cache.migrate,
        cache.housekeeping.vacuum,
        cache.housekeeping.sizes,
        lambda: cache.transfer.export(cache.path.parent / "export"),
    ]


@pytest.mark.parametrize("kind", FOREIGN | NO_CACHE)
def test_foreign_objects_are_refused_by_everything_that_opens_a_file(kind: str, cache: Cache, tmp_path: Path) -> None:
    statement = (FOREIGN | NO_CACHE)[kind]
    foreign = altered(cache, statement, tmp_path)
    before, access = foreign.path.read_bytes(), os.stat(tmp_path / "secret").st_atime_ns
    for use in uses(foreign):
        with pytest.raises(
            CacheError, match="toolkit import .* --cache NEW.duckdb" if kind in FOREIGN else "cache of this toolkit"
        ):
            use()
    assert foreign.housekeeping.overview().nodes is None
    assert foreign.path.read_bytes() == before
    assert os.stat(tmp_path / "secret").st_atime_ns == access
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("kind", FOREIGN)
def test_the_remedy_takes_the_rows_alone(kind: str, cache: Cache, tmp_path: Path) -> None:
    whole = content(cache)
    foreign = altered(cache, FOREIGN[kind], tmp_path)
    new = Cache(tmp_path / "new.duckdb")
    new.transfer.merge(foreign.path)
    assert content(new) == whole
    assert not any(finding.wrong for finding in verify(new))


def test_an_object_that_another_process_adds_later_is_noticed(cache: Cache, tmp_path: Path) -> None:
    assert cache.suites.names() == ["scripted"]
    foreign = altered(cache, FOREIGN["macro"], tmp_path)
    with pytest.raises(CacheError, match="macro 'sha256'"):
        foreign.suites.names()
    with duckdb.connect(str(cache.path)) as con:
        con.execute("DROP MACRO sha256")
    assert cache.suites.names() == ["scripted"]


def test_an_object_in_the_log_beside_a_file_is_noticed(cache: Cache) -> None:
    assert cache.suites.names() == ["scripted"]
    with duckdb.connect(str(cache.path)) as con:
        con.execute("PRAGMA disable_checkpoint_on_shutdown")
        con.execute("CREATE VIEW mine AS SELECT 1")
    assert cache.path.with_name(f"{cache.path.name}.wal").exists()
    with pytest.raises(CacheError, match="view 'mine'"):
        cache.suites.names()


def test_tables_of_the_users_own_stay(cache: Cache) -> None:
    with duckdb.connect(str(cache.path)) as con:
        con.execute("CREATE TABLE notes AS SELECT 'mine' AS note")
    assert cache.suites.names() == ["scripted"]
    cache.housekeeping.vacuum()
    assert cache.arrow("FROM notes").to_pylist() == [{"note": "mine"}]


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device", "loop", "below a file", "long", "nul", "surrogate"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("place.duckdb")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "below a file":
        path.write_text("")
        path /= "below"
    else:
        path = Path({"device": "/dev/zero", "long": "x" * 5000, "nul": "a\0b", "surrogate": "\udcff"}[kind])
    cache = Cache(path)
    for use in (cache.suites.names, cache.create, cache.migrate, lambda: cache.transfer.export(tmp_path / "export")):
        with pytest.raises(CacheError):
            use()


@pytest.mark.parametrize("name", ["{}.wal", "{}.wal.recovery", "{}.blocks", ".{}.blocks"])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "device"])
def test_what_lies_beside_a_cache_is_not_read_or_written_through(name: str, kind: str, cache: Cache, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("export A=1")
    beside = cache.path.with_name(name.format(cache.path.name))
    if kind == "pipe":
        os.mkfifo(beside)
    else:
        beside.symlink_to({"link": precious, "dangling": tmp_path / "nowhere", "device": Path("/dev/zero")}[kind])
    for use in (cache.suites.names, lambda: cache.suites.compute_cost_unit(UUID(int=0), recompute=True)):
        with pytest.raises(CacheError, match=r"belongs to the cache .* delete it: rm "):
            use()
    assert precious.read_text() == "export A=1"
    assert not (tmp_path / "nowhere").exists()
    beside.unlink()
    assert cache.suites.names()


def test_a_copy_of_blocks_that_is_not_one_is_ignored(cache: Cache) -> None:
    header = cache.path.read_bytes()[: checkpoint.HEADERS]
    content = cache.path.read_bytes()
    for blocks in (
        b"junk",
        struct.pack("<QQ", 1 << 62, 4) + b"evil",
        struct.pack("<QQ", 0, 4) + b"evil",
        struct.pack("<QQ", 20000, 99),
    ):
        copy = checkpoint.copy_of(cache.path)
        copy.write_bytes(hashlib.sha256(header + blocks).digest() + header + blocks)
        assert cache.suites.names()
        assert not copy.exists()
    assert cache.path.read_bytes() == content


@pytest.mark.parametrize(
    "formula",
    [
        "(((m.rate_in * g.prompt_tokens) + m.rate_out) * g.completion_tokens)",
        "((m.rate_in * (g.prompt_tokens + m.rate_out)) * g.completion_tokens)",
    ],
)
def test_a_view_that_differs_in_parentheses_alone_is_refused(formula: str, cache: Cache) -> None:
    with duckdb.connect(str(cache.path)) as con:
        [(definition,)] = con.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'transitions'").fetchall()
        ours = "((m.rate_in * g.prompt_tokens) + (m.rate_out * g.completion_tokens))"
        assert ours in definition
        con.execute(definition.replace("CREATE VIEW", "CREATE OR REPLACE VIEW").replace(ours, formula))
    with pytest.raises(CacheError, match="the view transitions is defined in another way"):
        cache.suites.names()
