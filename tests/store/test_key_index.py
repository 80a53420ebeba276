"""Keys stay unique whoever wrote last, although a process that writes alone looks none up."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.soak.large import batch_of, make_suite, nodes
from toolkit.store import KEYS, Cache, key_index


@pytest.mark.parametrize("recent", [key_index.MAX_RECENT_KEYS, 4])
def test_no_row_is_doubled_whoever_wrote_last(recent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "MAX_RECENT_KEYS", recent)
    suite = make_suite(4, tmp_path)
    ours, theirs = Cache(tmp_path / "c.duckdb"), Cache(tmp_path / "c.duckdb")
    ours.create()
    ours.suites.record(suite)
    made = nodes(suite)
    parts = [list(islice(made, 20)) for _ in range(6)]
    for writer, part in [
        (ours, 0),
        (ours, 1),
        (ours, 1),
        (ours, 2),
        (theirs, 3),
        (ours, 3),
        (ours, 4),
        (ours, 0),
        (ours, 5),
        (ours, 3),
    ]:
        writer.generations.commit(batch_of(parts[part]))
    for table in ("generations", "nodes", "scores"):
        rows = ours.arrow(f"FROM {table}").num_rows
        assert rows == ours.arrow(f"SELECT DISTINCT {', '.join(KEYS[table])} FROM {table}").num_rows
        assert rows == 120 + (4 if table == "nodes" else 0)
