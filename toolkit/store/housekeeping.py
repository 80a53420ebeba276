"""Housekeeping: what a cache file holds, which of its rows nothing refers to, deleting those, and compacting the file."""

from pathlib import Path
from typing import NamedTuple

import duckdb

from toolkit.core.errors import CacheError
from toolkit.store.checkpoint import copy_of
from toolkit.store.file import CacheFile
from toolkit.store.generations import Generations
from toolkit.store.rewrite import free_name, rewrite
from toolkit.store.rows import first_row


class Overview(NamedTuple):
    """What a file of a cache folder is.

    Attributes:
        file: Its path.
        bytes: Its size.
        schema: Version of its schema; None if it is not a cache.
        suites: Names of its suites.
        nodes: Number of nodes without the roots; None if it is not a cache.
        note: What is wrong with it, and what lies beside it; empty if nothing.
    """

    file: str
    bytes: int
    schema: int | None
    suites: list[str]
    nodes: int | None
    note: str


class TableSize(NamedTuple):
    """Number of rows of a table, and bytes of the blocks that hold them; tables may share a block."""

    table: str
    rows: int
    bytes: int


class Unused(NamedTuple):
    """How many rows of a table nothing refers to, and how many there are."""

    table: str
    unused: int
    rows: int


_KEPT = """
    CREATE OR REPLACE TEMP TABLE kept_suites AS SELECT suite, encoder, config FROM suites WHERE $kept;
    CREATE OR REPLACE TEMP TABLE kept_nodes AS
    SELECT DISTINCT node, parent, depth, question, generation FROM suite_nodes SEMI JOIN kept_suites USING (suite);
    CREATE OR REPLACE TEMP TABLE kept_texts AS
    WITH RECURSIVE contexts AS (
        SELECT n.node, q.prompt AS text FROM kept_nodes AS n JOIN questions AS q USING (question) WHERE n.depth = 0
        UNION ALL SELECT n.node, c.text || chr(10) || chr(10) || g.response FROM contexts AS c
        JOIN kept_nodes AS n ON n.parent = c.node JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
        WHERE EXISTS (SELECT 1 FROM kept_suites WHERE config->>'$.features.text' = 'context')
    )
    SELECT g.text FROM generations AS g SEMI JOIN kept_nodes USING (generation) WHERE g.text IS NOT NULL
    UNION SELECT left(sha256(text), 32)::UUID FROM contexts;
"""
"""What is kept: suites that fulfil a condition, their trees, and the texts of those trees."""
_CURRENT = "suite IN (SELECT suite FROM current_suites)"
_WITH_RUNS = f"{_CURRENT} OR suite IN (SELECT suite FROM runs)"

_UNUSED = {
    "suites": "suite NOT IN (SELECT suite FROM kept_suites)",
    "suite_models": "suite NOT IN (SELECT suite FROM kept_suites)",
    "suite_questions": "suite NOT IN (SELECT suite FROM kept_suites)",
    "suite_paths": "suite NOT IN (SELECT suite FROM kept_suites)",
    "runs": "suite NOT IN (SELECT suite FROM kept_suites)",
    "evaluations": "run NOT IN (SELECT run FROM runs SEMI JOIN kept_suites USING (suite))",
    "decisions": "run NOT IN (SELECT run FROM runs SEMI JOIN kept_suites USING (suite))",
    "nodes": "node NOT IN (SELECT node FROM kept_nodes)",
    "generations": "generation NOT IN (SELECT generation FROM kept_nodes WHERE generation IS NOT NULL)",
    "scores": "NOT EXISTS (SELECT 1 FROM kept_nodes AS n JOIN generations AS g USING (generation)"
    " WHERE n.question = scores.question AND g.text = scores.text)",
    "embeddings": "encoder NOT IN (SELECT encoder FROM kept_suites) OR text NOT IN (SELECT text FROM kept_texts)",
    "questions": "question NOT IN (SELECT question FROM suite_questions SEMI JOIN kept_suites USING (suite))",
    "models": "model NOT IN (SELECT model FROM suite_models SEMI JOIN kept_suites USING (suite))",
}
"""Condition, by table, for the rows to delete. It depends on the kept tables alone, so the order of tables is irrelevant."""


