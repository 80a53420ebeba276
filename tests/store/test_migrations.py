"""A cache of every earlier schema becomes one of today's: nothing is lost, and the file as it was stays."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from tests.content import content
from tests.scripted import encode, right_answers, scripted
from toolkit.core.errors import CacheError
from toolkit.core.files import content_sha256
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.store import SCHEMA_VERSION, Cache, migrations, rewrite
from toolkit.suites.suite import Suite

DATA = Path(__file__).parents[1] / "data"
EARLIER = range(1, SCHEMA_VERSION)


RENAMED = {"synthetic": "generated", "dropped_responses": "dropped_answers"}
"""Columns of today that schemas before the fifth call otherwise."""


def tables_of(con: duckdb.DuckDBPyConnection, database: str) -> dict[str, list[tuple[str, str]]]:
    query = (
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = ? AND NOT internal ORDER BY ALL"
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in con.execute(query, [database]).fetchall():
        found.setdefault(table, []).append((column, kind))
    return found


def aged(cache: Cache, version: int, path: Path) -> Cache:
    """Write a cache as an earlier version of the toolkit did: with that version's schema, from its own text."""
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{cache.path}' AS today (READ_ONLY); ATTACH '{path}' AS old (STORAGE_VERSION 'v1.2.0'); USE old")
        con.execute((DATA / f"schema-{version}.sql").read_text("utf-8"))
        today = tables_of(con, "today")
        tables = [
            row[0] for row in con.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'old'").fetchall()
        ]
        for table in tables:
            columns_today = [column for column, _ in today.get(table, [])]
            todays = {name: column for column in columns_today for name in (column, RENAMED.get(column, column))}
            shared = sorted({column for column, _ in tables_of(con, "old")[table]} & todays.keys())
            if shared:
                columns = ", ".join(f"{todays[column]} AS {column}" for column in shared)
                con.execute(f"INSERT INTO {table} BY NAME SELECT {columns} FROM today.{table}")
        con.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(version)])
        con.execute("INSERT INTO evaluations (run, split, policy, benchmark, reward) VALUES ('r', 'test', 'router', 'b', 0.5)")
        con.execute("USE memory; DETACH old")
    return Cache(path)


@pytest.fixture(params=EARLIER)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def old(cache: Cache, version: int, tmp_path: Path) -> Cache:
    return aged(cache, version, tmp_path / "old.duckdb")


def backup_of(old: Cache, version: int) -> Path:
    return old.path.with_name(f"{old.path.name}.v{version}.backup")


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(path), read_only=True) as con:
        yield con


def version_of(path: Path) -> int:
    with opened(path) as con:
        return int(con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall()[0][0])


def test_there_is_a_schema_text_of_every_earlier_version() -> None:
    assert sorted(path.name for path in DATA.glob("schema-*.sql")) == [f"schema-{version}.sql" for version in EARLIER]
    assert set(migrations.MIGRATIONS) <= set(range(2, SCHEMA_VERSION + 1))


def test_a_migrated_cache_has_todays_schema_and_all_that_was_in_it(old: Cache, cache: Cache, version: int) -> None:
    before = content_sha256(old.path)
    backup = old.migrate()
    assert backup == backup_of(old, version)
    assert backup.exists()
    assert content_sha256(backup) == before  # byte for byte
    assert content(old) == content(cache)
    assert not any(finding.wrong for finding in verify(old))
    assert old.arrow("SELECT run, policy, reward, reference FROM evaluations").to_pylist() == [
        {"run": "r", "policy": "router (sampled)", "reward": 0.5, "reference": "router (sampled)"}
    ]
    assert version_of(old.path) == SCHEMA_VERSION
    assert version_of(backup) == version
    described = (
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL",
        "SELECT view_name, sql, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL",
        "SELECT table_name, comment FROM duckdb_tables() ORDER BY ALL",
        "SELECT tags['storage_version'] FROM duckdb_databases() WHERE path IS NOT NULL",
    )
    for query in described:
        assert old.arrow(query).to_pylist() == cache.arrow(query).to_pylist()
    assert old.migrate() is None  # once


