"""Runs batches on a Ray cluster: as many workers as it has room for, the same model in all, fed from one queue.

When a worker is lost, its batch returns to the head of the queue and another worker is started, which waits for a node with
room. A batch that keeps losing its worker is halved until the prompt that brings workers down stands alone. Each worker's
engine is guarded by a thread in this process. Weights are loaded once per worker, hop and model.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from pydantic import Field

from toolkit import __version__
from toolkit.core.errors import EngineError
from toolkit.engines.base import Completion, Engine, Failure, Outcome, Prompt, WorkerLostError, library_required, storable
from toolkit.engines.guard import PREFETCH_BATCHES, BatchResult, GuardedEngine, TokenBudget
from toolkit.suites.section import Section

if TYPE_CHECKING:
    from toolkit.engines.cluster import OpenModel, RemoteEngine, Worker

REQUIREMENT = "ray>=2.40"

MAX_LOST_WORKERS = 3
"""Workers that a batch may lose before it is halved, and a single prompt before it fails."""
MAX_FAILED_STARTS = 5
"""Workers in a row that may end before they have started; more mean that something is wrong with all of them."""
POLL_SECONDS = 5.0
"""Shortest time between two looks at how many workers the cluster has room for."""

logger = logging.getLogger("toolkit")


class RaySettings(Section):
    """Resources of a worker on a Ray cluster, for `generate --executor ray`."""

    gpus: float | None = Field(
        None, ge=0, description="GPUs per worker, or a fraction of one; default: 1, or 0 in a cluster without GPUs."
    )
    cpus: float = Field(1.0, gt=0, description="CPUs per worker, which are also its threads.")
    replicas: int | None = Field(
        None, ge=1, description="Number of workers; default: as many as there is room for, on nodes that join later too."
    )


class WorkerStats(NamedTuple):
    """What one worker has generated, and the seconds that it took."""

    worker: str
    responses: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class _SubmittedBatch:
    """A batch on its way through the workers, whole or in parts."""

    prompts: Sequence[Prompt]
    still_needed: Callable[[], bool]
    runner: "RayRunner"
    result: Future[BatchResult] = field(default_factory=Future)
    outcomes: dict[int, Outcome | None] = field(default_factory=dict)
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, part: range, outcomes: Sequence[Outcome | None], seconds: float, label: str) -> None:
        """Add the outcomes of a part; the last part completes the result."""
        with self.lock:
            self.outcomes |= zip(part, outcomes, strict=True)
            self.seconds += seconds
            complete = len(self.outcomes) == len(self.prompts)
        if complete:
            in_order = [self.outcomes[index] for index in range(len(self.prompts))]
            self.result.set_result(BatchResult(outcomes=in_order, seconds=self.seconds, label=label))

    def fail(self, error: BaseException) -> None:
        """Complete the result with an error, unless another part has done so already."""
        with self.lock:
            if not self.result.done():
                self.result.set_exception(error)


@dataclass(order=True)
class _QueuedPart:
    """Prompts of a batch in the queue, by their positions in the batch; without a batch, the end of the queue."""

    priority: float
    batch: _SubmittedBatch | None = field(default=None, compare=False)
    positions: range = field(default=range(0), compare=False)
    losses: int = field(default=0, compare=False)

    def after_lost_worker(self) -> "list[_QueuedPart]":
        """Return what to queue again once a worker is lost: the part, its two halves, or nothing of a single prompt."""
        if self.losses + 1 < MAX_LOST_WORKERS:
            return [_QueuedPart(self.priority, self.batch, self.positions, self.losses + 1)]
        half = len(self.positions) // 2
        halves = (self.positions[:half], self.positions[half:]) if half else ()
        return [_QueuedPart(self.priority, self.batch, positions, self.losses) for positions in halves]


class RayWorkers:
    """The workers of a run, each with a thread here that feeds it from the queue.

    Args:
        settings: Resources and number of workers.
        address: Address of the cluster; default: `$RAY_ADDRESS`, else a cluster that runs on this machine, else a new one of
            this machine alone.

    Raises:
        EngineError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, settings: RaySettings, address: str | None = None) -> None:
        with library_required("--executor ray", REQUIREMENT):
            from toolkit.engines.cluster import RayCluster
        self._cluster = RayCluster(address, settings.cpus, settings.gpus)
        self._replicas = settings.replicas
        self._queue: queue.PriorityQueue[_QueuedPart] = queue.PriorityQueue()
        self._submitted = 0
        self._slots = 0
        self._last_poll = 0.0
        self._closed = False
        self._stats: dict[str, WorkerStats] = {}
        self._workers: dict[int, Worker] = {}
        self._error: EngineError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._queue.put(_QueuedPart(float("inf")))
        for worker in list(self._workers.values()):
            worker.kill()
        self._cluster.close()

    @property
    def worker_stats(self) -> list[WorkerStats]:
        """What each worker has done so far, lost workers included."""
        return sorted(self._stats.values())

    @property
    def prefetch(self) -> int:
        """Number of batches to have submitted at a time."""
        return PREFETCH_BATCHES * max(1, len(self._workers))

    def open_runner(self, open_model: "OpenModel", max_tokens: int, token_budget: TokenBudget, timeout: float) -> "RayRunner":
        """Open the runner of a hop and model on all workers; the arguments are those of `GuardedEngine`."""
        return RayRunner(self, open_model, max_tokens, token_budget, timeout)

    def submit(self, batch: _SubmittedBatch) -> None:
        """Queue a batch."""
        if self._error:
            batch.fail(self._error)
            return
        if time.monotonic() > self._last_poll + POLL_SECONDS:
            self._last_poll = time.monotonic()
            self._start_workers()
        self._submitted += 1
        self._queue.put(_QueuedPart(self._submitted, batch, range(len(batch.prompts))))

    def _start_workers(self) -> None:
        """Start as many workers as there is room for now; the first waits for room if there is none."""
        replicas = self._replicas or max(1, self._cluster.capacity())
        for slot in range(self._slots, replicas):
            threading.Thread(target=self._supervise, args=(slot,), daemon=True).start()
        self._slots = max(self._slots, replicas)

    def _supervise(self, slot: int) -> None:
        """Keep one worker running, and replace it when it is lost."""
        failed_starts = 0
        while not self._closed and not self._error:
            try:
                worker = self._workers[slot] = self._cluster.start_worker()
                name = self._wait_for_start(worker)
                failed_starts = 0
                self._feed(worker, name)
            except WorkerLostError as error:
                failed_starts += 1
                if failed_starts == MAX_FAILED_STARTS:
                    self._fail_all(f"Workers on the Ray cluster end as soon as they start: {error}")
                elif not self._closed:
                    logger.warning("lost a worker: %s", error)
            except Exception as error:
                if not self._closed:
                    self._fail_all(f"The Ray cluster does not respond: {type(error).__name__}: {error}")
            finally:
                self._workers.pop(slot, None)

    def _wait_for_start(self, worker: "Worker") -> str:
        """Wait until a node has room for a worker, however long that takes, and return the worker's name.

        Raises:
            EngineError: The worker runs another version of the toolkit.
            WorkerLostError: The run ended first.
        """
        warn_at = time.monotonic() + 2 * POLL_SECONDS
        while not worker.started(timeout=1.0):
            if self._closed:
                raise WorkerLostError("closed")
            if time.monotonic() > warn_at:
                warn_at = float("inf")
                logger.warning(
                    "a worker waits for a node with %g free CPUs and %g GPUs", self._cluster.cpus, self._cluster.gpus
                )
        name, version = worker.describe()
        if version != __version__:
            raise EngineError(f"{name} runs version {version} of the toolkit, this process {__version__}")
        return name

    def _feed(self, worker: "Worker", name: str) -> None:
        """Run batches on a worker until the queue ends."""
        runner, engine = None, None
        while (part := self._queue.get()).batch and not self._closed:
            batch, started = part.batch, time.monotonic()
            prompts = [batch.prompts[position] for position in part.positions]
            try:
                if engine is None or batch.runner is not runner:
                    runner, engine = batch.runner, batch.runner.open_on(worker)
                outcomes = engine.generate(prompts) if batch.still_needed() else [None] * len(prompts)
            except WorkerLostError as error:
                self._requeue(part, batch, error)
                raise
            except Exception as error:
                batch.fail(error)
            else:
                seconds = time.monotonic() - started
                self._update_stats(name, outcomes, seconds)
                batch.add(part.positions, outcomes, seconds, engine.engine.label)
        self._queue.put(part)  # every thread has to see the end of the queue

    def _requeue(self, part: _QueuedPart, batch: _SubmittedBatch, error: WorkerLostError) -> None:
        retries = part.after_lost_worker()
        for retry in retries:
            self._queue.put(retry)
        if not retries:
            reason = f"lost its worker {MAX_LOST_WORKERS} times before there was a response: {error}"
            batch.add(part.positions, [storable(Failure(reason, True))], 0.0, "ray")

    def _fail_all(self, reason: str) -> None:
        """Fail every batch in the queue, and all later ones: no worker is left."""
        self._error = EngineError(
            f"{reason}. All responses so far are kept. Every node needs this version of the toolkit, its dependencies and the "
            "files that the suite names. Check that, then repeat the command."
        )
        while True:
            try:
                part = self._queue.get_nowait()
            except queue.Empty:
                return
            if part.batch:
                part.batch.fail(self._error)

    def _update_stats(self, worker: str, outcomes: Sequence[Outcome | None], seconds: float) -> None:
        completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
        stats = self._stats.get(worker, WorkerStats(worker))
        self._stats[worker] = stats._replace(
            responses=stats.responses + len(completions),
            tokens=stats.tokens + sum(completion.completion_tokens or 0 for completion in completions),
            seconds=stats.seconds + seconds,
        )


