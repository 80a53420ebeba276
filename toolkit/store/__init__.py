"""The store: a cache as one DuckDB file, and all SQL of the toolkit. Knows keys and rows, not models.

`Cache` is the file; its parts hold the queries, one module each, and return Arrow tables or typed rows.
"""

from pathlib import Path

from toolkit.store.embeddings import CheckedEmbedding, Embeddings, ObservedTexts
from toolkit.store.file import WAIT_SECONDS, CacheFile, now
from toolkit.store.frontier import Frontier, Parent, TriedNode
from toolkit.store.generations import (
    Generations,
    MeanGeneration,
    PromptAndResponse,
    ScoredNode,
    SuiteGeneration,
)
from toolkit.store.housekeeping import Housekeeping, Overview, TableSize, Unused
from toolkit.store.imported import ImportedRows
from toolkit.store.live import CachedResponse, Live
from toolkit.store.rows import KEYS, Row, iterate_rows
from toolkit.store.runs import PathShares, RecordedRun, Runs
from toolkit.store.schema import SCHEMA_VERSION, STORAGE_VERSION, schema_comments
from toolkit.store.scores import ScoreCount, Scores, UnscoredResponse
from toolkit.store.spool import Batch
from toolkit.store.suites import NodeCounts, ProgressRow, Suites
from toolkit.store.transfer import Prefer, Transfer
from toolkit.store.user_queries import read_tables
from toolkit.store.verification import check_rows

__all__ = [
    "KEYS",
    "SCHEMA_VERSION",
    "STORAGE_VERSION",
    "WAIT_SECONDS",
    "Batch",
    "Cache",
    "CachedResponse",
    "CheckedEmbedding",
    "Frontier",
    "ImportedRows",
    "MeanGeneration",
    "NodeCounts",
    "ObservedTexts",
    "Overview",
    "Parent",
    "PathShares",
    "Prefer",
    "ProgressRow",
    "PromptAndResponse",
    "RecordedRun",
    "Row",
    "ScoreCount",
    "ScoredNode",
    "SuiteGeneration",
    "TableSize",
    "TriedNode",
    "UnscoredResponse",
    "Unused",
    "check_rows",
    "iterate_rows",
    "now",
    "read_tables",
    "schema_comments",
]


class Cache(CacheFile):
    """One `.duckdb` file and everything in it.

    Args:
        path: The file; `create` makes it, everything else needs it to exist.
        wait: Longest time, in seconds, to wait for a process that holds the file.

    Attributes:
        suites (Suites): Recorded suites, their progress and cost units.
        generations (Generations): Generations and nodes; commits of finished batches.
        scores (Scores): Scores of responses.
        embeddings (Embeddings): Embeddings of the texts that a policy observes.
        live (Live): Single responses and embeddings by their keys, for live routing.
        runs (Runs): Trained routers, their evaluations and decisions.
        transfer (Transfer): Export to Parquet, and merges.
        housekeeping (Housekeeping): Overview, pruning and compacting.
    """

    def __init__(self, path: Path | str, wait: float = WAIT_SECONDS) -> None:
        super().__init__(path, wait)
        self.suites = Suites(self)
        self.generations = Generations(self)
        self.scores = Scores(self)
        self.embeddings = Embeddings(self)
        self.live = Live(self)
        self.runs = Runs(self)
        self.transfer = Transfer(self)
        self.housekeeping = Housekeeping(self, self.generations)
