"""Checkpoints in another form, written once into the folder of downloads: GGUF files as safetensors, and fewer layers."""

import contextlib
import hashlib
import io
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.core.errors import CheckpointError
from toolkit.core.files import atomic_path
from toolkit.suites.hashing import hash_local, hash_weights

logger = logging.getLogger("toolkit")

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.index.json")
"""Files of a checkpoint that another model's weights replace."""


def dequantised_path(gguf: Path, downloads: Path) -> Path:
    """Return the folder of a GGUF file's weights as safetensors, which may not exist yet."""
    return downloads / "dequantised" / hash_local(gguf, downloads)[:32]


def dequantised(gguf: Path, downloads: Path) -> Path:
    """Return a folder with the weights of a GGUF file as safetensors in float32, written once.

    Raises:
        CheckpointError: transformers cannot read it.
    """
    target = dequantised_path(gguf, downloads)
    if target.exists():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logger.info("dequantising %s, once", gguf.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(target, overwrite=False) as draft,
        contextlib.redirect_stderr(io.StringIO()),  # a progress bar that no setting turns off
    ):
        try:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                trust_remote_code=False,
            )
        except (OSError, ValueError, ImportError) as error:
            raise CheckpointError(f"transformers cannot read the GGUF file {gguf}: {error}") from None
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return target


def trimmed_path(checkpoint: Path, layers: Sequence[int], downloads: Path) -> Path:
    """Return the folder of some of a checkpoint's layers, which may not exist yet."""
    digest = hashlib.sha256(repr(list(layers)).encode()).hexdigest()[:12]
    return downloads / "trimmed" / f"{hash_weights(checkpoint, downloads)[:32]}-{len(layers)}-{digest}"


def trimmed(checkpoint: Path, layers: Sequence[int], downloads: Path) -> Path:
    """Return a folder with some of a checkpoint's layers and all else that it has, written once.

    Raises:
        CheckpointError: It has no such layers, or transformers cannot read it.
    """
    target = trimmed_path(checkpoint, layers, downloads)
    if target.exists():
        return target
    from torch import nn
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto", trust_remote_code=False, weights_only=True)
    except Exception as error:  # libraries raise errors of their own for files that are damaged
        raise CheckpointError(f"transformers cannot read the checkpoint {checkpoint}: {error}") from None
    text = model.config.get_text_config()
    depth = text.num_hidden_layers
    if layers[-1] >= depth:
        raise CheckpointError(
            f"The checkpoint {checkpoint} has the layers 0 to {depth - 1}, but not {layers[-1]}. Correct `layers` in the suite."
        )
    logger.info("keeping %s of %s layers of %s, once", len(layers), depth, checkpoint.name)
    name, stack = next(
        (name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth
    )
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.ModuleList(stack[layer] for layer in layers))
    text.num_hidden_layers = len(layers)
    if kinds := getattr(text, "layer_types", None):
        text.layer_types = [kinds[layer] for layer in layers]
    write_variant(model, checkpoint, target)
    return target


def write_variant(model: Any, checkpoint: Path, target: Path) -> None:
    """Write a model that was made from a checkpoint, with all that the checkpoint has besides weights.

    Args:
        model: A model of transformers.
        checkpoint: Folder of the checkpoint.
        target: Folder to write; other processes see it whole or not at all.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target, overwrite=False) as draft:
        shutil.copytree(checkpoint, draft, ignore=shutil.ignore_patterns(*_WEIGHTS))
        model.save_pretrained(draft)
