"""Where an engine's time goes: seconds by kind of operation, from PyTorch's profiler."""

import re
import time
from collections.abc import Callable

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "matrix products": r"^(aten::)?(mm|addmm|bmm|baddbmm|matmul|linear)\b|mkldnn|onednn|gemm|gemv|cutlass|nvjet|xmma",
    "attention": r"attention|flash|fmha|softmax",
    "copies": r"copy|memcpy|memset|cat|index|gather|scatter|clone|contiguous|embedding|stack|::fill_|zero|::pad|repeat",
    "elementwise": r"::(add|mul|sub|div|neg|silu|gelu|rsqrt|pow|mean|sum|cos|sin|rms_norm|native_layer_norm|where|masked_fill"
    r"|argmax|max|sigmoid|relu|exp|eq|ne|lt|gt|ge|le|bitwise|logical|clamp|cumsum|arange|native)|elementwise|reduce|norm|triton",
}
"""Patterns of the operations of each kind; an operation belongs to the first that matches."""
OTHER = "other operations"
OUTSIDE = "Python, or waiting for it"


def kind_of(operation: str) -> str:
    """Return the kind of an operation, by its name in a profile."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, operation.lower())), OTHER)


def seconds_by_kind(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Profile a call; return the seconds of each kind of operation, and those of no operation, which make up the wall time.

    On a GPU, operations are the kernels that run there; on a CPU, what the threads that call them do or wait for.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    all_threads = _ExperimentalConfig(profile_all_threads=True)  # an engine's guard calls it in another one
    with profile(activities=activities, experimental_config=all_threads) as profiler:
        started = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize(device)
        wall = time.perf_counter() - started
    seconds = dict.fromkeys([*KINDS, OTHER], 0.0)
    for event in profiler.key_averages():
        if on_gpu:
            microseconds = event.self_device_time_total if event.device_type.name == "CUDA" else 0
        else:
            microseconds = event.self_cpu_time_total
        seconds[kind_of(event.key)] += microseconds / 1e6
    return {**seconds, OUTSIDE: max(0.0, wall - sum(seconds.values()))}
