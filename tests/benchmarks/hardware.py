"""What a device can do at most: its measured rates, and the time below which no engine can generate a set of responses."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch

REPEATS = 10


class Ceilings(NamedTuple):
    """Measured limits of a device.

    Attributes:
        operations: Floating-point operations per second of a large matrix product.
        bandwidth: Bytes per second, read and written, of a large copy.
    """

    operations: float
    bandwidth: float


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(device: torch.device, dtype: torch.dtype) -> Ceilings:
    """Measure the limits of a device: a product of two random matrices, and a copy of a tensor larger than the caches."""
    size, elements = (8192, 2**30) if device.type == "cuda" else (1024, 2**24)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    source = torch.empty(elements, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Ceilings(
        operations=2 * size**3 / _seconds(lambda: left @ right, device),
        bandwidth=2 * elements / _seconds(lambda: target.copy_(source), device),
    )


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the median time of a call, after three to warm up."""
    times = []
    for _ in range(3 + REPEATS):
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return median(times[3:])


def floor(model: Any, prompts: Sequence[int], responses: Sequence[int], ceilings: Ceilings) -> float:
    """Return the least time, in seconds, for prompts and responses of these lengths in tokens, all in one batch.

    Every prompt token passes once through all layers, at the rate of matrix products. Every step then reads the weights once,
    and the keys and values of the rows that are not finished, at the bandwidth of copies, or multiplies them, if that takes
    longer. Attention's own operations and a shared prefix that is read only once are not counted.

    Args:
        model: A model of transformers with plain keys and values.
        prompts: Length of each prompt.
        responses: Length of each response.
        ceilings: Limits of the device.
    """
    layers = sum(weights.numel() for name, weights in model.named_parameters() if ".layers." in name)
    head = model.get_output_embeddings().weight.numel()
    config, number = model.config, model.dtype.itemsize
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token_bytes = 2 * config.num_hidden_layers * config.num_key_value_heads * head_size * number
    seconds: float = 2 * layers * sum(prompts) / ceilings.operations
    for step in range(max(responses)):
        lengths = [prompt + step for prompt, response in zip(prompts, responses, strict=True) if response > step]
        moved = (layers + head) * number + token_bytes * sum(lengths)
        seconds += max(moved / ceilings.bandwidth, 2 * (layers + head) * len(lengths) / ceilings.operations)
    return seconds
