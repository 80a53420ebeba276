"""What generation reads and commits: contexts to answer, what is done of them, batches, texts to embed."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import duckdb

from toolkit.core.errors import CacheBusyError
from toolkit.store.embeddings import decision_texts
from toolkit.store.file import WAIT_SECONDS, CacheFile, Stamp
from toolkit.store.key_index import KeyIndex
from toolkit.store.rows import arrow_keys, insert
from toolkit.store.spool import Batch, Spool
from toolkit.suites.suite import Suite

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("toolkit")


class Parent(NamedTuple):
    """A node that the next hop starts from."""

    node: UUID
    root: UUID
    question: UUID
    sample: int
    path: tuple[UUID, ...]
    answers: tuple[str, ...]


class Generations(CacheFile):
    """Nodes, generations, scores and embeddings."""

    def __init__(self, path: Path | str, wait: float = WAIT_SECONDS) -> None:
        super().__init__(path, wait)
        self._seen = KeyIndex()
        self._committed: Stamp | None = None
        """The file as the last `commit` left it: what `_seen` is true of."""

    @property
    def spool(self) -> Spool:
        """Where finished batches wait while others hold the file."""
        return Spool(self.path.with_name(self.path.name + ".spool"))

    def parents(self, suite: Suite, depth: int, wait: float | None = None) -> list[Parent]:
        """Return the nodes at `depth` that have an answer (the roots at depth 0), with all answers on their paths."""
        hops = range(1, depth + 1)
        joins = "".join(
            f" JOIN nodes AS n{hop} ON n{hop}.parent = {'n' + str(hop - 1) if hop > 1 else 'q'}.{'node' if hop > 1 else 'root'}"
            f" JOIN pool AS p{hop} ON p{hop}.model = n{hop}.path[-1]"
            f" JOIN generations AS g{hop} ON g{hop}.generation = n{hop}.generation AND g{hop}.status = 'ok'"
            for hop in hops
        )
        node = f"n{depth}.node" if depth else "q.root"
        path = f"n{depth}.path" if depth else "[]"
        answers = ", ".join(f"g{hop}.response" for hop in hops)
        order = "".join(f", p{hop}.position" for hop in hops)
        with self.read(wait) as con:
            rows = con.execute(
                "WITH pool AS (SELECT model, position FROM suite_models WHERE suite = $suite)"
                f" SELECT {node}, q.root, q.question, q.sample, {path}, [{answers}] FROM suite_questions AS q{joins}"
                f" WHERE q.suite = $suite ORDER BY q.position{order}",
                {"suite": suite.key},
            ).fetchall()
        return [Parent(row[0], row[1], row[2], row[3], tuple(row[4]), tuple(row[5])) for row in rows]

    def nodes_done(self, suite: Suite, retry: bool = False) -> set[UUID]:
        """Return the suite's nodes that need no generation: answered, or, unless `retry`, failed for good."""
        with self.read() as con:
            rows = con.execute(
                "SELECT n.node FROM suite_questions AS q JOIN nodes AS n ON n.root = q.root"
                " JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path"
                " JOIN generations AS g ON g.generation = n.generation"
                " WHERE q.suite = ? AND (g.status = 'ok' OR NOT (g.transient OR ?))",
                [suite.key, retry],
            ).fetchall()
        return {row[0] for row in rows}

    def generations_done(self, generations: Sequence[UUID], wait: float | None = None) -> dict[UUID, str]:
        """Return key and response of those of the generations that are there with an answer."""
        with self.read(wait) as con:
            con.register("incoming", arrow_keys(generations))
            rows = con.execute(
                "SELECT g.generation, g.response FROM generations AS g"
                " JOIN incoming ON g.generation = incoming.key::UUID WHERE g.status = 'ok'"
            ).fetchall()
        return dict(rows)

    def commit(self, batch: Batch, wait: float | None = None) -> None:
        """Commit a batch in one transaction, spooled ones before it.

        Rows that are there already stay as they are; errors are replaced.
        """
        waiting = self.spool.files()
        with self.write(wait) as con:
            alone = self._committed is not None and self._committed == self._found
            if not alone:
                self._seen.clear()
            for file in waiting:
                spooled = self.spool.read(file)
                if spooled:
                    _commit(con, spooled, self._seen if alone else None)
            _commit(con, batch, self._seen if alone else None)
        self._committed = self._left
        self.spool.discard(waiting)

    def commit_or_spool(self, batch: Batch, wait: float) -> bool:
        """Commit a batch or, where others hold the file for longer than `wait` seconds, keep it durably beside the cache.

        Returns:
            Whether it is in the cache.
        """
        try:
            self.commit(batch, wait)
        except CacheBusyError as error:
            if not self.spool.files():
                logger.warning("%s Meanwhile finished batches go to %s.", error, self.spool.folder)
            self.spool.put(batch)
            return False
        return True

    def drain(self) -> int:
        """Take in what is spooled; returns how many batches that were.

        Raises:
            CacheBusyError: Others still hold the file; what is spooled stays.
        """
        waiting = len(self.spool.files())
        if waiting:
            try:
                self.commit(Batch())
            except CacheBusyError as error:
                raise CacheBusyError(
                    f"{error} {waiting} finished batches are safe in {self.spool.folder}; the next generate takes them in."
                ) from None
        return waiting

    def unscored(self, suite: UUID, wanted: Sequence[tuple[UUID, str]]) -> list[tuple[UUID, str, str]]:
        """Return question, metric and response of the suite's answers that a wanted metric of their question has not scored."""
        with self.read() as con:
            con.register("wanted", _wanted(wanted))
            return con.execute(
                f"SELECT DISTINCT question, metric, response FROM ({_ANSWERS})"
                " ANTI JOIN scores USING (question, metric, text) ORDER BY metric, question, response",
                [suite],
            ).fetchall()

    def scored(self, suite: UUID, wanted: Sequence[tuple[UUID, str]]) -> dict[str, tuple[int, int]]:
        """Count the suite's different answers that each wanted metric is to score, and those that it has scored."""
        with self.read() as con:
            con.register("wanted", _wanted(wanted))
            rows = con.execute(
                "SELECT metric, count(*), count(value)"
                f" FROM (SELECT DISTINCT question, metric, text FROM ({_ANSWERS}))"
                " LEFT JOIN scores USING (question, metric, text) GROUP BY metric ORDER BY metric",
                [suite],
            ).fetchall()
        return {metric: (answers, scored) for metric, answers, scored in rows}

    def texts_to_embed(self, suite: Suite) -> list[str]:
        """Return the texts of the suite's decision nodes that its encoder has not embedded yet, equal texts once."""
        with self.read() as con:
            rows = con.execute(
                f"WITH {decision_texts(suite)} SELECT DISTINCT text FROM decision_texts AS d WHERE NOT EXISTS"
                " (SELECT 1 FROM embeddings AS e WHERE e.encoder = $encoder AND e.text = d.key)"
                " ORDER BY length(text) DESC, text",
                {"suite": suite.key, "encoder": suite.encoder},
            ).fetchall()
        return [row[0] for row in rows]


_ANSWERS = """
    SELECT q.question, w.metric, g.text, g.response FROM wanted AS w
    JOIN suite_questions AS q ON q.question = w.question::UUID AND q.suite = ?
    JOIN nodes AS n ON n.root = q.root JOIN generations AS g ON g.generation = n.generation AND g.response IS NOT NULL
    JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path
"""
"""The answers of a suite, once for every metric that is wanted of their question."""


def _wanted(pairs: Sequence[tuple[UUID, str]]) -> "pa.Table":
    import pyarrow as pa

    columns = {"question": [str(question) for question, _ in pairs], "metric": [metric for _, metric in pairs]}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _commit(con: duckdb.DuckDBPyConnection, batch: Batch, seen: KeyIndex | None) -> None:
    if batch.generations:
        con.register("retried", arrow_keys([row["generation"] for row in batch.generations]))
        con.execute("DELETE FROM generations WHERE status = 'error' AND generation IN (SELECT key::UUID FROM retried)")
    for table in ("generations", "nodes", "scores", "embeddings"):
        insert(con, table, getattr(batch, table), seen)
