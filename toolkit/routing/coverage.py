"""Which responses a split has: what a table masks because it is missing. What does not exist by design is not missing."""

from typing import NamedTuple

import numpy as np

from toolkit.replay.table import EXCLUDED, TransitionTable
from toolkit.suites.suite import Split


class Coverage(NamedTuple):
    """Which responses of a split are masked.

    Attributes:
        masked: Share of the split's responses that are missing or on no complete path.
        left_out: Rows of the whole table that are in no split, because none of their paths is complete.
        is_masked: Whether the table masks any response.
    """

    masked: float = 0.0
    left_out: int = 0
    is_masked: bool = False


COMPLETE = Coverage()
"""The coverage of a split without missing responses."""


def coverage(table: TransitionTable, split: Split) -> Coverage:
    """Return which responses of a split are masked."""
    if table.available is None or not table.lacks_responses:
        return COMPLETE
    rows = table.rows(split)
    existing = table.available[rows] if table.exists is None else table.available[np.ix_(rows, table.exists)]
    masked = 1 - float(existing[:, 1:].mean()) if len(rows) else 0.0
    return Coverage(masked=masked, left_out=int((table.split == EXCLUDED).sum()), is_masked=True)
