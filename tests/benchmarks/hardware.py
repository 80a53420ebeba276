"""What a device can do at most: its measured rates, and the time below which no engine can generate a set of responses."""

import time
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM

REPEATS = 10
VECTOR = 4096
"""Length of the vector that a matrix is multiplied with."""


class Ceilings(NamedTuple):
    """Measured limits of a device.

    Attributes:
        operations: Floating-point operations per second of a large matrix product.
        bandwidth: Bytes per second of a large copy, read and written, or of a matrix-vector product, whichever has more.
    """

    operations: float
    bandwidth: float


class Sizes(NamedTuple):
    """Sizes of a model with plain keys and values.

    Attributes:
        layers: Parameters of all layers.
        head: Parameters of the output layer.
        token: Bytes of a token's keys and values.
        number: Bytes of a parameter.
    """

    layers: int
    head: int
    token: int
    number: int


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure the limits of a device: a product of two matrices, and a copy and a product of a matrix larger than caches."""
    size, elements = (8192, 2**30) if device.type == "cuda" else (1024, 2**27)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.zeros(elements // dtype.itemsize // VECTOR, VECTOR, dtype=dtype, device=device)
    target, vector = torch.empty_like(source), torch.ones(VECTOR, dtype=dtype, device=device)
    copied = 2 * elements / _seconds(lambda: target.copy_(source), device)
    multiplied = elements / _seconds(lambda: source @ vector, device)
    return Ceilings(operations=2 * size**3 / _seconds(lambda: left @ right, device), bandwidth=max(copied, multiplied))


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the shortest time of a call, after three to warm up."""
    times = []
    for _ in range(3 + REPEATS):
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[3:])


def sizes(folder: Path, dtype: torch.dtype) -> Sizes:
    """Return the sizes of a checkpoint, from its configuration alone."""
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Sizes(
        layers=sum(weights.numel() for name, weights in model.named_parameters() if ".layers." in name),
        head=model.get_output_embeddings().weight.numel(),
        token=2 * config.num_hidden_layers * config.num_key_value_heads * head_size * dtype.itemsize,
        number=dtype.itemsize,
    )


def distinct_tokens(prompts: Sequence[list[int]]) -> int:
    """Return how many tokens must be read if each distinct prefix of the prompts is read once: the nodes of their trie."""
    ordered = sorted(prompts)
    return _distinct(ordered, _shared_with_previous(ordered), range(len(ordered)))


def _shared_with_previous(ordered: Sequence[list[int]]) -> list[int]:
    """Return the length of the prefix that each prompt, in order, shares with the one before it."""
    pairs = zip([[], *ordered], ordered, strict=False)
    return [sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*pair, strict=False))) for pair in pairs]


def _distinct(ordered: Sequence[list[int]], shared: Sequence[int], chosen: Collection[int]) -> int:
    """Return the nodes of the trie of some of the prompts, by their places in order."""
    total = common = 0
    for place, prompt in enumerate(ordered):
        common = min(common, shared[place])
        if place in chosen:
            total += len(prompt) - common
            common = len(prompt)
    return total


def floor(size: Sizes, prompts: Sequence[list[int]], responses: Sequence[int], ceilings: Ceilings, shared: bool) -> float:
    """Return the least time, in seconds, for prompts and responses, all in one batch.

    Every prompt token passes once through all layers, at the rate of matrix products. Every step then reads the weights once,
    and the keys and values of the rows that are not finished, at the bandwidth of copies, or multiplies them, if that takes
    longer. Attention's own operations are not counted.

    Args:
        size: Sizes of the model.
        prompts: Tokens of each prompt.
        responses: Length of each response.
        ceilings: Limits of the device.
        shared: Whether each distinct prefix is read once, and its keys and values once at every step; else once per prompt.
    """
    rows = sorted(zip(prompts, responses, strict=True))
    ordered = [prompt for prompt, _ in rows]
    common = _shared_with_previous(ordered) if shared else [0] * len(rows)
    seconds = 2 * size.layers * _distinct(ordered, common, range(len(rows))) / ceilings.operations
    weights, n_left = size.layers + size.head, -1
    for step in range(max(responses)):
        left = {place for place, (_, response) in enumerate(rows) if response > step}
        if len(left) != n_left:
            n_left, n_read = len(left), _distinct(ordered, common, left)
        moved = weights * size.number + size.token * (n_read + step * n_left)
        seconds += max(moved / ceilings.bandwidth, 2 * weights * n_left / ceilings.operations)
    return seconds
