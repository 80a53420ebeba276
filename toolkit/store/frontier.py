"""The nodes that a run of `generate` goes on from, in a temporary file of its own.

A run goes on while others hold the cache, so it keeps what it needs of it; on disk, so that its memory does not grow with the
suite. Nothing else reads the file, and the system deletes it with the process.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from toolkit.suites.suite import Suite


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


class TriedNode(NamedTuple):
    """A node that needs no generation.

    Attributes:
        position: Row of its tree in the replay table.
        path: Keys of the models chosen so far.
        node: Key of the node.
        responses: Responses along the path; None if the node failed, or if no hop starts from it.
    """

    position: int
    path: tuple[UUID, ...]
    node: UUID
    responses: tuple[str, ...] | None


class Frontier:
    """The tried nodes of a suite; several threads may use it.

    Args:
        suite: The suite.
    """

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._models = [model.key for model in suite.models]
        self._numbers = {model: number.to_bytes(2, "big") for number, model in enumerate(self._models)}
        self._existing: dict[bytes, bool] = {}
        self._lock = threading.Lock()
        self._con = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._con.execute("PRAGMA journal_mode = OFF")
        self._con.execute(
            "CREATE TABLE tried (depth INTEGER, position INTEGER, path BLOB, node BLOB, responses TEXT,"
            " PRIMARY KEY (depth, position, path)) WITHOUT ROWID"
        )

    def add(self, nodes: Iterable[TriedNode]) -> None:
        """Add nodes, or replace those of their place."""
        rows = (
            (
                len(node.path),
                node.position,
                b"".join(self._numbers[model] for model in node.path),
                node.node.bytes,
                None if node.responses is None else json.dumps(node.responses),
            )
            for node in nodes
        )
        with self._lock:
            self._con.execute("BEGIN")
            self._con.executemany("INSERT OR REPLACE INTO tried VALUES (?, ?, ?, ?, ?)", rows)
            self._con.execute("COMMIT")

    def parents(self, depth: int, positions: Sequence[int]) -> list[Parent]:
        """Return the nodes at `depth` that have a response (the roots at depth 0), in the order of the replay table."""
        if depth == 0:
            return [Parent(*self._tree(position), (), ()) for position in positions]
        rows = self._rows("SELECT path, node, responses FROM tried WHERE depth = ? AND position = ?", depth, positions)
        return [
            Parent(UUID(bytes=node), *self._tree(position)[1:], self._path(path), tuple(json.loads(responses)))
            for position, (path, node, responses) in rows
            if responses is not None
        ]

    def tried(self, depth: int, positions: Sequence[int]) -> set[UUID]:
        """Return the nodes at `depth` that need no generation."""
        rows = self._rows("SELECT node FROM tried WHERE depth = ? AND position = ?", depth, positions)
        return {UUID(bytes=node) for _, (node,) in rows}

    def is_done(self, depth: int, model: UUID, positions: Sequence[int]) -> bool:
        """Return whether all nodes at `depth` that a model leads to need no generation, or cannot have one."""
        paths = "SELECT path FROM tried WHERE depth = ? AND position = ?"
        for position in positions:
            with self._lock:
                parents = self._con.execute(f"{paths} AND responses IS NOT NULL", (depth - 1, position)).fetchall()
                tried = set(self._con.execute(paths, (depth, position)).fetchall())
            for (path,) in parents if depth > 1 else [(b"",)]:
                child = path + self._numbers[model]
                if (child,) not in tried and self._exists(child):
                    return False
        return True

    def close(self) -> None:
        """Delete the file."""
        self._con.close()

    def _tree(self, position: int) -> tuple[UUID, UUID, UUID, int]:
        """Return the root, as node and as root, the question and the sample of a tree."""
        question, sample = divmod(position, self._suite.config.samples)
        root = self._suite.root(question, sample)
        return root, root, self._suite.questions[question].key, sample

    def _exists(self, path: bytes) -> bool:
        if path not in self._existing:
            self._existing[path] = self._suite.has_path(self._path(path))
        return self._existing[path]

    def _path(self, path: bytes) -> tuple[UUID, ...]:
        return tuple(self._models[int.from_bytes(path[at : at + 2], "big")] for at in range(0, len(path), 2))

    def _rows(self, query: str, depth: int, positions: Sequence[int]) -> Iterator[tuple[int, tuple[bytes, ...]]]:
        for position in positions:
            with self._lock:
                rows = self._con.execute(query, (depth, position)).fetchall()
            for row in rows:
                yield position, row
