"""Moves rows between caches, through another cache or through a folder of Parquet files with a manifest of their hashes.

Rows are content-addressed, so a merge adds what is missing. If both sides have different responses to the same prompt, the
merge is refused unless the caller says which to keep.
"""

import json
from pathlib import Path
from typing import Literal
from uuid import UUID

import duckdb

from toolkit.core.errors import CacheError
from toolkit.core.files import atomic_path, content_sha256, used_folder_problem
from toolkit.store.file import CacheFile, now
from toolkit.store.incoming import MANIFEST, TABLES, Source, open_source
from toolkit.store.rewrite import quoted
from toolkit.store.rows import first_row
from toolkit.store.schema import SCHEMA_VERSION

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
        if problem := used_folder_problem(folder):
            raise CacheError(problem)
        rows: dict[str, int] = {}
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder) as draft:
                draft.mkdir()
                with self._file.read(folder=draft.resolve()) as con:
                    for table, key in TABLES.items():
                        target = quoted(draft.resolve() / f"{table}.parquet")
                        rows_in_order = f"FROM {table} ORDER BY {', '.join(key)}"
                        con.execute(f"COPY ({rows_in_order}) TO {target} (FORMAT parquet, COMPRESSION zstd)")
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
            Rows added by table. The cache is created if it does not exist.

        Raises:
            CacheError: The source is damaged or incomplete, or both sides differ and `prefer` does not say which to keep.
        """
        if source.resolve() == self._file.path.resolve():
            raise CacheError(f"{source} is the cache itself. Name another source.")
        with open_source(source, self._file.wait, scratch=self._file.path) as checked:
            self._file.create()
            return self._merge(checked, prefer)

    def _merge(self, source: Source, prefer: Prefer | None) -> dict[str, int]:
        added: dict[str, int] = {}
        theirs = source.tables
        with self._file.write(source=source.access) as con:
            source.attach(con)
            con.execute(
                f"DELETE FROM generations WHERE status = 'error'"
                f" AND generation IN (SELECT generation FROM {theirs['generations']} WHERE status = 'ok')"
            )
            for table, columns in CONTENT.items():
                self._settle(con, table, columns, theirs[table], source.path, prefer)
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


def _count(con: duckdb.DuckDBPyConnection, source: str) -> int:
    row = first_row(con, f"SELECT count(*) {source}")
    return int(row[0]) if row else 0


def _shown(value: object) -> str:
    return str(value) if isinstance(value, UUID) else repr(value)
