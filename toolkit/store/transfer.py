"""Moves rows between caches, through another cache or through a folder of Parquet files with a manifest of their hashes.

Rows are content-addressed, so a merge adds what is missing. If both sides have different responses to the same prompt, the
merge is refused unless the caller says which to keep.
"""

import json
import tempfile
from pathlib import Path
from typing import Literal
from uuid import UUID

import duckdb

from toolkit.core.errors import CacheError
from toolkit.core.files import atomic_path, content_sha256
from toolkit.store.file import CacheFile, now
from toolkit.store.migrations import upgrade_tables
from toolkit.store.rewrite import quoted
from toolkit.store.rows import KEYS, first_row
from toolkit.store.schema import SCHEMA_VERSION

MANIFEST = "manifest.json"
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
CONTENT = {"generations": ("response", "prompt_tokens", "completion_tokens", "cost"), "scores": ("value",)}
"""Columns that must agree if the keys do."""

Prefer = Literal["ours", "theirs"]


class Transfer:
    """Export and merge of a cache."""

    def __init__(self, file: CacheFile) -> None:
        self._file = file

    def export(self, folder: Path) -> dict[str, int]:
        """Write every table as Parquet in the order of its keys, then a manifest with the hashes of the files.

        Returns:
            Rows by table.

        Raises:
            CacheError: The folder is not empty, or cannot be written.
        """
        if folder.exists() and any(folder.iterdir()):
            raise CacheError(f"The folder {folder} is not empty and is left as it is. Name a new folder.")
        rows: dict[str, int] = {}
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder) as draft, self._file.read() as con:
                draft.mkdir()
                for table, key in TABLES.items():
                    target = quoted(draft / f"{table}.parquet")
                    con.execute(f"COPY (FROM {table} ORDER BY {', '.join(key)}) TO {target} (FORMAT parquet, COMPRESSION zstd)")
                    rows[table] = _count(con, f"FROM {table}")
                manifest = {
                    "schema_version": SCHEMA_VERSION,
                    "exported": now().isoformat(timespec="seconds"),
                    "tables": {
                        table: {"rows": rows[table], "sha256": content_sha256(draft / f"{table}.parquet")} for table in TABLES
                    },
                }
                (draft / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        except (OSError, duckdb.IOException) as error:
            raise CacheError(f"{self._file.path} cannot be exported to {folder}: {error}. Is the disk full?") from None
        return rows

    def merge(self, source: Path, prefer: Prefer | None = None) -> dict[str, int]:
        """Add the rows of an exported folder or another cache that this cache does not have, in one transaction.

        A response replaces an error for the same prompt.

        Args:
            source: The folder, or the other cache.
            prefer: Whose response or score to keep if both have one and they differ.

        Returns:
            Rows added by table.

        Raises:
            CacheError: The source is damaged or incomplete, or both sides differ and `prefer` does not say which to keep.
        """
        if source.is_dir():
            version = _check_manifest(source)
            if version < SCHEMA_VERSION:
                path = self._file.path
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.import-") as scratch:
                    migrated = _migrated(source, version, Path(scratch) / "migrated.duckdb")
                    return self._merge({table: f"theirs.{table}" for table in TABLES}, source, prefer, attach=migrated)
            return self._merge({table: _parquet(source, table) for table in TABLES}, source, prefer)
        if source.resolve() == self._file.path.resolve():
            raise CacheError(f"{source} is the cache itself. Name another source.")
        with CacheFile(source, self._file.wait).read():
            pass  # refuses a foreign file before it is attached
        return self._merge({table: f"theirs.{table}" for table in TABLES}, source, prefer, attach=source)

    def _merge(self, theirs: dict[str, str], source: Path, prefer: Prefer | None, attach: Path | None = None) -> dict[str, int]:
        added: dict[str, int] = {}
        with self._file.write() as con:
            if attach:
                con.execute(f"ATTACH {quoted(attach)} AS theirs (READ_ONLY)")
            con.execute(
                f"DELETE FROM generations WHERE status = 'error'"
                f" AND generation IN (SELECT generation FROM {theirs['generations']} WHERE status = 'ok')"
            )
            for table, columns in CONTENT.items():
                self._settle(con, table, columns, theirs[table], source, prefer)
            for table, key in TABLES.items():
                same = " AND ".join(f"o.{column} = t.{column}" for column in key)
                before = _count(con, f"FROM {table}")
                con.execute(
                    f"INSERT INTO {table} BY NAME SELECT * FROM {theirs[table]} AS t"
                    f" WHERE NOT EXISTS (SELECT 1 FROM {table} AS o WHERE {same})"
                )
                added[table] = _count(con, f"FROM {table}") - before
        return added

    def _settle(
        self,
        con: duckdb.DuckDBPyConnection,
        table: str,
        columns: tuple[str, ...],
        theirs: str,
        source: Path,
        prefer: Prefer | None,
    ) -> None:
        """Refuse rows of the same key but different content, or delete those that are not preferred."""
        same = " AND ".join(f"o.{name} = t.{name}" for name in TABLES[table])
        other = f"({' OR '.join(f'o.{column} <> t.{column}' for column in columns)})"
        differ = f"{table} AS o JOIN {theirs} AS t ON {same} AND {other}"
        [(count, example)] = con.execute(f"SELECT count(*), any_value(o.{TABLES[table][0]}) FROM {differ}").fetchall()
        if not count:
            return
        if prefer is None:
            raise CacheError(
                f"{count} {table} of {source} differ from those in {self._file.path}, e.g. {_shown(example)}. Nothing was "
                "changed. Greedy decoding in 16 bits can differ between machines. Choose a side: --prefer ours or "
                "--prefer theirs."
            )
        if prefer == "theirs":
            con.execute(f"DELETE FROM {table} AS o USING {theirs} AS t WHERE {same} AND {other}")


def _check_manifest(folder: Path) -> int:
    """Check that a folder is a complete export; return the version of its schema."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        version = int(manifest["schema_version"])
        hashes = {table: content["sha256"] for table, content in manifest["tables"].items()}
    except FileNotFoundError:
        raise CacheError(
            f"{folder} has no {MANIFEST}: it is not an export, or an unfinished one. "
            "Export it again: toolkit export FOLDER --cache FILE"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{folder / MANIFEST} cannot be read ({error}). Export the folder again.") from None
    if version > SCHEMA_VERSION:
        raise CacheError(
            f"{folder} was exported with schema version {version}; this toolkit knows up to {SCHEMA_VERSION}. "
            "Update the toolkit: git pull in its clone, or install the newest release."
        )
    if lacking := sorted(set(TABLES) - set(hashes)):
        raise CacheError(f"{folder / MANIFEST} does not list {', '.join(lacking)}. Export the folder again.")
    if unknown := sorted(set(hashes) - set(TABLES)):
        raise CacheError(f"{folder / MANIFEST} lists {unknown[0]!r}, which is no table of a cache. Nothing was imported.")
    for table, digest in hashes.items():
        file = folder / f"{table}.parquet"
        if not file.exists() or content_sha256(file) != digest:
            raise CacheError(
                f"{file} does not match {MANIFEST}: it is missing or damaged. Nothing was imported; export the folder again."
            )
    return version


def _parquet(folder: Path, table: str) -> str:
    return f"read_parquet({quoted(folder / f'{table}.parquet')})"


def _migrated(folder: Path, version: int, path: Path) -> Path:
    """Write an exported folder of an older schema as a database with today's tables."""
    with duckdb.connect(str(path)) as con:
        for table in TABLES:  # names of files in a foreign folder never become SQL
            con.execute(f"CREATE TABLE {table} AS FROM {_parquet(folder, table)}")
        upgrade_tables(con, version)
    return path


def _count(con: duckdb.DuckDBPyConnection, source: str) -> int:
    row = first_row(con, f"SELECT count(*) {source}")
    return int(row[0]) if row else 0


def _shown(value: object) -> str:
    return str(value) if isinstance(value, UUID) else repr(value)
