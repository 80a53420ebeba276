"""Embeds the texts of a suite's decision nodes that its encoder has not embedded yet."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from toolkit.core.hashing import text_key
from toolkit.core.progress import Progress
from toolkit.core.workspace import Workspace
from toolkit.store import Batch, Cache, Row
from toolkit.suites.suite import Suite

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Texts to vectors, `(texts, dimensions)`."""

EMBEDDED_AT_ONCE = 256


class SuiteEncoder:
    """The suite's encoder, loaded when there is something to embed."""

    def __init__(self, suite: Suite, workspace: Workspace) -> None:
        self.suite, self.workspace = suite, workspace
        self.loaded: Encode | None = None

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts."""
        if self.loaded is None:
            from toolkit.engines.encoder import load_encoder

            config = self.suite.config
            self.loaded = load_encoder(config.features.encoder, self.workspace, config.engine.device)
        return self.loaded(texts)


def embed_missing(suite: Suite, cache: Cache, encode: Encode, keep: Callable[[Batch], None], progress: Progress) -> None:
    """Embed what is missing, and keep it a batch at a time.

    Args:
        suite: The suite, as recorded.
        cache: Its cache.
        encode: The encoder.
        keep: Commits a batch.
        progress: Who may stop the run after a batch; the next one continues.
    """
    texts = cache.texts_to_embed(suite)
    if texts:
        progress.stage(f"embedding {len(texts)} texts")
    for start in range(0, len(texts), EMBEDDED_AT_ONCE):
        if progress.stopped():
            return
        part = texts[start : start + EMBEDDED_AT_ONCE]
        rows: list[Row] = [
            {"text": text_key(text), "encoder": suite.encoder, "vector": vector.tolist()}
            for text, vector in zip(part, encode(part), strict=True)
        ]
        keep(Batch(embeddings=rows))
