"""Generations and nodes: the contexts of a hop, what is generated of them, and commits of finished batches."""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import duckdb

from toolkit.core.errors import CacheBusyError
from toolkit.store.file import CacheFile
from toolkit.store.key_index import KeyIndex
from toolkit.store.opening import FileState
from toolkit.store.rows import Row, insert_new, iterate_rows, key_table, stage_rows
from toolkit.store.spool import Batch, Spool
from toolkit.suites.suite import Suite

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("toolkit")


class Parent(NamedTuple):
    """A node that the next hop starts from.

    Attributes:
        node: Key of the node.
        root: Root of its tree.
        question: Its question.
        sample: Number of the sampled tree.
        path: Keys of the models chosen so far.
        responses: Responses along the path, oldest first.
    """

    node: UUID
    root: UUID
    question: UUID
    sample: int
    path: tuple[UUID, ...]
    responses: tuple[str, ...]


class MeanGeneration(NamedTuple):
    """Means over generations: tokens, and the engine's seconds."""

    generations: int
    prompt_tokens: float
    completion_tokens: float
    seconds: float


class PromptAndResponse(NamedTuple):
    """A generation with its texts and their lengths in tokens."""

    generation: UUID
    prompt: str
    response: str
    prompt_tokens: int
    completion_tokens: int


class SuiteGeneration(NamedTuple):
    """A generation of a suite, at the first hop that uses it."""

    model: UUID
    depth: int
    generation: UUID
    prompt_tokens: int
    succeeded: bool


class ScoredNode(NamedTuple):
    """A node of a suite with its response, its quality, and its place in the replay table."""

    generation: UUID
    position: int
    number: int
    question: UUID
    model: UUID
    prompt_tokens: int
    response: str
    quality: float


