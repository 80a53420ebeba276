"""Embeddings: the texts that a policy observes, which decision node observes which, and their vectors.

Knows nothing of replay: nodes are numbers, and a text is a row of a matrix.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from toolkit.core.hashing import text_key
from toolkit.core.progress import Progress
from toolkit.engines.encoder import Encode, embed_parts
from toolkit.store.file import CacheFile
from toolkit.store.rows import Row, key_table
from toolkit.store.spool import Batch
from toolkit.suites.models import NO_ENCODER
from toolkit.suites.suite import Suite

FETCH_BATCH = 2048
"""Vectors that are fetched together: few enough for the processor's cache, where copying them is nearly free."""
FETCH_MEMORY_MB = 128
"""Memory per thread that DuckDB may hold while vectors are fetched; without a limit it keeps all it has read of the file."""

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


class ObservedTexts(NamedTuple):
    """The texts that a suite's decision nodes observe.

    Attributes:
        position: Row of each decision node's tree, `(nodes,)`.
        number: Number of the node in its tree, `(nodes,)`.
        vector: Row of `vectors` that holds the node's own text (the question at a root, else the newest response, or the whole
            context), `(nodes,)`.
        vectors: A row of zeros, then the embeddings of the distinct texts, `(1 + texts, dimensions)`; `(1, 0)`, with no node in
            the other arrays, if the suite has no encoder.
        responses: The response that each row of `vectors` embeds, an empty text where it embeds none; no texts at all if
            decision nodes observe no response alone.
        n_texts: Number of distinct texts.
        n_missing: Distinct texts without an embedding; if there are any, the arrays are empty.
    """

    position: Ints
    number: Ints
    vector: Ints
    vectors: Vectors
    n_texts: int
    n_missing: int
    responses: tuple[str, ...] = ()


class CheckedEmbedding(NamedTuple):
    """A cached embedding with its text."""

    key: str
    text: str
    vector: list[float]


