"""Engines on a Ray cluster: as many workers as it has room for, the same model resident in all, fed from one line of batches.

Ray places workers and says when one is gone. Its batch then goes back to the head of the line, and another worker is asked
for, which waits for a node with room; a batch that is lost time after time is halved until the prompt that takes its worker
down stands alone. Every worker is under a guard of its own, on this side. Weights are loaded once a worker, hop and model.
"""

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from toolkit import __version__
from toolkit.core.errors import EngineError
from toolkit.engines import Completion, Engine, Failure, LostError, Prompt
from toolkit.engines.guard import PREFETCH_BATCHES, BatchResult, Guard, TokenBudget
from toolkit.suites.config import RayConfig
from toolkit.suites.prompts import Message

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    raise EngineError("--executor ray needs Ray: pip install 'hierrouter-toolkit[ray]'") from None

MAX_LOST_WORKERS = 3
"""Workers that a batch may lose before it is halved, or, as a prompt alone, given up."""
MAX_FAILED_STARTS = 5
"""Workers in a row that end before they have begun: something is wrong with all of them."""
POLL_SECONDS = 5.0
"""Seconds from one look at what the cluster has room for to the next."""

logger = logging.getLogger("toolkit")

OpenModel = Callable[[], Engine]


class WorkerStats(NamedTuple):
    """What one worker has done: `seconds` of work on so many answers and tokens of theirs."""

    worker: str
    answers: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Worker:
    """A process of the cluster, with one engine at a time; it knows nothing of batches or caches."""

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def introduce(self) -> tuple[str, str]:
        """Return where this is, and the toolkit's version there."""
        return f"{ray.util.get_node_ip_address()} process {os.getpid()}", __version__

    def open(self, open_model: OpenModel) -> tuple[str, int]:
        """Open an engine in place of the one before; return its label and context length."""
        if self._engine:
            self._engine.close()
        self._engine = open_model()
        return self._engine.label, self._engine.context_length

    def call(self, method: str, *given: Any) -> Any:
        """Ask the engine."""
        return getattr(self._engine, method)(*given)


