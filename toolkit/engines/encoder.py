"""Text encoders: sentence-transformers, from any reference to weights."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from toolkit.core.errors import CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.suites.config import Weights
from toolkit.suites.weights import fetch

transformers_logging.disable_progress_bar()


def load_encoder(
    weights: Weights, workspace: Workspace, device: str = "auto"
) -> Callable[[Sequence[str]], npt.NDArray[np.float32]]:
    """Load an encoder as a function from texts to vectors, `(texts, dimensions)`.

    Args:
        weights: The reference.
        workspace: The suite file's folder, and the folder of downloads.
        device: As in the suite's engine.

    Raises:
        CheckpointError: The encoder cannot be had or read.
    """
    path = fetch(weights, workspace)
    try:
        model = SentenceTransformer(str(path), device=None if device == "auto" else device)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The encoder {weights.checkpoint} cannot be read by sentence-transformers: {error}") from None

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float32)

    return encode
