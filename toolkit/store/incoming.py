"""Opens what an import reads, an exported folder or another cache, and checks all of it before anything is written.

People share both. So nothing is read but the tables of the schema, nothing runs that the source defines, and rows that could
not have come from a cache are refused with their place.
"""

import glob
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import duckdb

from toolkit.core.errors import CacheError
from toolkit.core.files import content_sha256, kind_of
from toolkit.store.migrations import upgrade_tables
from toolkit.store.opening import limit_files, open_cache
from toolkit.store.rewrite import quoted
from toolkit.store.rows import KEYS
from toolkit.store.schema import SCHEMA_VERSION, schema

MANIFEST = "manifest.json"
THEIRS = '"/theirs"'
"""Name of the attached database; DuckDB names a cache by its file, and no file has a slash in its name."""
TABLES = {
    **KEYS,
    "suites": ("suite",),
    "suite_models": ("suite", "position"),
    "suite_questions": ("suite", "position"),
    "suite_paths": ("suite", "number"),
    "evaluations": ("run", "split", "alpha", "policy", "benchmark"),
    "decisions": ("run", "node", "action"),
}
"""The tables that are moved, with the columns that identify a row across caches."""

_WRONG = {
    "questions": {"its reference is not JSON": "NOT coalesce(json_valid(t.reference::VARCHAR), false)"},
    "models": {"its identity is not JSON": "NOT coalesce(json_valid(t.identity::VARCHAR), false)"},
    "generations": {
        "it is neither a response with its tokens or its cost, nor an error with its reason": "NOT coalesce(CASE t.status "
        "WHEN 'ok' THEN t.error IS NULL AND (t.prompt_tokens >= 0 AND t.completion_tokens >= 0 OR t.cost >= 0) "
        "WHEN 'error' THEN t.error IS NOT NULL AND t.response IS NULL END, false)",
        "its text is not the hash of its response": "t.status = 'ok' AND t.text IS DISTINCT FROM "
        "left(sha256(coalesce(t.response, t.generation::VARCHAR)), 32)::UUID",
        "its model is missing": "t.model IS NULL OR t.model NOT IN (SELECT model FROM {models})",
    },
    "nodes": {
        "its path does not have one model per hop": "t.depth < 0 OR len(t.path) IS DISTINCT FROM t.depth",
        "its question is missing": "t.question IS NULL OR t.question NOT IN (SELECT question FROM {questions})",
        "its parent is missing": "t.depth > 0 AND (t.parent IS NULL OR t.parent NOT IN (SELECT node FROM {nodes}))",
        "its generation is missing": "t.depth > 0 AND (t.generation IS NULL OR t.generation NOT IN "
        "(SELECT generation FROM {generations}))",
    },
    "scores": {"its value is not in [0, 1]": "NOT coalesce(t.value BETWEEN 0 AND 1, false)"},
    "embeddings": {
        "its vector has numbers that are not finite": "NOT coalesce(list_bool_and([isfinite(x) FOR x IN t.vector]), false)",
        "its vector is not as long as the others of its encoder": "len(t.vector) IS DISTINCT FROM "
        "(SELECT mode(len(vector)) FROM {embeddings} AS o WHERE o.encoder = t.encoder)",
    },
    "suites": {
        "its horizon is not positive": "NOT coalesce(t.horizon > 0, false)",
        "its config is not JSON": "NOT coalesce(json_valid(t.config::VARCHAR), false)",
    },
    "suite_models": {
        "its model is missing": "t.model IS NULL OR t.model NOT IN (SELECT model FROM {models})",
        "its rates are not prices": "NOT coalesce(t.rate_in >= 0 AND t.rate_out >= 0, false)",
    },
    "suite_questions": {
        "its question is missing": "t.question IS NULL OR t.question NOT IN (SELECT question FROM {questions})"
    },
    "decisions": {"its probability is not in [0, 1]": "NOT coalesce(t.probability BETWEEN 0 AND 1.000001, false)"},
}
"""Conditions that no row of a cache meets, by what is wrong then; `missing` means that the source lacks what the row names."""
_MAY_BE_UNDEFINED = {"evaluations"}
"""Tables of results, in which a mean or an interval may be undefined; replay does not read them."""


