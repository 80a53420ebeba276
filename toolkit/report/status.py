"""Shows how complete a cache is, as text for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.report.tables import count, fitted, wrapped
from toolkit.store import Cache
from toolkit.store.runs import short_name

MAX_PROGRESS_ROWS = 18
"""With more rows of progress, they are summed over models, and then over hops."""
MAX_RUNS = 5
"""Trained runs that are listed, the newest."""
COUNTS = ("nodes", "done", "failed", "missing")


def render(cache: Cache, suite: str | None, full: bool = False) -> str:
    """Lay out progress, shared generations, failures and runs, on one screen.

    Args:
        cache: The cache.
        suite: Name of a suite; None for all suites of the cache.
        full: Whether to show progress by model and hop, and every run, however many there are.
    """
    progress = cache.query("progress_by_hop", name=suite).to_pylist()
    parts = [_progress(progress, full) if progress else f"{cache.path} has no suite {suite or 'yet'}."]
    parts += [
        wrapped(
            f"{row['suite']}: {row['nodes']} nodes share {row['generations']} generations "
            f"({row['nodes'] - row['generations']} saved); {row['cut']} responses were cut at max_tokens, "
            f"{row['dropped']} prompts leave out earlier responses to fit."
        )
        for row in cache.query("shared_generations", name=suite).to_pylist()
    ]
    parts += [
        wrapped(f"{row['suite']}: {row['nodes']} nodes have no response, and are masked: no router can choose them.")
        for row in cache.query("masked_suites", name=suite).to_pylist()
    ]
    errors = cache.query("frequent_errors", name=suite).to_pylist()
    parts += [f"Failed:\n{_table(errors)}"] if errors else []
    runs = cache.query("runs_of_suite", name=suite).to_pylist()[::-1]
    parts += [_runs(runs, full)] if runs else []
    return "\n\n".join([*parts, *unfinished_writes(cache)])


def _progress(rows: Sequence[Mapping[str, Any]], full: bool) -> str:
    """Lay out progress by suite, hop and model, or by as many of these as fit a screen."""
    for keys in (("suite", "hop", "model"), ("suite", "hop"), ("suite",)):
        sums: dict[tuple[Any, ...], list[int]] = {}
        for row in rows:
            counts = sums.setdefault(tuple(row[key] for key in keys), [0] * len(COUNTS))
            counts[:] = [total + row[name] for total, name in zip(counts, COUNTS, strict=True)]
        if full or len(sums) <= MAX_PROGRESS_ROWS:
            break
    table = fitted([*keys, *COUNTS], [[*map(str, names), *map(str, counts)] for names, counts in sums.items()])
    more = "" if len(keys) == 3 else f"\nSummed over {'models' if len(keys) == 2 else 'models and hops'}; --full shows each."
    return table + more


def _runs(rows: Sequence[Mapping[str, Any]], full: bool) -> str:
    """Lay out the trained runs, newest first."""
    shown = rows if full else rows[:MAX_RUNS]
    table = [
        [
            row["name"] or short_name(row["run"]),
            row["run"],
            f"{row['alpha']:g}",
            str(row["seed"]),
            f"{row['seconds']:g}",
            f"{row['trained']:%Y-%m-%d %H:%M}",
        ]
        for row in shown
    ]
    newest = f"The newest {MAX_RUNS} of " if len(shown) < len(rows) else ""
    title = f"{newest}{count(len(rows), 'trained run')}:"
    return f"{title}\n{fitted(['name', 'run', 'alpha', 'seed', 'seconds', 'when (UTC)'], table, uncut=(0,))}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return fitted(list(rows[0]), [list(row.values()) for row in rows])


def unfinished_writes(cache: Cache) -> list[str]:
    """Describe the files beside a cache that belong to it until the next write: spooled batches and the write-ahead log."""
    notes = []
    if batches := cache.generations.spool.files():
        notes.append(
            f"{len(batches)} finished batches wait in {cache.generations.spool.folder} for the next commit of generate, which "
            "may be running."
        )
    wal = cache.path.with_name(cache.path.name + ".wal")
    if wal.exists():
        notes.append(
            f"{wal.name} belongs to the cache: a writer did not close it. Keep both files together; the next write applies it."
        )
    return notes