class RemoteEngine:
    """The engine of a worker, as if it were here."""

    def __init__(self, worker: Any, open_model: OpenModel) -> None:
        self._worker = worker
        self.label, self.context_length = _get(worker.open.remote(open_model))

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template."""
        return str(_get(self._worker.call.remote("render", messages)))

    def count(self, text: str) -> int:
        """Return the length of a text in tokens."""
        return int(_get(self._worker.call.remote("count", text)))

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion | Failure]:
        """Answer a batch."""
        answers: Sequence[Completion | Failure] = _get(self._worker.call.remote("generate", prompts))
        return answers

    def close(self) -> None:
        """Keep the engine: the worker closes it when it opens another, and ends with it otherwise."""


@dataclass
class _PendingBatch:
    """A batch on its way through the workers, whole or in parts."""

    prompts: Sequence[Prompt]
    wanted: Callable[[], bool]
    line: "RayLine"
    answered: Future[BatchResult] = field(default_factory=Future)
    outcomes: dict[int, Completion | Failure | None] = field(default_factory=dict)
    seconds: float = 0.0

    def settle(
        self, places: Sequence[int], outcomes: Sequence[Completion | Failure | None], seconds: float, label: str
    ) -> None:
        """Take in the outcomes of some of its prompts; the last of them answers the whole."""
        with self.line.settling:
            self.outcomes |= zip(places, outcomes, strict=True)
            self.seconds += seconds
            whole = len(self.outcomes) == len(self.prompts)
        if whole:
            self.answered.set_result(BatchResult([self.outcomes[n] for n in range(len(self.prompts))], self.seconds, label))

    def fail(self, error: BaseException) -> None:
        """End with an error, unless a part has done so already."""
        with self.line.settling:
            if not self.answered.done():
                self.answered.set_exception(error)


@dataclass(order=True)
class _Task:
    """Prompts of a batch in line, by their places in it; without a batch, the end of the line."""

    number: float
    asked: _PendingBatch | None = field(default=None, compare=False)
    places: Sequence[int] = field(default=(), compare=False)
    losses: int = field(default=0, compare=False)

    def after_a_loss(self) -> "list[_Task]":
        """Return what to put back into the line: all of it, two halves, or nothing."""
        if self.losses + 1 < MAX_LOST_WORKERS:
            return [_Task(self.number, self.asked, self.places, self.losses + 1)]
        half = len(self.places) // 2
        return [_Task(self.number, self.asked, part, self.losses) for part in (self.places[:half], self.places[half:])] * bool(
            half
        )


class RayWorkers:
    """The workers of a run.

    Args:
        config: What a worker takes of the cluster, and how many there are.
        address: The cluster's; default: $RAY_ADDRESS, else one that runs on this machine, else a new one of this machine alone.

    Raises:
        EngineError: There is no such cluster, or no connection to it.
    """

    def __init__(self, config: RayConfig, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                _reach(address)
                ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
            except (OSError, RuntimeError, ValueError, RayError) as error:
                raise EngineError(
                    f"No connection to a Ray cluster at {address or 'the default address'}: {error}. Start one with "
                    "`ray start --head`, and give its address and the same versions of Python and Ray on all its nodes."
                ) from None
        self._config = config
        self._gpus = config.gpus if config.gpus is not None else min(1.0, ray.cluster_resources().get("GPU", 0.0))
        self._tasks: queue.PriorityQueue[_Task] = queue.PriorityQueue()
        self._numbers = 0
        self._slots = 0
        self._looked = 0.0
        self._closed = False
        self._rates: dict[str, WorkerStats] = {}
        self._alive: dict[int, Any] = {}
        self._error: EngineError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._tasks.put(_Task(float("inf")))
        for worker in list(self._alive.values()):
            ray.kill(worker)
        if self._ours:
            ray.shutdown()

    @property
    def worker_stats(self) -> list[WorkerStats]:
        """What each worker has done so far, those that are gone included."""
        return sorted(self._rates.values())

    @property
    def ahead(self) -> int:
        """Batches worth handing in at a time."""
        return PREFETCH_BATCHES * max(1, len(self._alive))

    def open_runner(self, open_model: OpenModel, max_tokens: int, token_budget: TokenBudget, timeout: float) -> "RayLine":
        """Have the batches of a hop and a model answered; the arguments are those of a guard."""
        return RayLine(self, open_model, max_tokens, token_budget, timeout)

    def put(self, asked: _PendingBatch) -> None:
        """Put a batch into the line."""
        if self._error:
            asked.fail(self._error)
            return
        if time.monotonic() > self._looked + POLL_SECONDS:
            self._looked = time.monotonic()
            self._grow()
        self._numbers += 1
        self._tasks.put(_Task(self._numbers, asked, range(len(asked.prompts))))

    def _grow(self) -> None:
        """Begin as many workers as there is room for, nodes that have joined included; one, at least, waits for room."""
        wanted = self._config.replicas or max(1, sum(map(self._room, ray.nodes())))
        for slot in range(self._slots, wanted):
            threading.Thread(target=self._keep_one, args=(slot,), daemon=True).start()
        self._slots = max(self._slots, wanted)

    def _room(self, node: dict[str, Any]) -> int:
        if not node["Alive"]:
            return 0
        needs = {"CPU": self._config.cpus, "GPU": self._gpus}
        return int(min(node["Resources"].get(name, 0.0) // need for name, need in needs.items() if need))

    def _keep_one(self, slot: int) -> None:
        """Keep one worker at work, another one once it is gone."""
        failed_starts = 0
        while not self._closed and not self._error:
            try:
                worker = self._alive[slot] = self._begin()
                name = self._greet(worker)
                failed_starts = 0
                self._work(worker, name)
            except LostError as error:
                failed_starts += 1
                if failed_starts == MAX_FAILED_STARTS:
                    self._give_up(f"Workers on the Ray cluster end as soon as they begin: {error}")
                elif not self._closed:
                    logger.warning("a worker is gone: %s", error)
            except Exception as error:
                if not self._closed:
                    self._give_up(f"The Ray cluster does not answer: {type(error).__name__}: {error}")
            finally:
                self._alive.pop(slot, None)

    def _begin(self) -> Any:
        remote = ray.remote(Worker).options(num_cpus=self._config.cpus, num_gpus=self._gpus)
        return remote.remote()

    def _greet(self, worker: Any) -> str:
        """Wait until a worker has a place, however long, and return its name."""
        introduced = worker.introduce.remote()
        began, told = time.monotonic(), False
        while not ray.wait([introduced], timeout=1.0)[0]:
            if self._closed:
                raise LostError("closed")
            if not told and time.monotonic() > began + 2 * POLL_SECONDS:
                told = True
                logger.warning("a worker waits for a node with %g CPUs and %g GPUs free", self._config.cpus, self._gpus)
        name, version = _get(introduced)
        if version != __version__:
            raise EngineError(f"{name} has version {version} of the toolkit, this process {__version__}.")
        return str(name)

    def _work(self, worker: Any, name: str) -> None:
        line, guard = None, None
        while (task := self._tasks.get()).asked and not self._closed:
            asked, started = task.asked, time.monotonic()
            prompts = [asked.prompts[place] for place in task.places]
            try:
                if guard is None or asked.line is not line:
                    line, guard = asked.line, asked.line.guard(worker)
                outcomes = guard.generate(prompts) if asked.wanted() else [None] * len(prompts)
            except LostError as error:
                self._lost(task, error)
                raise
            except Exception as error:
                asked.fail(error)
            else:
                seconds = time.monotonic() - started
                self._count(name, outcomes, seconds)
                asked.settle(task.places, outcomes, seconds, guard.engine.label)
        self._tasks.put(task)  # the end of the line is for all

    def _lost(self, task: _Task, error: LostError) -> None:
        assert task.asked
        left = task.after_a_loss()
        for part in left:
            self._tasks.put(part)
        if not left:
            failure = Failure(f"its worker was gone {MAX_LOST_WORKERS} times before it had answered: {error}", True)
            task.asked.settle(task.places, [failure], 0.0, "ray")

    def _give_up(self, reason: str) -> None:
        """End every batch in line with an error: there is nobody left to answer."""
        self._error = EngineError(
            f"{reason}. All answers so far are kept. Every node needs this version of the toolkit, its dependencies and the "
            "files that the suite names; once that is so, repeat the command."
        )
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task.asked:
                task.asked.fail(self._error)

    def _count(self, worker: str, outcomes: Sequence[Completion | Failure | None], seconds: float) -> None:
        right = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
        before = self._rates.get(worker, WorkerStats(worker))
        tokens = before.tokens + sum(outcome.completion_tokens or 0 for outcome in right)
        self._rates[worker] = WorkerStats(worker, before.answers + len(right), tokens, before.seconds + seconds)


class RayLine:
    """What answers the batches of one hop with one model, on all workers."""

    def __init__(
        self, workers: RayWorkers, open_model: OpenModel, max_tokens: int, token_budget: TokenBudget, timeout: float
    ) -> None:
        self.engine = open_model()
        self.settling = threading.Lock()
        self._workers, self._open_model = workers, open_model
        self._max_tokens, self._budget, self._timeout = max_tokens, token_budget, timeout
        self._guards: list[Guard] = []

    @property
    def ahead(self) -> int:
        """Batches worth handing in at a time."""
        return self._workers.ahead

    @property
    def broken(self) -> str:
        """Why no further batch is answered, once one worker's engine is given up."""
        return next((guard.broken for guard in self._guards if guard.broken), "")

    def submit(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> Future[BatchResult]:
        """Hand in prompts, longest first, to be answered if they are still wanted by the time it is their turn."""
        asked = _PendingBatch(prompts, wanted, self)
        if prompts:
            self._workers.put(asked)
        else:
            asked.settle((), (), 0.0, self.engine.label)
        return asked.answered

    def guard(self, worker: Any) -> Guard:
        """Put a worker's engine under guard."""
        opened: list[RemoteEngine] = []

        def open_once() -> RemoteEngine:
            if opened:  # a guard opens its engine again where it hangs, and this one's worker hangs with it
                ray.kill(worker)
                raise LostError(f"no answer within {self._timeout:g} s (batch_timeout)")
            opened.append(RemoteEngine(worker, self._open_model))
            return opened[0]

        guard = Guard(open_once, self._max_tokens, self._budget, self._timeout)
        self._guards.append(guard)
        return guard

    def close(self) -> None:
        """Free what was opened here; workers keep their weights until they are asked for another model's."""
        self.engine.close()
        for guard in self._guards:
            guard.close()


def _reach(address: str | None) -> None:
    """Try a `host:port`, which Ray itself does for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _get(reference: Any) -> Any:
    """Return what a worker did; raise what was raised there."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except RayError as error:
        raise LostError(str(error).strip().splitlines()[0]) from None