class Embeddings:
    """The embeddings of a cache."""

    def __init__(self, file: CacheFile) -> None:
        self._file = file

    def missing(self, suite: Suite) -> list[str]:
        """Return the distinct texts of a suite's decision nodes that its encoder has not embedded yet, longest first."""
        if suite.encoder == NO_ENCODER:
            return []
        with self._file.read() as con:
            rows = con.execute(
                f"WITH {_decision_texts(suite)} SELECT DISTINCT text FROM decision_texts AS d WHERE NOT EXISTS"
                " (SELECT 1 FROM embeddings AS e WHERE e.encoder = $encoder AND e.text = d.key)"
                " ORDER BY length(text) DESC, text",
                _parameters(suite),
            ).fetchall()
        return [row[0] for row in rows]

    def without_vector(self, encoder: str, texts: Sequence[str]) -> list[str]:
        """Return those of distinct texts that an encoder has not embedded yet, longest first; none without an encoder."""
        if encoder == NO_ENCODER:
            return []
        keys = {text_key(text): text for text in texts}
        with self._file.read() as con:
            con.register("keys", key_table(list(keys)))
            rows = con.execute(
                "SELECT key::UUID FROM keys WHERE key::UUID NOT IN (SELECT text FROM embeddings WHERE encoder = ?)", [encoder]
            ).fetchall()
        return sorted((keys[key] for (key,) in rows), key=len, reverse=True)

    def add(self, encoder: str, texts: Sequence[str], vectors: Vectors) -> None:
        """Add the embeddings of distinct texts, `(texts, dimensions)`; those that an encoder has embedded already stay."""
        import pyarrow as pa

        values = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1])
        incoming = key_table([text_key(text) for text in texts]).append_column("vector", values)
        with self._file.write() as con:
            con.register("incoming", incoming)
            con.execute(
                "INSERT INTO embeddings BY NAME SELECT key::UUID AS text, $encoder AS encoder, vector::FLOAT[] AS vector"
                " FROM incoming WHERE key::UUID NOT IN (SELECT text FROM embeddings WHERE encoder = $encoder)",
                {"encoder": encoder},
            )

    def fill(self, suite: Suite, encode: Encode, keep: Callable[[Batch], object], progress: Progress) -> None:
        """Embed the missing texts of a suite, a part at a time.

        Args:
            suite: The recorded suite.
            encode: The suite's encoder: texts to vectors, `(texts, dimensions)`.
            keep: Commits a batch.
            progress: Is told of the stage, and may stop within seconds; the next call continues.
        """
        for texts, vectors in embed_parts(self.missing(suite), encode, progress):
            rows: list[Row] = [
                {"text": text_key(text), "encoder": suite.encoder, "vector": vector.tolist()}
                for text, vector in zip(texts, vectors, strict=True)
            ]
            keep(Batch(embeddings=rows))

    def observed(self, suite: Suite) -> ObservedTexts:
        """Load the texts that a suite's decision nodes observe; vectors are copied once, straight to their final place."""
        if suite.encoder == NO_ENCODER:
            none = np.empty(0, np.int64)
            return ObservedTexts(none, none, none, vectors=np.zeros((1, 0), np.float32), n_texts=0, n_missing=0)
        with self._file.read() as con:  # one connection, so that row ids mean the same in all queries
            nodes = con.sql(
                f"WITH {_decision_texts(suite)} SELECT position, number, coalesce(e.rowid, -1) AS vector"
                " FROM decision_texts AS d LEFT JOIN embeddings AS e ON e.text = d.key AND e.encoder = $encoder"
                " ORDER BY position, number",
                params=_parameters(suite),
            ).to_arrow_table()
            position, number, row_id = (nodes[name].to_numpy() for name in ("position", "number", "vector"))
            if (row_id < 0).any():
                return _incomplete(con, suite)
            row_ids, first, vector = np.unique(row_id, return_index=True, return_inverse=True)
            ranks = first.argsort().argsort()  # texts in the order of the nodes that observe them, whatever that of the file
            has_responses = suite.config.features.text == "newest" and suite.horizon > 1
            responses = _responses(con, suite, row_ids, ranks) if has_responses else ()
            [(threads,)] = con.execute("SELECT current_setting('threads')").fetchall()
            # it already holds more, or a user's query has locked the settings: then without the limit
            with suppress(duckdb.OutOfMemoryException, duckdb.InvalidInputException):
                con.execute(f"SET memory_limit = '{FETCH_MEMORY_MB * threads}MB'")
            try:
                vectors = _fetch_vectors(con, suite.encoder, row_ids, ranks)
            finally:  # the limit holds for all connections of this process
                with suppress(duckdb.InvalidInputException):
                    con.execute("RESET memory_limit")
        return ObservedTexts(position, number, 1 + ranks[vector], vectors, len(row_ids), n_missing=0, responses=responses)

    def sample(self, suite: Suite, seed: int, limit: int) -> list[CheckedEmbedding]:
        """Draw a seeded sample of a suite's embedded texts."""
        rows = self._file.fetch(
            f"WITH {_decision_texts(suite)}, texts AS (SELECT DISTINCT text FROM decision_texts)"
            " SELECT e.text AS key, texts.text, e.vector FROM texts"
            " JOIN embeddings AS e ON e.encoder = $encoder AND e.text = left(sha256(texts.text), 32)::UUID"
            " ORDER BY sha256($seed || texts.text) LIMIT $limit",
            _parameters(suite) | {"seed": str(seed), "limit": limit},
        )
        return [CheckedEmbedding(**row) for row in rows.to_pylist()]

    def texts_by_hop(self, suite: Suite, positions: Sequence[int], limit: int) -> list[str]:
        """Return up to `limit` texts that decision nodes of each hop observe, in trees at the given rows of the table."""
        rows = self._file.fetch(
            f"WITH {_decision_texts(suite)} SELECT text FROM decision_texts"
            " JOIN (SELECT unnest($positions::INTEGER[]) AS position) USING (position)"
            " JOIN suite_paths AS p ON p.suite = $suite AND p.number = decision_texts.number"
            " QUALIFY row_number() OVER (PARTITION BY p.depth ORDER BY key, position, decision_texts.number) <= $limit",
            {"suite": suite.key, "positions": list(positions), "limit": limit},
        )
        return [str(text) for text in rows["text"].to_pylist()]


def _parameters(suite: Suite) -> dict[str, object]:
    return {"suite": suite.key, "encoder": suite.encoder}