class Housekeeping:
    """Overview, pruning and compacting of a cache."""

    def __init__(self, file: CacheFile, generations: Generations) -> None:
        self._file = file
        self._path = file.path
        self._generations = generations

    def overview(self) -> Overview:
        """Describe the file, even if it is damaged, foreign, of an older schema, or held by others."""
        size, beside = self._path.stat().st_size, "; ".join(self._beside())
        try:
            con, version = self._file.open_any_version(wait=min(self._file.wait, 1.0))
        except CacheError as error:
            reason = str(error).split(" It is left as it is")[0].replace(f"{self._path} ", "")
            note = f"{reason}; {beside}" if beside else reason
            return Overview(str(self._path), size, schema=None, suites=[], nodes=None, note=note)
        try:
            suites = [row[0] for row in con.execute("SELECT DISTINCT name FROM suites ORDER BY name").fetchall()]
            nodes = first_row(con, "SELECT count(*) FROM nodes WHERE depth > 0")
        except duckdb.Error as error:
            note = f"damaged: {str(error).splitlines()[0]}"
            return Overview(str(self._path), size, version, suites=[], nodes=None, note=note)
        finally:
            con.close()
        return Overview(str(self._path), size, version, suites, nodes=int(nodes[0]) if nodes else 0, note=beside)

    def _beside(self) -> list[str]:
        """List what lies beside the file and belongs to it, or was left behind."""
        name, spool = self._path.name, self._generations.spool
        notes = []
        if self._path.with_name(f"{name}.wal").exists():
            notes.append(f"{name}.wal belongs to it; the next write applies it")
        if copy_of(self._path).exists():
            notes.append(f"{name}.blocks belongs to it; the next command that opens the cache applies it")
        if waiting := len(spool.files()):
            notes.append(f"{waiting} finished batches wait in {spool.folder.name}; the next generate commits them")
        notes += [f"backup {path.name}" for path in sorted(self._path.parent.glob(f"{name}.*backup*"))]
        drafts = [path for path in sorted(self._path.parent.glob(f".{name}.*")) if path.is_file()]
        return notes + [f"{path.name} is a draft of a running or killed command" for path in drafts]

    def facts(self) -> dict[str, str]:
        """Return what the file says about itself: versions, and what created it."""
        with self._file.read() as con:
            return dict(
                con.execute("SELECT key, string_agg(value, '; ') FROM meta GROUP BY key ORDER BY min(rowid)").fetchall()
            )

    def sizes(self) -> list[TableSize]:
        """Return number of rows and bytes of every table."""
        sizes = []
        with self._file.read() as con:
            block = con.execute("SELECT block_size FROM pragma_database_size()").fetchall()[0][0]
            tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY table_name").fetchall()
            for (table,) in tables:
                rows = con.execute(f'SELECT count(*) FROM "{table}"').fetchall()[0][0]
                blocks = con.execute(
                    "SELECT count(DISTINCT block) FROM (SELECT unnest([block_id] || additional_block_ids) AS block"
                    " FROM pragma_storage_info(?) WHERE persistent) WHERE block >= 0",
                    [table],
                ).fetchall()[0][0]
                sizes.append(TableSize(table, rows, blocks * block))
        return sizes

    def unused(self, runs: bool = False, suite: str | None = None) -> list[Unused]:
        """Count the rows that no current suite and no run refers to, or those that only one suite does; changes nothing.

        Args:
            runs: Whether runs of superseded suites, and with them those suites, count as unused.
            suite: Name of a suite; counts what only it needs, its earlier versions and its runs included, and nothing else.
        """
        with self._file.read() as con:
            conditions = _conditions(con, runs, suite)
            return [
                Unused(table, *con.execute(f"SELECT count(*) FILTER ({condition}), count(*) FROM {table}").fetchall()[0])
                for table, condition in conditions.items()
            ]

    def prune(self, runs: bool = False, suite: str | None = None) -> Path:
        """Delete the rows that `unused` counts, in a copy that replaces the file.

        Returns:
            Where the previous file is kept.
        """
        self._generations.drain()
        backup = free_name(self._path.with_name(f"{self._path.name}.pruned.backup"), self._path)

        def delete(con: duckdb.DuckDBPyConnection) -> None:
            conditions = _conditions(con, runs, suite)
            for table, condition in conditions.items():  # before any row goes on which another condition depends
                con.execute(
                    f"CREATE OR REPLACE TEMP TABLE doomed_{table} AS SELECT rowid AS row FROM {table} WHERE {condition}"
                )
            for table in conditions:
                con.execute(f"DELETE FROM {table} WHERE rowid IN (SELECT row FROM doomed_{table})")

        with self._file.hold() as con:
            rewrite(con, self._path, delete, backup)
        self.vacuum()
        return backup

    def vacuum(self) -> tuple[int, int]:
        """Rewrite the file as small as its rows allow: DuckDB does not give up the space of deleted rows.

        Returns:
            Bytes before and after.
        """
        before = self._path.stat().st_size if self._file.exists() else 0
        with self._file.hold() as con:
            rewrite(con, self._path)
        return before, self._path.stat().st_size


def _conditions(con: duckdb.DuckDBPyConnection, runs: bool, suite: str | None) -> dict[str, str]:
    """Return the condition, by table, for the rows to delete, after listing what is kept in temporary tables."""
    if suite is None:
        con.execute(_KEPT.replace("$kept", _CURRENT if runs else _WITH_RUNS))
        return _UNUSED
    name = suite.replace("'", "''")
    con.execute(_KEPT.replace("kept_", "known_").replace("$kept", "true"))
    con.execute(_KEPT.replace("$kept", f"name <> '{name}'"))
    return {table: f"({condition}) AND NOT ({condition.replace('kept_', 'known_')})" for table, condition in _UNUSED.items()}