class RayRunner:
    """Runs the batches of one hop and model on all workers; renders and counts with an engine in this process."""

    def __init__(
        self, workers: RayWorkers, open_model: "OpenModel", max_tokens: int, token_budget: TokenBudget, timeout: float
    ) -> None:
        self.engine: Engine = open_model()
        self._workers = workers
        self._open_model = open_model
        self._max_tokens = max_tokens
        self._token_budget = token_budget
        self._timeout = timeout
        self._worker_engines: list[GuardedEngine] = []

    @property
    def prefetch(self) -> int:
        """Number of batches to have submitted at a time."""
        return self._workers.prefetch

    @property
    def broken(self) -> Failure | None:
        """Why no further batch is run, once the engine of a worker is broken."""
        return next((engine.broken for engine in self._worker_engines if engine.broken), None)

    def submit(self, prompts: Sequence[Prompt], still_needed: Callable[[], bool]) -> Future[BatchResult]:
        """Queue prompts; they are skipped if `still_needed` returns False when their turn comes."""
        batch = _SubmittedBatch(prompts, still_needed, self)
        if prompts:
            self._workers.submit(batch)
        else:
            batch.add(range(0), (), 0.0, self.engine.label)
        return batch.result

    def open_on(self, worker: "Worker") -> GuardedEngine:
        """Open this runner's model on a worker."""
        opened: list[RemoteEngine] = []

        def open_once() -> "RemoteEngine":
            if opened:  # a guarded engine is opened again when it hangs, and its worker hangs with it
                worker.kill()
                raise WorkerLostError(f"no response within {self._timeout:g} s (batch_timeout)")
            opened.append(worker.open(self._open_model))
            return opened[0]

        engine = GuardedEngine(open_once, self._max_tokens, self._token_budget, self._timeout)
        self._worker_engines.append(engine)
        return engine

    def load(self) -> None:
        """Do nothing: workers load the weights with their first batch."""

    def close(self) -> None:
        """Free what this process opened; workers keep their weights until they open another model."""
        self.engine.close()
        for engine in self._worker_engines:
            engine.close()