def _decision_texts(suite: Suite) -> str:
    """Return SQL for a common table `decision_texts(position, number, text, key)` of the recorded suite `$suite`.

    `text` is what a decision node adds to the observation: the question at a root, else the newest response, or the whole
    context; `key` is the key of its embedding.
    """
    if suite.config.features.text == "context":
        return """RECURSIVE contexts AS (
            SELECT q.position, 0 AS number, i.prompt AS text, q.root AS node
            FROM suite_questions AS q JOIN questions AS i USING (question) WHERE q.suite = $suite
            UNION ALL
            SELECT c.position, p.number, c.text || chr(10) || chr(10) || g.response, n.node
            FROM contexts AS c
            JOIN nodes AS n ON n.parent = c.node
            JOIN suites AS s ON s.suite = $suite AND n.depth < s.horizon
            JOIN suite_paths AS p ON p.suite = s.suite AND p.path = n.path
            JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
        ), decision_texts AS (SELECT position, number, text, left(sha256(text), 32)::UUID AS key FROM contexts)"""
    return """decision_texts AS NOT MATERIALIZED (
        SELECT q.position, 0 AS number, i.prompt AS text, left(sha256(i.prompt), 32)::UUID AS key
        FROM suite_questions AS q JOIN questions AS i USING (question) WHERE q.suite = $suite
        UNION ALL
        SELECT n.position, n.number, g.response,
               CASE WHEN g.engine = 'imported' THEN left(sha256(g.response), 32)::UUID ELSE g.text END
        FROM suite_nodes AS n
        JOIN suites AS s ON s.suite = n.suite AND n.depth BETWEEN 1 AND s.horizon - 1
        JOIN generations AS g ON g.generation = n.generation AND g.response IS NOT NULL
        WHERE n.suite = $suite
    )"""


def _incomplete(con: duckdb.DuckDBPyConnection, suite: Suite) -> ObservedTexts:
    """Count the texts of a suite, and those without an embedding."""
    [(n_texts, n_missing)] = con.execute(
        f"WITH {_decision_texts(suite)}, keys AS (SELECT DISTINCT key FROM decision_texts)"
        " SELECT count(*), count(*) FILTER (key NOT IN (SELECT text FROM embeddings WHERE encoder = $encoder)) FROM keys",
        _parameters(suite),
    ).fetchall()
    empty = np.empty(0, np.int64)
    return ObservedTexts(empty, empty, empty, np.empty((0, 0), np.float32), n_texts, n_missing)


def _responses(con: duckdb.DuckDBPyConnection, suite: Suite, row_ids: Ints, ranks: Ints) -> tuple[str, ...]:
    """Return an empty text, then the responses among the texts with the given row ids, which ascend; nothing without any."""
    responses = con.sql(
        f"WITH {_decision_texts(suite)} SELECT DISTINCT e.rowid AS row_id, d.text FROM decision_texts AS d"
        " JOIN embeddings AS e ON e.text = d.key AND e.encoder = $encoder WHERE d.number > 0",
        params=_parameters(suite),
    ).to_arrow_table()
    if not len(responses):
        return ()
    texts = np.full(1 + len(row_ids), "", dtype=object)
    texts[1 + ranks[np.searchsorted(row_ids, responses["row_id"].to_numpy())]] = responses["text"].to_pylist()
    return tuple(texts.tolist())


def _fetch_vectors(con: duckdb.DuckDBPyConnection, encoder: str, row_ids: Ints, ranks: Ints) -> Vectors:
    """Return a row of zeros, then the embeddings with the given row ids, which ascend, by rank."""
    batches = con.sql(
        "SELECT rowid, vector FROM embeddings WHERE encoder = $encoder", params={"encoder": encoder}
    ).to_arrow_reader(FETCH_BATCH)
    vectors: Vectors = np.zeros((0, 0), np.float32)
    for batch in batches:
        batch_ids, values = batch["rowid"].to_numpy(), batch["vector"].flatten().to_numpy().reshape(batch.num_rows, -1)
        if not len(vectors):
            vectors = np.zeros((1 + len(row_ids), values.shape[1]), np.float32)
        place = np.searchsorted(row_ids, batch_ids)
        used = row_ids[np.minimum(place, len(row_ids) - 1)] == batch_ids
        vectors[1 + ranks[place[used]]] = values[used]
    return vectors
