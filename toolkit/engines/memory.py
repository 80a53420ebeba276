"""What a model needs of a machine's memory, by its files alone: nothing is loaded and nothing is fetched."""

from typing import NamedTuple

from toolkit.core.workspace import Workspace
from toolkit.suites.config import ModelConfig
from toolkit.suites.weights import found

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Memory(NamedTuple):
    """Bytes of a model; activations and what libraries take for themselves come on top.

    Attributes:
        parameters: How many there are.
        weights: Bytes of them in the suite's dtype.
        token: Bytes of the keys and values of one token, where a model keeps plain ones.
    """

    parameters: int
    weights: int
    token: int

    def of_batch(self, tokens: int) -> int:
        """Return the bytes of the weights and of a batch's keys and values."""
        return self.weights + tokens * self.token


def memory(model: ModelConfig, workspace: Workspace) -> Memory | None:
    """Work out what a model needs; None where its weights are on a server, or not on this machine yet.

    Args:
        model: The model; an adapter is merged into the weights and adds nothing.
        workspace: The suite file's folder, and the folder of downloads.
    """
    path = found(model, workspace)
    if path is None or not model.dtype or not (files := sorted(path.glob("*.safetensors"))):
        return None
    from safetensors import safe_open
    from transformers import AutoConfig

    parameters = 0
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dict
                count = 1
                for length in tensors.get_slice(name).get_shape():
                    count *= length
                parameters += count
    config = AutoConfig.from_pretrained(path).get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each = BYTES[model.dtype]
    return Memory(parameters, parameters * each, 2 * config.num_hidden_layers * heads * size * each)