class Source(NamedTuple):
    """What an import reads.

    Attributes:
        path: What the user has named.
        access: The folder or database that a connection needs access to.
        database: The database that is to be attached as `THEIRS`, or None if the tables are files.
        tables: SQL of every table.
    """

    path: Path
    access: Path
    database: Path | None
    tables: dict[str, str]

    def attach(self, con: duckdb.DuckDBPyConnection) -> None:
        """Attach the database, if there is one."""
        if self.database:
            con.execute(f"ATTACH {quoted(self.database)} AS {THEIRS} (READ_ONLY)")

    def place(self, table: str) -> str:
        """Return where a table lies, for messages."""
        return f"{self.path / table}.parquet" if self.path.is_dir() else f"{self.path}, table {table}"


@contextmanager
def open_source(path: Path, wait: float, scratch: Path) -> Iterator[Source]:
    """Check an exported folder or another cache, and keep what was made of it until the block ends.

    Args:
        path: The folder or the file.
        wait: Longest time, in seconds, to wait for a process that holds the file.
        scratch: Path beside which a source of an older schema is migrated, in a hidden folder.

    Raises:
        CacheError: It is not complete, was changed since, is newer than this toolkit, or has rows that no cache has.
    """
    with ExitStack() as stack:
        if path.is_dir():
            version, folder = _check_manifest(path), path.resolve()
            source = Source(path, folder, None, {table: _parquet(folder / f"{table}.parquet") for table in TABLES})
        else:
            con, version = open_cache(path, wait, rows_only=True)
            con.close()
            source = Source(path, path.resolve(), path.resolve(), {table: f"{THEIRS}.main.{table}" for table in TABLES})
        if version < SCHEMA_VERSION:
            place = scratch.parent if scratch.parent.is_dir() else None
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place, prefix=f".{scratch.name}.import-")))
            source = _migrated(source, version, folder / "migrated.duckdb")
        _check_source(source)
        yield source


