"""An engine under guard: whatever it does, every prompt comes back with an answer, a reason, or untried.

Batches that do not fit into memory are halved, for good. A batch that raises or hangs is halved until the culprit stands
alone, so that one bad prompt costs no other its answer. Batches can be handed in ahead: the engine goes on while others are
scored and committed. Knows nothing of nodes or caches.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from toolkit.core.errors import ToolkitError
from toolkit.engines import BatchTooLargeError, Completion, Engine, Failure, LostError, Prompt, TransientError

FAILURES_IN_A_ROW = 8
"""So many prompts failing alone, one after the other, mean that the engine is broken and not the prompts."""

PREFETCH_BATCHES = 2
"""Batches that are handed in at a time: one at work, one behind it."""

Answers = Sequence[Completion | Failure]

logger = logging.getLogger("toolkit")


@dataclass
class TokenBudget:
    """Tokens of a batch, prompts and answers, padding included; halves where memory does not suffice, and stays there."""

    tokens: int

    def rows(self, longest: int) -> int:
        """Return how many rows of at most `longest` tokens make a batch."""
        return max(1, self.tokens // longest)


class BatchResult(NamedTuple):
    """What became of a batch.

    Attributes:
        outcomes: In the order of the prompts; None where there was no try.
        seconds: That they took.
        label: Of the engine that answered.
    """

    outcomes: Sequence[Completion | Failure | None]
    seconds: float
    label: str


class BatchRunner(Protocol):
    """Who answers the batches of one hop with one model."""

    @property
    def engine(self) -> Engine:
        """An engine that renders and counts."""
        ...

    @property
    def ahead(self) -> int:
        """Batches worth handing in at a time."""
        ...

    @property
    def broken(self) -> str:
        """Why no further batch is answered; empty while they are."""
        ...

    def submit(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> Future[BatchResult]:
        """Hand in prompts, longest first, to be answered if they are still wanted by the time it is their turn."""
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...


OpenRunner = Callable[[Callable[[], Engine], int, TokenBudget, float], BatchRunner]
"""Opens an runner by the arguments of `Guard`, which is one."""


class Guard:
    """One resident model that can be asked anything.

    Args:
        open_engine: Opens the engine, and again after it hung.
        max_tokens: Longest answer, in tokens.
        token_budget: Tokens of a batch; shared by all models of a run.
        timeout: Longest time a batch may take, in seconds.
    """

    def __init__(self, open_engine: Callable[[], Engine], max_tokens: int, token_budget: TokenBudget, timeout: float) -> None:
        self._open = open_engine
        self.engine = open_engine()
        self.max_tokens = max_tokens
        self.token_budget = token_budget
        self.timeout = timeout
        self.ahead = PREFETCH_BATCHES
        self._failures: deque[str] = deque(maxlen=FAILURES_IN_A_ROW)
        self._worker: _Worker | None = None
        self._line = _Worker()

    @property
    def broken(self) -> str:
        """Why the engine is not asked any more, once it has failed so often."""
        in_a_row = len(self._failures)
        return f"{in_a_row} prompts in a row, the last with: {self._failures[-1]}" if in_a_row == FAILURES_IN_A_ROW else ""

    def submit(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> Future[BatchResult]:
        """Hand in prompts, longest first, to be answered after those handed in before, if they are still wanted by then."""

        def answer() -> BatchResult:
            started = time.monotonic()
            outcomes = self.generate(prompts) if wanted() else [None] * len(prompts)
            return BatchResult(outcomes, time.monotonic() - started, self.engine.label)

        return self._line.submit(answer)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion | Failure | None]:
        """Answer prompts, longest first; None for those that were not tried because the engine is broken.

        Raises:
            ToolkitError: The engine cannot run at all, e.g. its weights cannot be loaded.
            LostError: What runs it is gone.
        """
        outcomes: dict[int, Completion | Failure] = {}
        todo = deque([list(range(len(prompts)))])
        while todo and not self.broken:
            part = todo.popleft()
            longest = prompts[part[0]].tokens + self.max_tokens if part else 0
            if part and len(part) > (rows := self.token_budget.rows(longest)):
                todo.extendleft([part[rows:], part[:rows]])
                continue
            answered = self._try([prompts[n] for n in part])
            if not isinstance(answered, Failure):
                outcomes |= zip(part, answered, strict=True)
                self._count(answered)
            elif len(part) == 1:
                outcomes[part[0]] = answered
                self._count([answered])
            else:
                half = len(part) // 2
                if answered.reason.startswith("out of memory"):
                    self.token_budget.tokens = longest * half
                    logger.warning(
                        "out of memory with %d prompts; going on with %d tokens", len(part), self.token_budget.tokens
                    )
                todo.extendleft([part[half:], part[:half]])
        return [outcomes.get(n) for n in range(len(prompts))]

    def close(self) -> None:
        """Free the model's memory."""
        self.engine.close()
        self._line.close()
        if self._worker:
            self._worker.close()

    def _count(self, answered: Answers) -> None:
        for outcome in answered:
            if isinstance(outcome, Failure):
                self._failures.append(outcome.reason)
            else:
                self._failures.clear()

    def _try(self, prompts: Sequence[Prompt]) -> Answers | Failure:
        self._worker = self._worker or _Worker()
        try:
            called = self._worker.submit(lambda: self.engine.generate(prompts))
            if not wait([called], self.timeout).done:
                self._worker.close()
                raise _HungError
            completions: Answers = called.result()
        except BatchTooLargeError as error:
            return Failure(f"out of memory: a prompt of {prompts[0].tokens} tokens does not fit, alone ({error})", False)
        except _HungError:
            logger.warning("no answer within %.0f s for %d prompts; opening the engine anew", self.timeout, len(prompts))
            self._worker, self.engine = None, self._open()
            return Failure(f"timeout: no answer within {self.timeout:g} s (batch_timeout)", True)
        except (TransientError, ConnectionError, TimeoutError) as error:
            return Failure(f"{type(error).__name__}: {error}", True)
        except (ToolkitError, LostError):
            raise
        except Exception as error:
            return Failure(f"{type(error).__name__}: {error}", False)
        if len(completions) != len(prompts):
            return Failure(f"the engine gave {len(completions)} answers to {len(prompts)} prompts", False)
        return completions


class _HungError(Exception):
    """A call did not come back in time."""


class _Worker:
    """One thread that does tasks in order; a daemon, so that an engine which never comes back does not keep the process."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def submit(self, task: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        self._tasks.put((task, done))
        return done

    def close(self) -> None:
        """End, once all tasks are done."""
        self._tasks.put(None)

    def _serve(self) -> None:
        while item := self._tasks.get():
            task, done = item
            try:
                done.set_result(task())
            except BaseException as error:
                done.set_exception(error)
