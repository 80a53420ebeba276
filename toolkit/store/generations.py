"""Generations and nodes: which of them a suite has already, and commits of finished batches."""

import logging
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import duckdb

from toolkit.core.errors import CacheBusyError
from toolkit.store.file import CacheFile
from toolkit.store.frontier import TriedNode
from toolkit.store.key_index import KeyIndex
from toolkit.store.opening import FileState, state_of
from toolkit.store.rows import READ_ROWS, Row, insert_new, iterate_rows, key_table, stage_rows
from toolkit.store.spool import TABLES, Batch, Spool, merge
from toolkit.suites.suite import Suite

if TYPE_CHECKING:
    import pyarrow as pa

COMMIT_SHARE = 0.02
"""Share of a run's time that commits may take."""
MAX_PAUSE_SECONDS = 60.0
"""Longest time between two commits of a run that has something to commit."""
MAX_ROWS_SPOOLED = 5_000
"""Nodes that wait for a commit at most: a commit reads them into memory."""

logger = logging.getLogger("toolkit")


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
    """A generation of a suite, at the first hop that uses it, and the first tree there by its row in the replay table."""

    model: UUID
    depth: int
    position: int
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
        self._known: FileState | None = None
        """The file as it was when responses were read last, and as commits of this object have left it since."""
        self._next_commit = 0.0
        """When commits go on, by the monotonic clock."""
        self._rows_spooled = 0
        self.is_blocked = False
        """Whether the last commit had to give way to others who hold the file."""

    @property
    def spool(self) -> Spool:
        """Where finished batches wait while others hold the file."""
        return Spool(self._file.path.with_name(self._file.path.name + ".spool"))

    def tried(self, suite: Suite, retry: bool = False) -> Iterator[TriedNode]:
        """Yield the nodes that need no generation: those with a response and, unless `retry`, those that failed for good.

        Nodes below a failed one are left out. The file is open until the last one.
        """
        with self._file.read() as con:
            for depth in range(1, suite.horizon + 1):
                result = con.execute(_tried_nodes(depth, suite.horizon), {"suite": suite.key, "retry": retry})
                while rows := result.fetchmany(READ_ROWS):
                    for position, path, node, responses in rows:
                        yield TriedNode(position, tuple(path), node, None if responses is None else tuple(responses))

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
            self._known = state_of(self._file.path)
            con.register("incoming", key_table(generations))
            rows = con.execute(
                "SELECT g.generation, g.response FROM generations AS g"
                " JOIN incoming ON g.generation = incoming.key::UUID WHERE g.status = 'ok'"
            ).fetchall()
        return dict(rows)

    def changed_by_others(self) -> bool:
        """Return whether anybody has written to the file since `responses` was called last, commits of this object apart."""
        return self._known is None or self._known != state_of(self._file.path)

    def commit(self, batch: Batch, wait: float | None = None) -> None:
        """Commit a batch, after all spooled ones, in one transaction.

        Rows that exist stay as they are, except that errors are replaced.
        """
        waiting = self.spool.files()
        with self._file.write(wait) as con:
            opened = self._file.state_at_open
            index = self._index if self._committed is not None and self._committed == opened else None
            if index is None:  # somebody else has written since our last commit
                self._index.clear()
            spooled = filter(None, map(self.spool.read, waiting))
            for merged in merge(chain(spooled, [batch])):
                _commit(con, merged, index)
        self._known = self._file.state_at_close if self._known is not None and self._known == opened else None
        self._committed = self._file.state_at_close
        self.spool.discard(waiting)

    def commit_or_spool(self, batch: Batch, wait: float) -> bool:
        """Keep a batch durably: commit it or, for as long as commits pause or others hold the file, spool it beside the cache.

        After a commit, further ones pause until `1 / COMMIT_SHARE` times its duration has passed, so that they take little of
        a run's time, however short its batches are and however large the file.

        Args:
            batch: The batch.
            wait: Longest time to wait for others who hold the file, in seconds.

        Returns:
            Whether it was committed.
        """
        started = time.monotonic()
        if started < self._next_commit and not batch.embeddings and self._rows_spooled < MAX_ROWS_SPOOLED:
            self.spool.put(batch)
            self._rows_spooled += len(batch.nodes)
            return False
        try:
            self.commit(batch, wait)
        except CacheBusyError as error:
            if not self.is_blocked:
                logger.warning("%s Finished batches are spooled to %s until then.", error, self.spool.folder)
            self.spool.put(batch)
            self.is_blocked = True
            return False
        self.is_blocked, self._rows_spooled = False, 0
        self._next_commit = started + min(MAX_PAUSE_SECONDS, (time.monotonic() - started) / COMMIT_SHARE)
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
                self.is_blocked, self._rows_spooled = False, 0
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


def _tried_nodes(depth: int, horizon: int) -> str:
    """Return SQL for the nodes of the suite `$suite` at `depth` that need no generation, below nodes with a response."""
    hops = range(1, depth + 1)
    joins = "".join(
        f" JOIN nodes AS n{hop} ON n{hop}.parent = {f'n{hop - 1}.node' if hop > 1 else 'q.root'}"
        f" JOIN suite_models AS m{hop} ON m{hop}.suite = q.suite AND m{hop}.model = n{hop}.path[-1]"
        f" JOIN generations AS g{hop} ON g{hop}.generation = n{hop}.generation"
        + (f" AND g{hop}.status = 'ok'" if hop < depth else "")
        for hop in hops
    )
    responses = f"[{', '.join(f'g{hop}.response' for hop in hops)}]" if depth < horizon else "NULL"
    return (
        f"SELECT q.position, n{depth}.path, n{depth}.node, CASE WHEN g{depth}.status = 'ok' THEN {responses} END"
        f" FROM suite_questions AS q{joins}"
        f" WHERE q.suite = $suite AND (g{depth}.status = 'ok' OR NOT (g{depth}.transient OR $retry))"
        f" AND n{depth}.path IN (SELECT path FROM suite_paths WHERE suite = $suite)"
    )


def _commit(con: duckdb.DuckDBPyConnection, batch: Batch, index: KeyIndex | None) -> None:
    for table in TABLES:
        rows: list[Row] = getattr(batch, table)
        if not rows:
            continue
        staged = stage_rows(con, table, rows)
        if index and index.add(con, table, staged):
            con.execute(f"INSERT INTO {table} BY NAME {staged}")
            continue
        if table == "generations":
            con.register("retried", key_table([row["generation"] for row in rows]))
            con.execute("DELETE FROM generations WHERE status = 'error' AND generation IN (SELECT key::UUID FROM retried)")
        insert_new(con, table, staged)