def _check_manifest(folder: Path) -> int:
    """Check that a folder is a complete export, and that its files are those of the export; return its schema's version."""
    file = folder / MANIFEST
    if file.is_symlink() or kind_of(file) not in ("a file", "nothing"):
        raise CacheError(f"{file} is not a file of this folder, but leads elsewhere. Nothing was imported.")
    try:
        manifest = json.loads(file.read_text("utf-8"))
        version, tables = manifest["schema_version"], manifest["tables"]
        hashes = {table: tables[table]["sha256"] for table in tables}
        if type(version) is not int or version < 1:
            raise ValueError(f"schema_version is {version!r}")
    except FileNotFoundError:
        raise CacheError(
            f"{folder} has no {MANIFEST}: it is not an export, or an unfinished one. Export it again: toolkit export {folder}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CacheError(f"{file} is not the manifest of an export ({error}). Export the folder again.") from None
    if version > SCHEMA_VERSION:
        raise CacheError(
            f"{folder} was exported with schema version {version}; this toolkit knows up to {SCHEMA_VERSION}. "
            "Update the toolkit: git pull in its clone, or install the newest release."
        )
    if lacking := sorted(set(TABLES) - set(hashes)):
        raise CacheError(f"{file} does not list {', '.join(lacking)}. Export the folder again.")
    if unknown := sorted(set(hashes) - set(TABLES)):
        raise CacheError(f"{file} lists {unknown[0]!r}, which is no table of a cache. Nothing was imported.")
    for table, digest in hashes.items():
        parquet = folder / f"{table}.parquet"
        if parquet.exists() and (not parquet.is_file() or parquet.resolve().parent != folder.resolve()):
            raise CacheError(f"{parquet} is not a file of this folder, but leads elsewhere. Nothing was imported.")
        if not parquet.exists() or content_sha256(parquet) != digest:
            raise CacheError(
                f"{parquet} does not match {MANIFEST}: it is missing or damaged. Nothing was imported; export the folder again."
            )
    return version


def _check_source(source: Source) -> None:
    """Check the columns and all rows of a source.

    Raises:
        CacheError: A file cannot be read, or a row could not have come from a cache.
    """
    for table in TABLES:
        with duckdb.connect() as con:
            limit_files(con, source.path, [source.access])
            try:
                source.attach(con)
                _check_columns(con, source, table)
                for reason, query in _wrong_rows(source, table):
                    row = con.execute(f"{query} LIMIT 1").fetchall()
                    if row:
                        raise CacheError(
                            f"{source.place(table)}, row {row[0][0]}: {reason}. Nothing was imported. Check the cache that "
                            "it comes from (toolkit verify), and export it again."
                        )
            except duckdb.Error as error:
                raise CacheError(
                    f"{source.place(table)} cannot be read: {str(error).splitlines()[0]} Nothing was imported."
                ) from None


def _check_columns(con: duckdb.DuckDBPyConnection, source: Source, table: str) -> None:
    columns = con.execute(f"DESCRIBE FROM {source.tables[table]}").fetchall()
    types = {name: _plain_type(kind) for name, kind, *_ in columns}
    expected = {name: _plain_type(kind) for name, kind in _columns()[table].items()}
    if types != expected:
        names = [*(expected.keys() ^ types.keys()), *(name for name in expected if types.get(name) != expected[name])]
        name = sorted(names)[0]
        raise CacheError(
            f"{source.place(table)}: column {name!r} is {types.get(name, 'missing')}, and should be "
            f"{expected.get(name, 'absent')}. Nothing was imported."
        )


def _wrong_rows(source: Source, table: str) -> Iterator[tuple[str, str]]:
    """Yield what can be wrong with a row of a table, and the query for the numbers of such rows, from 1."""
    rows, key = source.tables[table], ", ".join(TABLES[table])
    row = "file_row_number + 1" if source.database is None else "rowid + 1"
    for column in TABLES[table][: 1 if table in _MAY_BE_UNDEFINED else None]:
        yield f"its {column} is NULL", f"SELECT {row} FROM {rows} WHERE {column} IS NULL"
    repeated = f"SELECT max({row}) FROM {rows} GROUP BY {key} HAVING count(*) > 1"
    yield f"another row has the same {key.replace(', ', ' and ')}", repeated
    for column, kind in _columns()[table].items():
        if kind == "DOUBLE" and table not in _MAY_BE_UNDEFINED:
            yield f"its {column} is not a finite number", f"SELECT {row} FROM {rows} WHERE NOT isfinite({column})"
    for reason, condition in _WRONG.get(table, {}).items():
        yield reason, f"SELECT t.{row} FROM {rows} AS t WHERE {condition.format_map(source.tables)}"


@cache
def _columns() -> dict[str, dict[str, str]]:
    """Return the columns of today's tables with their types."""
    with duckdb.connect() as con:
        con.execute(schema())
        query = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index"
        return {table: dict(con.execute(query, [table]).fetchall()) for table in TABLES}


def _plain_type(kind: str) -> str:
    return re.sub(r"\bJSON\b", "VARCHAR", kind)  # not every writer of Parquet marks JSON


def _parquet(file: Path) -> str:
    return f"read_parquet({quoted(glob.escape(str(file)))}, hive_partitioning = false)"


def _migrated(source: Source, version: int, path: Path) -> Source:
    """Write the tables of an older schema into a database with today's tables."""
    with duckdb.connect(str(path)) as con:
        limit_files(con, source.path, [source.access])
        for table in TABLES:
            try:
                if table == next(iter(TABLES)):
                    source.attach(con)
                con.execute(f"CREATE TABLE {table} AS FROM {source.tables[table]}")  # names are ours, never those of files
            except duckdb.Error as error:
                raise CacheError(
                    f"{source.place(table)} cannot be read: {str(error).splitlines()[0]} Nothing was imported."
                ) from None
        try:
            upgrade_tables(con, version)
        except duckdb.Error as error:
            raise CacheError(
                f"{source.path} does not have the columns of schema version {version}: {str(error).splitlines()[0]} "
                "Nothing was imported."
            ) from None
    return Source(source.path, path, path, {table: f"{THEIRS}.main.{table}" for table in TABLES})
