"""Texts that a policy observes and their embeddings: which decision node reads which, and the vectors themselves.

Knows nothing of replay: nodes are numbers, and a text is a row of a matrix.
"""

from contextlib import suppress
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from toolkit.suites.suite import Suite

BATCH = 2048
"""Vectors that are fetched together: few enough for the processor's cache, where copying them costs nothing."""

PAGES = 128
"""Megabytes a thread that DuckDB may hold while vectors are fetched; otherwise it keeps all of the file that it has read."""

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class Observed(NamedTuple):
    """What a suite's decision nodes are observed by.

    Attributes:
        position: Row of each decision node's tree, `(observed,)`.
        number: Its number in that tree, `(observed,)`.
        vector: The row of `vectors` that its own text has, `(observed,)`: a root's question, else the newest answer, or the
            whole context.
        vectors: A row of zeros, then the embeddings of the texts, equal texts once, `(1 + texts, dimensions)`.
        texts: Number of unique texts.
        missing: Those without an embedding; where there are any, the arrays are empty.
    """

    position: Ints
    number: Ints
    vector: Ints
    vectors: Vectors
    texts: int
    missing: int


def decision_texts(suite: Suite) -> str:
    """Return SQL for a common table `decision_texts(position, number, text, key)` of a suite's decision nodes.

    `text` is what a node adds to what is observed: a root's question, else the newest answer, or the whole context; `key` its
    embedding's.
    """
    if suite.config.features.text == "context":
        return """RECURSIVE contexts AS (
            SELECT q.position, 0 AS number, i.prompt AS text, q.root AS node
            FROM suite_questions AS q JOIN questions AS i USING (question) WHERE q.suite = $suite
            UNION ALL
            SELECT d.position, p.number, d.text || chr(10) || chr(10) || g.response, n.node
            FROM contexts AS d
            JOIN nodes AS n ON n.parent = d.node
            JOIN suites AS s ON s.suite = $suite AND n.depth < s.horizon
            JOIN suite_paths AS p ON p.suite = s.suite AND p.path = n.path
            JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
        ), decision_texts AS (SELECT position, number, text, left(sha256(text), 32)::UUID AS key FROM contexts)"""
    return """decision_texts AS NOT MATERIALIZED (
        SELECT q.position, 0 AS number, i.prompt AS text, left(sha256(i.prompt), 32)::UUID AS key
        FROM suite_questions AS q JOIN questions AS i USING (question) WHERE q.suite = $suite
        UNION ALL
        SELECT q.position, p.number, g.response, g.text
        FROM suite_questions AS q
        JOIN suites AS s ON s.suite = q.suite
        JOIN nodes AS n ON n.root = q.root AND n.depth BETWEEN 1 AND s.horizon - 1
        JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path
        JOIN generations AS g ON g.generation = n.generation AND g.response IS NOT NULL
        WHERE q.suite = $suite
    )"""


def observed(con: duckdb.DuckDBPyConnection, suite: Suite) -> Observed:
    """Load what a suite's decision nodes are observed by; vectors are copied once, batch by batch, to where they stay.

    Args:
        con: An open cache, so that row ids mean the same in all queries.
        suite: The recorded suite.
    """
    parameters = {"suite": suite.key, "encoder": suite.encoder}
    found = con.sql(
        f"WITH {decision_texts(suite)} SELECT position, number, coalesce(e.rowid, -1) AS vector"
        " FROM decision_texts AS d LEFT JOIN embeddings AS e ON e.text = d.key AND e.encoder = $encoder",
        params=parameters,
    ).to_arrow_table()
    position, number, row = (found[name].to_numpy() for name in ("position", "number", "vector"))
    if (row < 0).any():
        counts = con.sql(
            f"WITH {decision_texts(suite)}, keys AS (SELECT DISTINCT key FROM decision_texts)"
            " SELECT count(*), count(*) FILTER (key NOT IN (SELECT text FROM embeddings WHERE encoder = $encoder)) FROM keys",
            params=parameters,
        ).fetchall()
        empty = np.empty(0, np.int64)
        return Observed(empty, empty, empty, np.empty((0, 0), np.float32), *counts[0])
    rows, vector = np.unique(row, return_inverse=True)
    [(threads,)] = con.execute("SELECT current_setting('threads')").fetchall()
    with suppress(duckdb.OutOfMemoryException):  # it holds more already, and goes on as it is
        con.execute(f"SET memory_limit = '{PAGES * threads}MB'")
    try:
        vectors = _vectors(con, suite.encoder, rows)
    finally:
        con.execute("RESET memory_limit")
    return Observed(position, number, 1 + vector, vectors, len(rows), 0)


def _vectors(con: duckdb.DuckDBPyConnection, encoder: str, rows: Ints) -> Vectors:
    """Return a row of zeros, then the embeddings with some row ids, ascending."""
    batches = con.sql(
        "SELECT rowid, vector FROM embeddings WHERE encoder = $encoder", params={"encoder": encoder}
    ).to_arrow_reader(BATCH)
    vectors: Vectors = np.zeros((0, 0), np.float32)
    for batch in batches:
        ids, values = batch["rowid"].to_numpy(), batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1)
        if not len(vectors):
            vectors = np.zeros((1 + len(rows), values.shape[1]), np.float32)
        place = np.searchsorted(rows, ids)
        wanted = rows[np.minimum(place, len(rows) - 1)] == ids
        first, last = int(place[0]), int(place[-1])
        if wanted.all() and last - first == len(ids) - 1:  # the usual case: all of them, in order
            vectors[1 + first : 2 + last] = values
        else:
            vectors[1 + place[wanted]] = values[wanted]
    return vectors
