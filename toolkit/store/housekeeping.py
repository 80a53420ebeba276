"""Keeping house among caches: what lies in a folder, what a file holds, what nothing refers to any more, and compacting."""

from pathlib import Path
from typing import NamedTuple

import duckdb

from toolkit.core.errors import CacheError
from toolkit.store.checkpoint import copy_of
from toolkit.store.generations import Generations
from toolkit.store.rewrite import free_name, rewrite
from toolkit.store.rows import first


class Overview(NamedTuple):
    """One file of a folder of caches.

    Attributes:
        file: Its path.
        bytes: Its size.
        schema: Version of its schema; None where it is no cache.
        suites: Names of its suites.
        nodes: Nodes in all, roots left out; None where it is no cache.
        note: What is wrong with it or lies beside it, or nothing.
    """

    file: str
    bytes: int
    schema: int | None
    suites: list[str]
    nodes: int | None
    note: str


class TableSize(NamedTuple):
    """Rows of a table and the bytes of the blocks that hold them; tables may share a block."""

    table: str
    rows: int
    bytes: int


class Unused(NamedTuple):
    """How many rows of a table nothing refers to, of how many."""

    table: str
    unused: int
    rows: int


_KEPT = """
    CREATE OR REPLACE TEMP TABLE kept_suites AS SELECT suite, encoder, config FROM suites
    WHERE suite IN (SELECT suite FROM current_suites) OR ($runs AND suite IN (SELECT suite FROM runs));
    CREATE OR REPLACE TEMP TABLE kept_nodes AS SELECT DISTINCT n.node, n.parent, n.depth, n.question, n.generation
    FROM suite_questions AS q SEMI JOIN kept_suites USING (suite)
    JOIN nodes AS n ON n.root = q.root JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path;
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
"""What is kept: current suites and those with a run, their trees, and the texts of those."""

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
"""Table to which of its rows go. A row is judged by what is kept, so the order of the tables does not matter."""


class Housekeeping(Generations):
    """Pruning and compacting, and what there is to know before."""

    def overview(self) -> Overview:
        """Tell what the file is, whatever it is: a damaged, foreign, older or held one too."""
        size, left = self.path.stat().st_size, "; ".join(self._beside())
        try:
            con, version = self._connect(True, min(self.wait, 1.0))
        except CacheError as error:
            said = str(error).split(" It is left as it is")[0].replace(f"{self.path} ", "")
            return Overview(str(self.path), size, None, [], None, f"{said}; {left}" if left else said)
        try:
            suites = [row[0] for row in con.execute("SELECT DISTINCT name FROM suites ORDER BY name").fetchall()]
            nodes = first(con, "SELECT count(*) FROM nodes WHERE depth > 0")
        except duckdb.Error as error:
            return Overview(str(self.path), size, version, [], None, f"damaged: {str(error).splitlines()[0]}")
        finally:
            con.close()
        return Overview(str(self.path), size, version, suites, int(nodes[0]) if nodes else 0, left)

    def _beside(self) -> list[str]:
        """Tell what lies beside the file and belongs to it, or was left behind."""
        name = self.path.name
        notes = []
        if self.path.with_name(f"{name}.wal").exists():
            notes.append(f"{name}.wal belongs to it, the next write takes it in")
        if copy_of(self.path).exists():
            notes.append(f"{name}.blocks belongs to it, the next command that opens it takes it in")
        if waiting := len(self.spool.files()):
            notes.append(f"{waiting} finished batches wait in {self.spool.folder.name}, the next generate takes them in")
        notes += [f"backup {path.name}" for path in sorted(self.path.parent.glob(f"{name}.*backup*"))]
        drafts = [path for path in sorted(self.path.parent.glob(f".{name}.*")) if path.is_file()]
        return notes + [f"{path.name} is the draft of a command at work or one that was killed" for path in drafts]

    def facts(self) -> dict[str, str]:
        """Return what the file says of itself: versions, and what made it."""
        with self.read() as con:
            return dict(
                con.execute("SELECT key, string_agg(value, '; ') FROM meta GROUP BY key ORDER BY min(rowid)").fetchall()
            )

    def sizes(self) -> list[TableSize]:
        """Count the rows of every table and the bytes of the blocks they are in."""
        found = []
        with self.read() as con:
            block = con.execute("SELECT block_size FROM pragma_database_size()").fetchall()[0][0]
            tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY table_name").fetchall()
            for (table,) in tables:
                rows = con.execute(f'SELECT count(*) FROM "{table}"').fetchall()[0][0]
                blocks = con.execute(
                    "SELECT count(DISTINCT block) FROM (SELECT unnest([block_id] || additional_block_ids) AS block"
                    " FROM pragma_storage_info(?) WHERE persistent) WHERE block >= 0",
                    [table],
                ).fetchall()[0][0]
                found.append(TableSize(table, rows, blocks * block))
        return found

    def unused(self, runs: bool = False) -> list[Unused]:
        """Count what no current suite, and no run, refers to; nothing is changed.

        Args:
            runs: Whether runs of superseded suites, and with them those suites, count as unused.
        """
        with self.read() as con:
            _keep(con, runs)
            return [
                Unused(table, *con.execute(f"SELECT count(*) FILTER ({condition}), count(*) FROM {table}").fetchall()[0])
                for table, condition in _UNUSED.items()
            ]

    def prune(self, runs: bool = False) -> Path:
        """Delete what `unused` counts, in a copy that takes the file's place.

        Returns:
            Where the file as it was is kept.
        """
        self.drain()
        backup = free_name(self.path.with_name(f"{self.path.name}.pruned.backup"), self.path)

        def delete(con: duckdb.DuckDBPyConnection) -> None:
            _keep(con, runs)
            con.execute("".join(f"DELETE FROM {table} WHERE {condition};" for table, condition in _UNUSED.items()))

        with self.hold() as con:
            rewrite(con, self.path, delete, backup)
        self.vacuum()
        return backup

    def vacuum(self) -> tuple[int, int]:
        """Write the file anew, as small as its rows allow: DuckDB keeps the room of what was deleted.

        Returns:
            Bytes before and after.
        """
        before = self.path.stat().st_size if self.exists() else 0
        with self.hold() as con:
            rewrite(con, self.path)
        return before, self.path.stat().st_size


def _keep(con: duckdb.DuckDBPyConnection, runs: bool) -> None:
    con.execute(_KEPT.replace("$runs", "false" if runs else "true"))
