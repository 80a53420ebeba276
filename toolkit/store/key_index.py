"""Which keys a cache holds, remembered between two commits of one process, so that a commit does not read them all again.

Kept as hashes: a new hash proves that a key is new; a known one proves nothing, and the exact look-up decides. Good only while
nobody else writes to the file (see `Generations.commit`).
"""

from typing import TYPE_CHECKING

import duckdb

from toolkit.store.rows import KEYS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RECENT = 1 << 17
"""Hashes that are kept in a set before they are sorted in with the others."""


class KeyIndex:
    """Hashes of the keys of the tables that were committed to, 8 bytes a row."""

    def __init__(self) -> None:
        self._sorted: dict[str, npt.NDArray[np.uint64]] = {}
        self._recent: dict[str, set[int]] = {}

    def clear(self) -> None:
        """Forget everything, as somebody else has written."""
        self._sorted.clear()
        self._recent.clear()

    def all_new(self, con: duckdb.DuckDBPyConnection, table: str, rows: str) -> bool:
        """Tell whether the keys of some rows are surely new to a table; from now on they count as known.

        Args:
            con: The open cache; the table's keys are read the first time.
            table: Name of the table.
            rows: A query for the rows.
        """
        import numpy as np

        if table not in self._sorted:
            self._sorted[table], self._recent[table] = np.sort(_hashes(con, table, table)), set()
        known, recent, incoming = self._sorted[table], self._recent[table], _hashes(con, table, f"({rows})")
        met = len(known) and (known[np.searchsorted(known, incoming).clip(max=len(known) - 1)] == incoming).any()
        new = not met and recent.isdisjoint(incoming.tolist())
        recent.update(incoming.tolist())
        if len(recent) > RECENT:
            self._sorted[table] = np.union1d(known, np.fromiter(recent, np.uint64))
            recent.clear()
        return new


def _hashes(con: duckdb.DuckDBPyConnection, table: str, source: str) -> "npt.NDArray[np.uint64]":
    found: npt.NDArray[np.uint64] = con.execute(f"SELECT hash({', '.join(KEYS[table])}) AS key FROM {source}").fetchnumpy()[
        "key"
    ]
    return found
