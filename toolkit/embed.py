"""Embeds the texts of a suite's decision nodes that its encoder has not embedded yet."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.keys import text_key
from toolkit.store import Batch, Cache, Row
from toolkit.suite import Suite
from toolkit.watch import Watcher

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts to vectors, `(texts, dimensions)`."""

EMBEDDED_AT_ONCE = 256


class SuiteEncoder:
    """The suite's encoder, loaded when there is something to embed."""

    def __init__(self, suite: Suite, base: Path, store: Path) -> None:
        self.suite, self.base, self.store = suite, base, store
        self.loaded: Encode | None = None

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts."""
        if self.loaded is None:
            from toolkit.encoder import load_encoder

            config = self.suite.config
            self.loaded = load_encoder(config.features.encoder, self.base, self.store, config.engine.device)
        return self.loaded(texts)


def embed_missing(suite: Suite, cache: Cache, encode: Encode, keep: Callable[[Batch], None], watcher: Watcher) -> None:
    """Embed what is missing, and keep it a batch at a time.

    Args:
        suite: The suite, as recorded.
        cache: Its cache.
        encode: The encoder.
        keep: Commits a batch.
        watcher: Who may stop the run after a batch; the next one continues.
    """
    texts = cache.texts_to_embed(suite)
    if texts:
        watcher.stage(f"embedding {len(texts)} texts")
    for start in range(0, len(texts), EMBEDDED_AT_ONCE):
        if watcher.stopped():
            return
        part = texts[start : start + EMBEDDED_AT_ONCE]
        rows: list[Row] = [
            {"text": text_key(text), "encoder": suite.encoder, "vector": vector.tolist()}
            for text, vector in zip(part, encode(part), strict=True)
        ]
        keep(Batch(embeddings=rows))
