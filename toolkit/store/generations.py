"""What generation reads and commits: contexts to answer, what is done of them, batches, texts to embed."""

import logging
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import duckdb

from toolkit.errors import CacheBusyError
from toolkit.store.embeddings import decision_texts
from toolkit.store.file import CacheFile
from toolkit.store.rows import arrow_keys, insert
from toolkit.store.spool import Batch, Spool
from toolkit.suite import Suite

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
            for file in waiting:
                spooled = self.spool.read(file)
                if spooled:
                    _commit(con, spooled)
            _commit(con, batch)
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

    def unscored(self, suite: UUID) -> list[tuple[UUID, str]]:
        """Return question and response of the suite's answers that their metric has not scored."""
        with self.read() as con:
            return con.execute(
                "SELECT DISTINCT q.question, g.response FROM suite_questions AS q"
                " JOIN nodes AS n ON n.root = q.root JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'"
                " JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path"
                " WHERE q.suite = ? AND NOT EXISTS (SELECT 1 FROM scores AS c"
                " WHERE c.question = q.question AND c.text = g.text AND c.metric = q.metric)",
                [suite],
            ).fetchall()

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


def _commit(con: duckdb.DuckDBPyConnection, batch: Batch) -> None:
    if batch.generations:
        con.register("retried", arrow_keys([row["generation"] for row in batch.generations]))
        con.execute("DELETE FROM generations WHERE status = 'error' AND generation IN (SELECT key::UUID FROM retried)")
    for table in ("generations", "nodes", "scores", "embeddings"):
        insert(con, table, getattr(batch, table))
