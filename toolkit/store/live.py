"""What live routing needs of a cache: responses and embeddings by their keys, and questions that no suite has."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import numpy as np

from toolkit.core.hashing import text_key
from toolkit.store.embeddings import Vectors
from toolkit.store.file import CacheFile
from toolkit.store.rows import insert, iterate_rows, key_table
from toolkit.store.suites import content_rows
from toolkit.suites.suite import Suite

if TYPE_CHECKING:
    import pyarrow as pa


class CachedResponse(NamedTuple):
    """What the cache has of a generation: its response with its tokens, or a failure.

    Attributes:
        response: The text; None after a failure, or if imported results have no text.
        prompt_tokens: Length of the prompt; None for imported results without tokens.
        completion_tokens: Length of the response; likewise.
        finish_reason: Why it ended; None after a failure, and for imported results.
        cost: Raw cost that was imported; None if it follows from the tokens.
        succeeded: Whether there is a response.
    """

    response: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str | None
    cost: float | None
    succeeded: bool


class Live:
    """Reads and writes single responses of a cache."""

    def __init__(self, file: CacheFile) -> None:
        self._file = file

    def responses_at(self, nodes: Sequence[UUID]) -> dict[UUID, CachedResponse]:
        """Return what has become of nodes, by key, failures included; those that were never tried are left out."""
        return _by_key(self._file.query("responses_by_node", keys=list(map(str, nodes))))

    def responses_to(self, generations: Sequence[UUID]) -> dict[UUID, CachedResponse]:
        """Return the successful ones among the given generations, by key."""
        return _by_key(self._file.query("responses_by_key", keys=list(map(str, generations))))

    def vectors(self, encoder: str, texts: Sequence[str]) -> dict[str, Vectors]:
        """Return the embeddings, `(dimensions,)` each, of those of the texts that an encoder has embedded."""
        texts_by_key = {text_key(text): text for text in texts}
        with self._file.read() as con:
            con.register("keys", key_table(list(texts_by_key)))
            rows = con.execute(
                "SELECT text, vector FROM embeddings WHERE encoder = ? AND text IN (SELECT key::UUID FROM keys)", [encoder]
            ).fetchall()
        return {texts_by_key[key]: np.array(vector, np.float32) for key, vector in rows}

    def add_questions(self, suite: Suite, wait: float) -> None:
        """Add the models, questions and roots of a suite that is not recorded itself; rows that exist stay as they are.

        Raises:
            CacheBusyError: Others hold the file for longer than `wait` seconds.
        """
        with self._file.write(wait) as con:
            for table, rows in content_rows(suite):
                insert(con, table, rows)


def _by_key(table: "pa.Table") -> dict[UUID, CachedResponse]:
    return {UUID(row.pop("key")): CachedResponse(**row) for row in iterate_rows(table)}
