"""Which CPUs a process may use, and how the threads of numerical libraries share them with other processes."""

import math
import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

SPIN_COUNT = "10000"
"""Turns of the loop in which GNU's OpenMP waits for other threads before it sleeps; by itself, 300,000, which is milliseconds.

Enough to be awake when the next of a pass's many short operations begins. A thread that waits for much longer takes the CPU
from the process that it waits for.
"""
CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Return the number of CPUs that this process may use at a time: by its affinity, and by the quota of its container."""
    allowed = _allowed_cpus()
    return max(1, min(allowed, math.ceil(_quota(cgroup) or allowed)))


def share_cpus(environment: MutableMapping[str, str], cgroup: Path = CGROUP) -> None:
    """Set what keeps a program's threads from wasting CPU time, for libraries that are loaded later and for child processes.

    What the user has set stays. PyTorch's threads respect the affinity by themselves, but not a quota.

    Args:
        environment: The environment of the program, `os.environ`.
        cgroup: Folder of the container's limits.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    if available_cpus(cgroup) < _allowed_cpus():
        environment.setdefault("OMP_NUM_THREADS", str(available_cpus(cgroup)))


def _allowed_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(cgroup: Path) -> float | None:
    """Return how many CPUs' time a container may use, by the second or the first version of cgroups; None without a limit."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text("ascii").split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no cgroups, or "max"
        return None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread, for networks so small that a second one is no faster.

    The number of threads changes how sums are rounded, from the first weights of a policy on: with one, a seed gives the same
    router on a busy machine, in a sweep and alone.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