def test_whoever_writes_migrates_and_whoever_reads_says_how(old: Cache, cache: Cache, suite: Suite, version: int) -> None:
    before = content_sha256(old.path)
    for read in (old.suites.names, lambda: old.suites.get(suite.name), lambda: old.arrow("SELECT 1")):
        with pytest.raises(CacheError, match=rf"version {version}.*toolkit cache migrate {old.path}"):
            read()
    assert content_sha256(old.path) == before
    folder = old.path.parent
    report = generate(suite, old, Workspace(folder, folder), engine=scripted(right_answers(suite)), encode=encode)
    assert (report.generated, report.shared) == (0, 0)
    assert content(old) == content(cache)
    assert content_sha256(backup_of(old, version)) == before


def test_an_earlier_backup_is_not_overwritten(old: Cache, version: int) -> None:
    backup_of(old, version).write_text("precious")
    kept = old.migrate()
    assert kept == backup_of(old, version).with_name(f"{old.path.name}.v{version}.backup.2")
    assert backup_of(old, version).read_text() == "precious"


@pytest.mark.parametrize("moment", ["copying", "migrating", "before the backup", "before the replacement"])
@pytest.mark.parametrize("ending", ["killed", "raised"])
def test_an_interrupted_migration_leaves_the_original(moment: str, ending: str, old: Cache, cache: Cache, version: int) -> None:
    before = content_sha256(old.path)
    where = {
        "copying": "rewrite.digests",
        "migrating": "migrations.recreate_views",
        "before the backup": "rewrite._keep",
        "before the replacement": "os.replace",
    }[moment]
    fail = "os._exit(9)" if ending == "killed" else "(_ for _ in ()).throw(OSError('no room'))"
    program = (
        "import os, sys\nfrom toolkit.store import Cache, migrations, rewrite\n"
        f"{where} = lambda *a, **k: {fail}\nCache(sys.argv[1]).migrate()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(old.path)], capture_output=True, text=True)
    assert done.returncode == (9 if ending == "killed" else 1)
    assert content_sha256(old.path) == before
    assert version_of(old.path) == version
    if ending == "raised":
        assert "The original is unchanged" in done.stderr
        assert not [path for path in old.path.parent.iterdir() if path.name.startswith(".old")]
    assert old.migrate() == backup_of(old, version)  # the same name, whenever it was interrupted
    assert content(old) == content(cache)
    assert not [path for path in old.path.parent.iterdir() if path.name.startswith(".old")]


def test_a_copy_that_differs_is_not_believed(old: Cache, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_sha256(old.path)
    real = rewrite.digests

    def lossy(con: duckdb.DuckDBPyConnection, database: str) -> dict[str, tuple[int, int]]:
        if database == "draft":
            con.execute("DELETE FROM draft.nodes WHERE rowid = 3")
        return real(con, database)

    monkeypatch.setattr(rewrite, "digests", lossy)
    with pytest.raises(CacheError, match="differs from the original"):
        old.migrate()
    assert content_sha256(old.path) == before


def test_a_wal_left_behind_is_migrated_too(old: Cache, version: int) -> None:
    program = (
        "import duckdb, os, sys; con = duckdb.connect(sys.argv[1]); "
        "con.execute(\"INSERT INTO meta VALUES ('left', 'behind')\"); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(old.path)])
    assert old.path.with_name(old.path.name + ".wal").exists()
    backup = old.migrate()
    assert backup
    for path in (old.path, backup):
        with opened(path) as con:
            assert con.execute("SELECT value FROM meta WHERE key = 'left'").fetchall() == [("behind",)]


def test_an_exported_folder_of_an_earlier_schema_is_taken_in(old: Cache, cache: Cache, version: int, tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    cache.transfer.export(folder)
    tables = {}
    with opened(old.path) as con:
        for file in sorted(folder.glob("*.parquet")):
            con.execute(f"COPY {file.stem} TO '{file}' (FORMAT parquet)")
            tables[file.stem] = {"rows": 0, "sha256": content_sha256(file)}
    (folder / "manifest.json").write_text(json.dumps({"schema_version": version, "tables": tables}))
    other = Cache(tmp_path / "other.duckdb")
    other.create()
    other.transfer.merge(folder)
    assert content(other) == content(cache)
    assert other.arrow("SELECT run, reward FROM evaluations").to_pylist() == [{"run": "r", "reward": 0.5}]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    manifest = re.sub(
        r'"schema_version": \d+', f'"schema_version": {SCHEMA_VERSION + 1}', (folder / "manifest.json").read_text()
    )
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(CacheError, match="Update the toolkit"):
        other.transfer.merge(folder)


@pytest.mark.parametrize("listed", [False, True])
def test_names_of_files_in_a_foreign_folder_never_become_sql(cache: Cache, tmp_path: Path, listed: bool) -> None:
    folder, written = tmp_path / "parquet", tmp_path / "written.csv"
    cache.transfer.export(folder)
    hostile = folder / f"zz\" AS SELECT 1; COPY (SELECT 1) TO '{written.name}'; --.parquet"
    hostile.write_bytes((folder / "models.parquet").read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["schema_version"] = SCHEMA_VERSION - 1
    added = {"evaluations": "reference, gap_recovered, gap_recovered_low, gap_recovered_high", "decisions": "chosen"}
    with duckdb.connect() as con:  # without the columns that this version added
        for table, columns in added.items():
            file = folder / f"{table}.parquet"
            con.execute(f"CREATE TABLE {table} AS SELECT * EXCLUDE ({columns}) FROM '{file}'")
            con.execute(f"COPY {table} TO '{file}' (FORMAT parquet)")
            manifest["tables"][table]["sha256"] = content_sha256(file)
    if listed:
        manifest["tables"][hostile.stem] = {"rows": 1, "sha256": content_sha256(hostile)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    other = Cache(tmp_path / "other.duckdb")
    other.create()
    if listed:
        with pytest.raises(CacheError, match="no table of a cache"):
            other.transfer.merge(folder)
        assert not other.arrow("FROM nodes").num_rows
    else:
        other.transfer.merge(folder)
        assert content(other) == content(cache)
    assert not list(Path.cwd().glob(written.name))
    assert not written.exists()


def test_a_cache_of_an_earlier_schema_is_taken_in_and_stays_as_it_is(old: Cache, version: int, tmp_path: Path) -> None:
    before = old.path.read_bytes()
    other = Cache(tmp_path / "other.duckdb")
    other.transfer.merge(old.path)
    assert old.path.read_bytes() == before
    old.migrate()
    assert content(other) == content(old)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_link_to_a_cache_stays_a_link(old: Cache, version: int, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    link = tmp_path / "linked/c.duckdb"
    link.symlink_to(old.path)
    Cache(link).migrate()
    assert link.is_symlink()
    assert version_of(old.path) == SCHEMA_VERSION


def test_a_migrated_cache_keeps_its_permissions(old: Cache) -> None:
    old.path.chmod(0o640)
    old.migrate()
    assert os.stat(old.path).st_mode & 0o777 == 0o640


def test_two_processes_migrate_once(old: Cache, version: int, tmp_path: Path) -> None:
    program = "import sys\nfrom toolkit.store import Cache\nprint(Cache(sys.argv[1]).migrate())"
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(old.path)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = sorted(process.communicate(timeout=60)[0].strip() for process in started)
    assert [process.returncode for process in started] == [0, 0, 0]
    assert said == sorted(["None", "None", str(backup_of(old, version))])
    assert len(list(tmp_path.glob("*.backup*"))) == 1
