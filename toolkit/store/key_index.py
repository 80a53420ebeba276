"""Remembers the keys of a cache between two commits of one process, so that a commit need not read them all again.

Keys are kept as hashes: an unknown hash proves that a key is new; a known one proves nothing, and the exact look-up decides.
Valid only while nobody else writes to the file (see `Generations.commit`).
"""

from typing import TYPE_CHECKING

import duckdb

from toolkit.store.rows import KEYS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_RECENT_KEYS = 1 << 17
"""Hashes kept in a set before they are merged into the sorted array."""


class KeyIndex:
    """Hashes of the keys of the tables that were committed to, 8 bytes per row."""

    def __init__(self) -> None:
        self._sorted: dict[str, npt.NDArray[np.uint64]] = {}
        self._recent: dict[str, set[int]] = {}

    def clear(self) -> None:
        """Forget everything, because somebody else has written to the file."""
        self._sorted.clear()
        self._recent.clear()

    def add(self, con: duckdb.DuckDBPyConnection, table: str, staged: str) -> bool:
        """Add the keys of staged rows; return whether all of them are certainly new.

        Args:
            con: The open cache; the keys of a table are read once.
            table: Name of the table.
            staged: Query that yields the rows.
        """
        import numpy as np

        if table not in self._sorted:
            self._sorted[table], self._recent[table] = np.sort(_hashes(con, table, table)), set()
        known, recent, incoming = self._sorted[table], self._recent[table], _hashes(con, table, f"({staged})")
        collides = len(known) and (known[np.searchsorted(known, incoming).clip(max=len(known) - 1)] == incoming).any()
        all_new = not collides and recent.isdisjoint(incoming.tolist())
        recent.update(incoming.tolist())
        if len(recent) > MAX_RECENT_KEYS:
            self._sorted[table] = np.union1d(known, np.fromiter(recent, np.uint64))
            recent.clear()
        return all_new


def _hashes(con: duckdb.DuckDBPyConnection, table: str, source: str) -> "npt.NDArray[np.uint64]":
    query = f"SELECT hash({', '.join(KEYS[table])}) AS key FROM {source}"
    hashes: npt.NDArray[np.uint64] = con.execute(query).fetchnumpy()["key"]
    return hashes
