"""What `Cache` returns to a script or notebook leaves the file to others."""

from __future__ import annotations

import duckdb
import pytest

from toolkit import Cache
from toolkit.core.errors import CacheError


def test_a_frame_leaves_the_file_to_writers(cache: Cache) -> None:
    kept = cache.frame("transitions")
    with cache.write() as con:
        con.execute("DELETE FROM scores")
    assert len(kept) == 24 * 6


def test_a_connection_only_reads(cache: Cache) -> None:
    with cache.connect() as con, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        con.execute("DELETE FROM nodes")


def test_a_wrong_name_says_where_the_right_ones_are(cache: Cache) -> None:
    with pytest.raises(CacheError, match="toolkit schema"):
        cache.frame("transition")
