"""Runs the batches of one engine in this process: whatever the engine does, every prompt gets a response or a reason.

A batch that does not fit into memory is halved, and so are all later ones. A batch that raises or hangs is halved until the
culprit stands alone, so that one bad prompt costs no other its response. Batches are queued, so that the engine works while
earlier ones are scored and committed. Knows nothing of nodes or caches.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from toolkit.core.errors import ToolkitError
from toolkit.engines.base import (
    BatchTooLargeError,
    Engine,
    EngineClass,
    Failure,
    Outcome,
    Prompt,
    TransientError,
    WorkerLostError,
    storable,
)

MAX_CONSECUTIVE_FAILURES = 8
"""Prompts that may fail alone, one after the other, before the engine counts as broken."""

PREFETCH_BATCHES = 2
"""Batches submitted to an engine at a time: one that it works on, and one that waits."""

logger = logging.getLogger("toolkit")


@dataclass
class TokenBudget:
    """Tokens of a batch, responses and padding included; halved for good when memory runs out."""

    tokens: int

    def rows(self, longest: int) -> int:
        """Return how many rows of at most `longest` tokens fit."""
        return max(1, self.tokens // longest)


def rounds(engine: Engine | EngineClass) -> int:
    """Return how many batches an engine, or its class, takes in one call: 1 unless it starts waiting prompts as others end."""
    return int(getattr(engine, "rounds", 1))


class BatchResult(NamedTuple):
    """The outcomes of a batch.

    Attributes:
        outcomes: In the order of the prompts; None for a prompt that was not tried.
        seconds: Time that they took.
        label: Label of the engine.
    """

    outcomes: Sequence[Outcome | None]
    seconds: float
    label: str


class BatchRunner(Protocol):
    """Runs the batches of one hop and model."""

    @property
    def engine(self) -> Engine:
        """An engine that renders and counts."""
        ...

    @property
    def prefetch(self) -> int:
        """Number of batches to have submitted at a time."""
        ...

    @property
    def broken(self) -> Failure | None:
        """Why no further batch is run; None while the engine works."""
        ...

    def submit(self, prompts: Sequence[Prompt], still_needed: Callable[[], bool]) -> Future[BatchResult]:
        """Queue prompts; they are skipped if `still_needed` returns False when their turn comes."""
        ...

    def load(self) -> None:
        """Prepare the weights for the first batch, while another engine may still be working."""
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...


OpenRunner = Callable[[Callable[[], Engine], int, TokenBudget, float], BatchRunner]
"""Opens a batch runner; the arguments are those of `GuardedEngine`, which is one."""


class GuardedEngine:
    """One resident model whose errors, hangs and memory limits are handled.

    Args:
        open_engine: Opens the engine, and opens it again after it hung.
        max_tokens: Longest response, in tokens.
        token_budget: Tokens of a batch; shared by all models of a run.
        timeout: Longest time that a batch may take, in seconds.
    """

    def __init__(self, open_engine: Callable[[], Engine], max_tokens: int, token_budget: TokenBudget, timeout: float) -> None:
        self.engine = open_engine()
        self.max_tokens = max_tokens
        self.token_budget = token_budget
        self.timeout = timeout
        self.prefetch = PREFETCH_BATCHES
        self._open_engine = open_engine
        self._consecutive_failures: deque[Failure] = deque(maxlen=MAX_CONSECUTIVE_FAILURES)
        self._batches = _TaskThread()
        self._calls = _TaskThread()

    @property
    def broken(self) -> Failure | None:
        """Why the engine is not used any more, once too many prompts have failed in a row; transient if all of them are."""
        failures = self._consecutive_failures
        if len(failures) < MAX_CONSECUTIVE_FAILURES:
            return None
        reason = f"{len(failures)} prompts in a row, the last with: {failures[-1].reason}"
        return Failure(reason, all(failure.transient for failure in failures))

    def submit(self, prompts: Sequence[Prompt], still_needed: Callable[[], bool]) -> Future[BatchResult]:
        """Queue prompts; they are skipped if `still_needed` returns False when their turn comes."""

        def run() -> BatchResult:
            started = time.monotonic()
            outcomes = self.generate(prompts) if still_needed() else [None] * len(prompts)
            return BatchResult(outcomes=outcomes, seconds=time.monotonic() - started, label=self.engine.label)

        return self._batches.submit(run)

    def generate(self, prompts: Sequence[Prompt]) -> list[Outcome | None]:
        """Generate responses to prompts; None for prompts not tried because the engine is broken.

        Raises:
            ToolkitError: The engine cannot run at all, e.g. because its weights cannot be loaded.
            WorkerLostError: The process that runs the engine is gone.
        """
        outcomes: dict[int, Outcome] = {}
        pending = deque([range(len(prompts))] if prompts else [])
        while pending and not self.broken:
            part = pending.popleft()
            longest = max(prompts[index].tokens for index in part) + self.max_tokens
            rows = self.token_budget.rows(longest)
            at_once = rows * rounds(self.engine)
            if len(part) > at_once:
                pending.extendleft([part[at_once:], part[:at_once]])
                continue
            result = self._attempt(prompts[part.start : part.stop])
            if isinstance(result, Failure) and len(part) > 1:
                half, fewer_rows = len(part) // 2, min(rows, len(part)) // 2
                pending.extendleft([part[half:], part[:half]])
                if result.reason.startswith("out of memory"):
                    self.token_budget.tokens = longest * max(1, fewer_rows)
                    logger.warning(
                        "out of memory with %d prompts; continuing with %d tokens", len(part), self.token_budget.tokens
                    )
                continue
            part_outcomes = [storable(outcome) for outcome in ([result] if isinstance(result, Failure) else result)]
            outcomes |= zip(part, part_outcomes, strict=True)
            self._count_failures(part_outcomes)
        return [outcomes.get(index) for index in range(len(prompts))]

    def load(self) -> None:
        """Prepare the weights for the first batch, if the engine can; another engine may still be working."""
        if load := getattr(self.engine, "load", None):
            load()

    def close(self) -> None:
        """Free the model's memory."""
        self.engine.close()
        self._batches.close()
        self._calls.close()

    def _count_failures(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Failure) and not outcome.prompt_only:
                self._consecutive_failures.append(outcome)
            else:
                self._consecutive_failures.clear()

    def _attempt(self, prompts: Sequence[Prompt]) -> Sequence[Outcome] | Failure:
        """Call the engine once; return a failure of the whole call instead of raising it."""
        timeout = self.timeout * rounds(self.engine)
        engine: Any = self.engine
        if rounds(engine) > 1:
            engine.batch_tokens = self.token_budget.tokens
        call = self._calls.submit(partial(self.engine.generate, prompts))
        if not wait([call], timeout).done:
            logger.warning("no response within %.0f s for %d prompts; reopening the engine", timeout, len(prompts))
            self._calls.close()
            self._calls = _TaskThread()
            self.engine = self._open_engine()
            return Failure(f"timeout: no response within {timeout:g} s (batch_timeout)", True)
        try:
            outcomes: Sequence[Outcome] = list(call.result())
        except BatchTooLargeError as error:
            return Failure(f"out of memory: a prompt of {prompts[0].tokens} tokens does not fit on its own ({error})", False)
        except (TransientError, ConnectionError, TimeoutError) as error:
            return Failure(f"{type(error).__name__}: {error}", True)
        except (ToolkitError, WorkerLostError):
            raise
        except Exception as error:
            return Failure(f"{type(error).__name__}: {error}", False)
        if len(outcomes) != len(prompts):
            return Failure(f"the engine returned {len(outcomes)} responses to {len(prompts)} prompts", False)
        return outcomes


class _TaskThread:
    """A thread that runs tasks in order; a daemon, unlike an executor's, so that a hung engine does not keep the process."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._tasks.put((task, future))
        return future

    def close(self) -> None:
        """End the thread once all its tasks are done."""
        self._tasks.put(None)

    def _run(self) -> None:
        while item := self._tasks.get():
            task, future = item
            try:
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)
