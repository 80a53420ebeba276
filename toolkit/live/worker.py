"""The thread that routes the questions of many clients: all that wait join in between two hops, and go on side by side."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from toolkit.core.errors import NoResponseError, ToolkitError
from toolkit.live.pool import LivePool
from toolkit.routing.route import Hop, Ongoing, Route, advance
from toolkit.routing.router import Router

MAX_ONGOING = 64
"""Questions that are routed side by side."""

logger = logging.getLogger("toolkit")

Report = Callable[[Hop | Route | Exception], object]
"""Is told of every hop of a question, and then of its route or of why it has none; called in the thread of the worker."""


class QueueFullError(Exception):
    """As many questions wait as may."""


class Job:
    """A question of a client's.

    Attributes:
        question: The question on its way.
        cancelled: Whether nobody waits for it any more, so that it takes no further hop.
    """

    def __init__(self, question: str, report: Report) -> None:
        self.question = Ongoing(question, report)
        self.cancelled = False
        self._report = report

    def end(self, result: Route | Exception) -> None:
        """Report the result."""
        self._report(result)


class Worker:
    """Routes questions in a thread of its own, in which all work on the models and the cache happens.

    Args:
        router: The router.
        pool: The models; closed with the worker.
        alpha: The alpha that a conditioned router observes; None for its run's.
        limit: Questions that may wait.
    """

    def __init__(self, router: Router, pool: LivePool, alpha: float | None = None, limit: int = 256) -> None:
        self._router = router
        self._pool = pool
        self._alpha = alpha
        self._limit = limit
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._ongoing: list[Job] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="routing", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> dict[str, int]:
        """How many questions wait, and how many are on their way."""
        return {"waiting": len(self._waiting), "ongoing": len(self._ongoing)}

    def submit(self, question: str, report: Report) -> Job:
        """Queue a question.

        Raises:
            QueueFullError: As many wait as may, or the worker is closed.
        """
        job = Job(question, report)
        with self._changed:
            if self._closing or len(self._waiting) >= self._limit:
                raise QueueFullError
            self._waiting.append(job)
            self._changed.notify()
        return job

    def close(self, wait: float) -> None:
        """End the thread after the hop that it is at, which is committed; wait at most `wait` seconds for that."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(wait)

    def _run(self) -> None:
        try:
            while self._admit():
                self._advance(self._ongoing)
        finally:
            for job in (*self._ongoing, *self._waiting):
                job.end(NoResponseError("The server is shutting down.", transient=True))
            self._pool.close()

    def _admit(self) -> bool:
        """Wait until there is something to do, and let waiting questions join; return whether to go on."""
        with self._changed:
            self._ongoing = [job for job in self._ongoing if job.question.result is None and not job.cancelled]
            while not self._closing:
                while self._waiting and len(self._ongoing) < MAX_ONGOING:
                    if not (job := self._waiting.popleft()).cancelled:
                        self._ongoing.append(job)
                if self._ongoing:
                    break
                self._changed.wait()
            return not self._closing

    def _advance(self, jobs: Sequence[Job]) -> None:
        """Take a hop of some questions; report those that end."""
        try:
            advance(self._router, [job.question for job in jobs], self._pool, self._alpha)
        except ToolkitError as error:
            self._fail(jobs, error)
        except Exception as error:
            unfinished = [job for job in jobs if job.question.result is None]
            if len(jobs) == 1 or len(unfinished) < len(jobs):
                logger.exception("a question cannot be routed")
                self._fail(unfinished, error)
            else:  # one of them may be the cause
                for job in jobs:
                    self._advance([job])
                return
        for job in jobs:
            if job.question.result is not None:
                job.end(job.question.result)

    @staticmethod
    def _fail(jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            if job.question.result is None:
                job.question.result = error
