"""The store: the only place that opens DuckDB. It knows keys and rows, not models; one file a concern."""

from toolkit.store.embeddings import decision_texts, observed
from toolkit.store.file import WAIT_SECONDS, now
from toolkit.store.generations import Parent
from toolkit.store.housekeeping import Housekeeping, Overview, TableSize, Unused
from toolkit.store.rows import KEYS, Row
from toolkit.store.runs import Runs
from toolkit.store.schema import SCHEMA_VERSION, STORAGE_VERSION, schema_comments
from toolkit.store.spool import Batch
from toolkit.store.suites import MeanGeneration, ProgressRow, Suites
from toolkit.store.transfer import Prefer, Transfer

__all__ = [
    "KEYS",
    "SCHEMA_VERSION",
    "STORAGE_VERSION",
    "WAIT_SECONDS",
    "Batch",
    "Cache",
    "MeanGeneration",
    "Overview",
    "Parent",
    "Prefer",
    "ProgressRow",
    "Row",
    "TableSize",
    "Unused",
    "decision_texts",
    "now",
    "observed",
    "schema_comments",
]


class Cache(Suites, Runs, Transfer, Housekeeping):
    """One `.duckdb` file and all that is kept in it.

    Args:
        path: The file; `create` makes it, everything else needs it to be there.
        wait: Longest time, in seconds, to wait for a process that holds the file.
    """
