"""Merges a LoRA adapter into the weights of a checkpoint, once, for engines that would apply it anew at every token."""

import logging
from pathlib import Path

import torch

from toolkit.engines.decoding import load_model
from toolkit.suites.converted import write_variant
from toolkit.suites.hashing import hash_weights

logger = logging.getLogger("toolkit")


def merged(checkpoint: Path, adapter: Path, dtype: str, downloads: Path) -> Path:
    """Return the folder of a checkpoint with an adapter merged into its weights, written once into the folder of downloads.

    Args:
        checkpoint: Folder of the checkpoint.
        adapter: Folder of the adapter.
        dtype: Precision of the weights, in which they are merged, as the engine transformers merges them.
        downloads: Folder of downloads.
    """
    hashes = (hash_weights(path, downloads)[:32] for path in (checkpoint, adapter))
    target = downloads / "merged" / "-".join([*hashes, dtype])
    if target.exists():
        return target
    logger.info("merging %s into %s, once", adapter.name, checkpoint.name)
    write_variant(load_model(checkpoint, adapter, dtype, torch.device("cpu")), checkpoint, target)
    return target
