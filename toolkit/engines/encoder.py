"""Text encoders: sentence-transformers from any reference to weights."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toolkit.core.errors import CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.suites.models import Weights
from toolkit.suites.suite import Suite
from toolkit.suites.weights import fetch, unreadable

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
    _check_modules(weights, path)
    try:
        model = SentenceTransformer(str(path), device=None if device == "auto" else device, trust_remote_code=False)
    except Exception as error:  # libraries raise errors of their own for files that are damaged or hold pickles
        raise unreadable(weights, error, "sentence-transformers") from None

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float32)

    return encode


def _check_modules(weights: Weights, path: Path) -> None:
    """Check that an encoder consists of the library's own modules; before version 6, the library imports any class by name.

    Raises:
        CheckpointError: A module is somebody else's.
    """
    try:
        modules = json.loads((path / "modules.json").read_text("utf-8"))
        foreign = [module["type"] for module in modules if not module["type"].startswith("sentence_transformers.")]
    except FileNotFoundError:  # a plain transformers checkpoint
        return
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise unreadable(weights, error, "sentence-transformers") from None
    if foreign:
        raise CheckpointError(
            f"The encoder {weights.checkpoint} consists of {foreign[0]!r}, which is not part of sentence-transformers, and the "
            "toolkit runs no code that comes with weights. Use another encoder (checkpoint under [features.encoder])."
        )
