"""Shows how complete a cache is, as text for people."""

from toolkit.report.tables import aligned_table
from toolkit.store import Cache


def render(cache: Cache, suite: str | None) -> str:
    """Lay out progress, shared generations, failures and runs.

    Args:
        cache: The cache.
        suite: Name of a suite; None for all suites of the cache.
    """
    progress = cache.query("progress_by_hop", name=suite)
    parts = [aligned_table(progress) if progress.num_rows else f"{cache.path} has no suite {suite or 'yet'}."]
    parts += [
        f"{row['suite']}: {row['nodes']} nodes share {row['generations']} generations "
        f"({row['nodes'] - row['generations']} saved); {row['cut']} responses were cut at max_tokens, "
        f"{row['dropped']} prompts leave out earlier responses to fit."
        for row in cache.query("shared_generations", name=suite).to_pylist()
    ]
    parts += [
        f"{row['suite']}: {row['nodes']} nodes have no response, and are masked: no router can choose them."
        for row in cache.query("masked_suites", name=suite).to_pylist()
    ]
    tables = {"Failed:": cache.query("frequent_errors", name=suite), "Trained:": cache.query("runs_of_suite", name=suite)}
    parts += [f"{title}\n{aligned_table(table)}" for title, table in tables.items() if table.num_rows]
    return "\n\n".join([*parts, *unfinished_writes(cache)])


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
