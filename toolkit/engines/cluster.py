"""The calls to Ray: connect to a cluster, start workers, and use a worker's engine as if it were in this process.

Imports Ray, and is therefore imported only once a cluster is used. Knows nothing of batches or caches.
"""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from toolkit import __version__
from toolkit.core.cpus import share_cpus
from toolkit.core.errors import EngineError
from toolkit.engines.base import Engine, Outcome, Prompt, WorkerLostError
from toolkit.suites.prompts import Message

CONNECT_SECONDS = 10
"""Longest wait for a cluster's address to accept a connection; Ray itself tries for minutes."""

OpenModel = Callable[[], Engine]


class EngineActor:
    """Runs as a process of the cluster, with one engine at a time."""

    def __init__(self) -> None:
        share_cpus(os.environ)
        self._engine: Engine | None = None

    def describe(self) -> tuple[str, str]:
        """Return the name of this process, and the version of the toolkit that it runs."""
        return f"{ray.util.get_node_ip_address()} process {os.getpid()}", __version__

    def open(self, open_model: OpenModel) -> tuple[str, int]:
        """Open an engine in place of the previous one; return its label and context length."""
        if self._engine:
            self._engine.close()
        self._engine = open_model()
        return self._engine.label, self._engine.context_length

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of the engine."""
        return getattr(self._engine, method)(*args)


class RemoteEngine:
    """The engine of a worker."""

    def __init__(self, actor: Any, open_model: OpenModel) -> None:
        self._actor = actor
        self.label, self.context_length = _get(actor.open.remote(open_model))

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template."""
        return str(_get(self._actor.call.remote("render", messages)))

    def count(self, text: str) -> int:
        """Return the length of a text in tokens."""
        return int(_get(self._actor.call.remote("count", text)))

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Outcome]:
        """Generate a response to every prompt of a batch."""
        outcomes: Sequence[Outcome] = _get(self._actor.call.remote("generate", prompts))
        return outcomes

    def close(self) -> None:
        """Do nothing: the worker closes its engine when it opens another, and ends with the last."""


class Worker:
    """A process of the cluster, seen from here; Ray starts it once a node has room."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._description = actor.describe.remote()

    def started(self, timeout: float) -> bool:
        """Wait for the worker to start, for so many seconds at most; tell whether it has."""
        return bool(ray.wait([self._description], timeout=timeout)[0])

    def describe(self) -> tuple[str, str]:
        """Return the worker's name and the version of its toolkit, once it has started."""
        name, version = _get(self._description)
        return name, version

    def open(self, open_model: OpenModel) -> RemoteEngine:
        """Open an engine in place of the worker's previous one."""
        return RemoteEngine(self._actor, open_model)

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        ray.kill(self._actor)


class RayCluster:
    """A connection to a cluster; without a cluster, one of this machine is started for as long as the connection lasts.

    Args:
        address: Address of the cluster; default: `$RAY_ADDRESS`, else a cluster that runs on this machine.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker; default: 1, and 0 in a cluster without GPUs.

    Raises:
        EngineError: There is no such cluster, or no connection to it.
    """

    def __init__(self, address: str | None, cpus: float, gpus: float | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._connected_here = not ray.is_initialized()
        if self._connected_here:
            try:
                _check_reachable(address)
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
            except (OSError, RuntimeError, ValueError, RayError) as error:
                raise EngineError(
                    f"No connection to a Ray cluster at {address or 'the default address'}: {error}. Start one with "
                    "`ray start --head`, and pass its address. All its nodes need the same versions of Python and Ray."
                ) from None
        self.cpus = cpus
        self.gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0)) if gpus is None else gpus

    def capacity(self) -> int:
        """Return the number of workers that the cluster's current nodes have room for."""
        needs = {resource: need for resource, need in {"CPU": self.cpus, "GPU": self.gpus}.items() if need}
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(int(min(node.get(name, 0.0) // need for name, need in needs.items())) for node in resources)

    def start_worker(self) -> Worker:
        """Ask for a worker; it starts as soon as a node has room."""
        return Worker(ray.remote(EngineActor).options(num_cpus=self.cpus, num_gpus=self.gpus).remote())

    def close(self) -> None:
        """Disconnect, unless this process was connected before."""
        if self._connected_here:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Connect to a `host:port` once."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


def _get(reference: Any) -> Any:
    """Return the result of a remote call; raise what was raised there.

    Raises:
        WorkerLostError: The worker is gone.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except RayError as error:
        raise WorkerLostError(str(error).strip().splitlines()[0]) from None
    except SystemExit:  # what Ray raises in threads that wait while it is shut down
        raise WorkerLostError("Ray has been shut down") from None
