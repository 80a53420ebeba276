"""Text encoders: sentence-transformers from any reference to weights."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from toolkit.core.errors import CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.suites.models import Weights
from toolkit.suites.suite import Suite
from toolkit.suites.weights import fetch

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""From texts to embeddings, `(texts, dimensions)`."""


class SuiteEncoder:
    """The encoder of a suite, loaded when the first texts are embedded."""

    def __init__(self, suite: Suite, workspace: Workspace) -> None:
        self._config = suite.config
        self._workspace = workspace
        self._encode: Encode | None = None

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts; returns `(texts, dimensions)`."""
        if self._encode is None:
            self._encode = load_encoder(self._config.features.encoder, self._workspace, self._config.engine.device)
        return self._encode(texts)


def load_encoder(weights: Weights, workspace: Workspace, device: str = "auto") -> Encode:
    """Load an encoder.

    Args:
        weights: Reference to its weights.
        workspace: The suite file's folder, and the folder of downloads.
        device: Device, as under `[engine]` in the suite.

    Raises:
        CheckpointError: The encoder is not available, or cannot be read.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    path = fetch(weights, workspace)
    try:
        model = SentenceTransformer(str(path), device=None if device == "auto" else device)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The encoder {weights.checkpoint} cannot be read by sentence-transformers: {error}") from None

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float32)

    return encode
