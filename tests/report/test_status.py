"""`toolkit status` fits a screen, however many suites, models and runs a cache has."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from rich.cells import cell_len

from toolkit.report.status import render
from toolkit.store import Cache, now


def cache_of(models: list[str], hops: int, suites: list[str], runs: int) -> Cache:
    """Stand in for a cache: the queries of `status` return many rows."""
    progress = [
        {"suite": suite, "hop": hop, "model": model, "nodes": 10, "done": 7, "failed": 2, "missing": 1}
        for suite in suites
        for hop in range(1, hops + 1)
        for model in models
    ]
    trained = [
        {
            "run": f"{suites[0]}-exact-alpha{n}-seed0-{n:08x}",
            "name": None,
            "alpha": n,
            "seed": 0,
            "seconds": 1.5,
            "trained": now(),
        }
        for n in range(runs)
    ]
    errors = [{"suite": suites[0], "error": "very long " * 40, "nodes": 3, "blocked": 9, "retried": "by generate --retry"}]
    tables = {"progress_by_hop": progress, "runs_of_suite": trained, "frequent_errors": errors}

    def query(name: str, /, **_: Any) -> pa.Table:
        return pa.Table.from_pylist(tables.get(name, []))

    spool = SimpleNamespace(files=list, folder=Path("spool"))
    return cast("Cache", SimpleNamespace(query=query, path=Path("c.duckdb"), generations=SimpleNamespace(spool=spool)))


@pytest.mark.parametrize(
    ("models", "hops", "suites", "counts"),
    [
        (["a", "b"], 2, ["s"], ["10", "7", "2", "1"]),
        ([f"model {n} " * 20 for n in range(12)], 3, ["s"], ["120", "84", "24", "12"]),
        (["a", "b", "c"], 3, [f"suite {n}" for n in range(10)], ["90", "63", "18", "9"]),
    ],
)
def test_progress_is_summed_until_it_fits_a_screen(models: list[str], hops: int, suites: list[str], counts: list[str]) -> None:
    cache = cache_of(models, hops, suites, runs=200)
    text = render(cache, None)
    assert text.splitlines()[2].split()[-4:] == counts
    assert len(text.splitlines()) <= 40
    assert "The newest 5 of 200 trained runs:" in text
    assert "000000c7" in text
    full = render(cache, None, full=True)
    assert len(full.splitlines()) > len(suites) * hops * len(models) + 200
    for line in (text + "\n" + full).splitlines():
        assert cell_len(line) <= 120
