"""Estimates the memory that a model needs from its files alone; nothing is loaded or downloaded."""

import math
from pathlib import Path
from typing import NamedTuple

from toolkit.core.workspace import Workspace
from toolkit.suites.models import ModelConfig
from toolkit.suites.weights import local_weights

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number, by dtype."""
READ_BYTES = 2**24
"""Bytes that are read at a time."""


class Memory(NamedTuple):
    """Memory of a model in bytes, without activations and what libraries allocate for themselves.

    Attributes:
        parameters: Number of parameters.
        weights: Bytes of the weights in the suite's dtype.
        token: Bytes of the keys and values of one token, in models that keep plain ones.
    """

    parameters: int
    weights: int
    token: int

    def of_batch(self, tokens: int) -> int:
        """Return the bytes of the weights and of a batch's keys and values."""
        return self.weights + tokens * self.token


def memory(model: ModelConfig, workspace: Workspace) -> Memory | None:
    """Estimate the memory of a model; None if its weights are on a server, or not on this machine yet.

    Args:
        model: The model; an adapter is merged into the weights and adds nothing.
        workspace: The suite file's folder, and the folder of downloads.
    """
    path = local_weights(model, workspace)
    if path is None or not model.dtype or not (files := sorted(path.glob("*.safetensors"))):
        return None
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    parameters, number = sum(map(_parameters, files)), BYTES[model.dtype]
    return Memory(
        parameters=parameters,
        weights=parameters * number,
        token=2 * config.num_hidden_layers * heads * head_size * number,
    )


def available_memory() -> int:
    """Return how many bytes programs can still use on this machine."""
    import psutil

    return int(psutil.virtual_memory().available)


def read_ahead(path: Path) -> None:
    """Read the weights of a checkpoint into the system's cache of files."""
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb") as weights:
            while weights.read(READ_BYTES):
                pass


def _parameters(file: Path) -> int:
    """Count the parameters in a safetensors file."""
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        names = tensors.keys()
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
