"""Writes results from elsewhere: many rows by column, within the transaction of the caller."""

from typing import TYPE_CHECKING, NamedTuple

import duckdb

from toolkit.core.errors import CacheError
from toolkit.store.rows import query_table, write_table
from toolkit.store.transfer import Prefer
from toolkit.suites.suite import Suite

if TYPE_CHECKING:
    import pyarrow as pa

_OTHER_SCORES = """
    SELECT q.benchmark, q.item, i.value, s.value
    FROM {rows} AS i JOIN scores AS s USING (question, text, metric) JOIN questions AS q USING (question)
    WHERE s.value <> i.value LIMIT 1
"""
"""A response that is scored in another way than in the cache."""


class ImportedRows(NamedTuple):
    """Rows of results from elsewhere, by column; keys are text."""

    generations: "pa.Table"
    nodes: "pa.Table"
    scores: "pa.Table"


def write_imported(con: duckdb.DuckDBPyConnection, suite: Suite, rows: ImportedRows, prefer: Prefer | None) -> None:
    """Write rows of a suite; responses and scores replace those of their key. See `toolkit.store.suites.Suites`.

    Raises:
        CacheError: Another suite scores an equal response differently, and `prefer` does not say whose score to keep.
    """
    write_table(con, "generations", rows.generations, "status = 'ok'", replace=True)
    write_table(con, "generations", rows.generations, "status <> 'ok'")
    write_table(con, "nodes", rows.nodes)
    _write_scores(con, suite, rows.scores, prefer)


def _write_scores(con: duckdb.DuckDBPyConnection, suite: Suite, scores: "pa.Table", prefer: Prefer | None) -> None:
    for benchmark, item, new, old in query_table(con, "scores", scores, _OTHER_SCORES) if prefer is None else ():
        raise CacheError(
            f"A response to {benchmark}/{item} has the score {new:g} in suite {suite.name}, and {old:g} in another suite of "
            "this cache. Import the table into a cache of its own (--cache FILE), or choose a side for both suites: "
            "--prefer ours or --prefer theirs."
        )
    write_table(con, "scores", scores, replace=prefer == "theirs")