class Generations:
    """The generations and nodes of a cache."""

    def __init__(self, file: CacheFile) -> None:
        self._file = file
        self._index = KeyIndex()
        self._committed: FileState | None = None
        """The file as the last commit left it: the state that `_index` describes."""

    @property
    def spool(self) -> Spool:
        """Where finished batches wait while others hold the file."""
        return Spool(self._file.path.with_name(self._file.path.name + ".spool"))

    def parents(self, suite: Suite, depth: int, wait: float | None = None) -> list[Parent]:
        """Return the nodes at `depth` that have a response (the roots at depth 0), with all responses along their paths."""
        hops = range(1, depth + 1)
        joins = "".join(
            f" JOIN nodes AS n{hop} ON n{hop}.parent = {f'n{hop - 1}.node' if hop > 1 else 'q.root'}"
            f" JOIN pool AS p{hop} ON p{hop}.model = n{hop}.path[-1]"
            f" JOIN generations AS g{hop} ON g{hop}.generation = n{hop}.generation AND g{hop}.status = 'ok'"
            for hop in hops
        )
        node = f"n{depth}.node" if depth else "q.root"
        path = f"n{depth}.path" if depth else "[]::UUID[]"
        responses = ", ".join(f"g{hop}.response" for hop in hops)
        order = "".join(f", p{hop}.position" for hop in hops)
        with self._file.read(wait) as con:
            rows = con.execute(
                "WITH pool AS (SELECT model, position FROM suite_models WHERE suite = $suite)"
                f" SELECT {node}, q.root, q.question, q.sample, {path}, [{responses}] FROM suite_questions AS q{joins}"
                f" WHERE q.suite = $suite AND {path} IN (SELECT path FROM suite_paths WHERE suite = $suite)"
                f" ORDER BY q.position{order}",
                {"suite": suite.key},
            ).fetchall()
        return [
            Parent(node, root, question, sample, tuple(path), tuple(responses))
            for node, root, question, sample, path, responses in rows
        ]

    def done_nodes(self, suite: Suite, retry: bool = False) -> set[UUID]:
        """Return the nodes that need no generation: those with a response and, unless `retry`, those that failed for good."""
        with self._file.read() as con:
            rows = con.execute(
                "SELECT n.node FROM suite_nodes AS n JOIN generations AS g ON g.generation = n.generation"
                " WHERE n.suite = ? AND (g.status = 'ok' OR NOT (g.transient OR ?))",
                [suite.key, retry],
            ).fetchall()
        return {row[0] for row in rows}

    def responses(self, generations: Sequence[UUID], wait: float | None = None) -> dict[UUID, str]:
        """Return the responses of those of the given generations that are cached and succeeded, by key."""
        with self._file.read(wait) as con:
            con.register("incoming", key_table(generations))
            rows = con.execute(
                "SELECT g.generation, g.response FROM generations AS g"
                " JOIN incoming ON g.generation = incoming.key::UUID WHERE g.status = 'ok'"
            ).fetchall()
        return dict(rows)

    def commit(self, batch: Batch, wait: float | None = None) -> None:
        """Commit a batch, after all spooled ones, in one transaction.

        Rows that exist stay as they are, except that errors are replaced.
        """
        waiting = self.spool.files()
        with self._file.write(wait) as con:
            index = self._index if self._committed is not None and self._committed == self._file.state_at_open else None
            if index is None:  # somebody else has written since our last commit
                self._index.clear()
            for file in waiting:
                spooled = self.spool.read(file)
                if spooled:
                    _commit(con, spooled, index)
            _commit(con, batch, index)
        self._committed = self._file.state_at_close
        self.spool.discard(waiting)

    def commit_or_spool(self, batch: Batch, wait: float) -> bool:
        """Commit a batch or, if others hold the file for longer than `wait` seconds, keep it durably beside the cache.

        Returns:
            Whether it was committed.
        """
        try:
            self.commit(batch, wait)
        except CacheBusyError as error:
            if not self.spool.files():
                logger.warning("%s Finished batches are spooled to %s until then.", error, self.spool.folder)
            self.spool.put(batch)
            return False
        return True

    def drain(self) -> int:
        """Commit all spooled batches; return their number.

        Raises:
            CacheBusyError: Others still hold the file; the batches stay spooled.
        """
        waiting = len(self.spool.files())
        if waiting:
            try:
                self.commit(Batch())
            except CacheBusyError as error:
                raise CacheBusyError(
                    f"{error} {waiting} finished batches are safe in {self.spool.folder}; the next generate commits them."
                ) from None
        return waiting

    def means(self) -> dict[tuple[str | None, UUID | None, int | None], MeanGeneration]:
        """Return means over successful generations by engine, model and depth, each of which may be None for any."""
        return {
            (row.pop("engine"), UUID(model) if (model := row.pop("model")) else None, row.pop("depth")): MeanGeneration(**row)
            for row in self._file.query("mean_generations").to_pylist()
        }

    def of_suite(self, suite: UUID) -> list[SuiteGeneration]:
        """Return the generations of a suite in the order in which `generate` forms batches of them."""
        rows = self._file.query("generations_of_suite", suite=suite)
        return [SuiteGeneration(**row) for row in _with_uuids(rows, "model", "generation")]

    def of_model(self, model: UUID) -> Iterator[PromptAndResponse]:
        """Yield the successful generations of a model."""
        rows = self._file.query("generations_of_model", model=model)
        return (PromptAndResponse(**row) for row in _with_uuids(rows, "generation"))

    def texts(self, generations: Sequence[UUID]) -> dict[UUID, PromptAndResponse]:
        """Return the texts of generations, by key."""
        rows = self._file.query("generations_by_key", keys=list(map(str, generations)))
        return {row["generation"]: PromptAndResponse(**row) for row in _with_uuids(rows, "generation")}

    def scored_nodes(self, suite: UUID, generations: Sequence[UUID]) -> list[ScoredNode]:
        """Return the nodes of a suite that share the given generations."""
        rows = self._file.query("scored_nodes", suite=suite, keys=list(map(str, generations)))
        return [ScoredNode(**row) for row in _with_uuids(rows, "generation", "question", "model")]


def _with_uuids(table: "pa.Table", *columns: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, with keys as UUIDs: Arrow hands them over as text."""
    return (row | {column: UUID(row[column]) for column in columns} for row in iterate_rows(table))


def _commit(con: duckdb.DuckDBPyConnection, batch: Batch, index: KeyIndex | None) -> None:
    if batch.generations:
        con.register("retried", key_table([row["generation"] for row in batch.generations]))
        con.execute("DELETE FROM generations WHERE status = 'error' AND generation IN (SELECT key::UUID FROM retried)")
    for table in ("generations", "nodes", "scores", "embeddings"):
        rows: list[Row] = getattr(batch, table)
        if rows:
            staged = stage_rows(con, table, rows)
            if index and index.add(con, table, staged):
                con.execute(f"INSERT INTO {table} BY NAME {staged}")
            else:
                insert_new(con, table, staged)
