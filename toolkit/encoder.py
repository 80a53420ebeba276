"""Text encoders: sentence-transformers, from any reference to weights."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from toolkit.checkpoints import fetch
from toolkit.config import Weights
from toolkit.errors import CheckpointError

transformers_logging.disable_progress_bar()


def load_encoder(
    weights: Weights, base: Path, store: Path, device: str = "auto"
) -> Callable[[Sequence[str]], npt.NDArray[np.float32]]:
    """Load an encoder as a function from texts to vectors, `(texts, dimensions)`.

    Args:
        weights: The reference.
        base: Folder that relative paths start from.
        store: Folder for fetched weights.
        device: As in the suite's engine.

    Raises:
        CheckpointError: The encoder cannot be had or read.
    """
    path = fetch(weights, base, store)
    try:
        model = SentenceTransformer(str(path), device=None if device == "auto" else device)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The encoder {weights.checkpoint} cannot be read by sentence-transformers: {error}") from None

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float32)

    return encode
