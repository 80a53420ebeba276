"""Shows what a cache file holds, as text for people."""

from toolkit.report.tables import aligned, aligned_table, format_bytes
from toolkit.store import Cache


def render(cache: Cache) -> str:
    """Lay out the facts of a file, its suites, models and engines, and the sizes of its tables."""
    overview = cache.housekeeping.overview()
    facts = [f"{name.replace('_', ' ')}: {value}" for name, value in cache.housekeeping.facts().items()]
    notes = [overview.note] if overview.note else []
    sizes = [[size.table, size.rows, format_bytes(size.bytes)] for size in cache.housekeeping.sizes()]
    return "\n\n".join(
        [
            "\n".join([f"{cache.path}: {format_bytes(overview.bytes)}", *facts, *notes]),
            aligned_table(cache.query("recorded_suites")),
            aligned_table(cache.query("recorded_models")),
            aligned_table(cache.query("engines")),
            aligned(["table", "rows", "in blocks of"], sizes),
        ]
    )
