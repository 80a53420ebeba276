"""Calls functions in another process, so that no call can hang this one, end it, or exceed its time.

Functions travel by reference where the other process can import them, else by value (those of a benchmark's Python file, for
example). It does not know what is called.
"""

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import ModuleType
from typing import Any, Literal, NamedTuple

from toolkit.core.text import well_formed

CPU_SECONDS = 30
"""CPU time of one call, which does not include the import of the function's module."""
WALL_SECONDS = 120
"""Seconds after which a call that waits for something is ended."""
MAX_REASON = 500
"""Characters of a reason."""
CALLS_TOGETHER = 64
"""Calls that are sent together: a message for each would take longer than most calls."""

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments."""


class Outcome(NamedTuple):
    """How a call ended.

    Attributes:
        kind: `returned`, `raised` (an exception), `timeout`, or `crashed` (a signal ended the process, or it exited).
        value: What the function returned.
        reason: Why there is no value.
    """

    kind: Literal["returned", "raised", "timeout", "crashed"]
    value: Any = None
    reason: str = ""


def portable(function: Callable[..., Any]) -> bytes:
    """Return a function in the form in which it is sent to the other process.

    Raises:
        TypeError: It refers to something that cannot be sent, such as a lock or an open file.
    """
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(function))
    except Exception as error:
        raise TypeError(f"{type(error).__name__}: {error}") from error


def send_by_value(module: ModuleType) -> None:
    """Let functions of a module travel by value, because the other process cannot import it."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def call_each(calls: Iterable[Call], cpu: float = CPU_SECONDS, wall: float = WALL_SECONDS) -> Iterator[Outcome]:
    """Make calls in the other process, one after the other, and yield how each ended.

    Args:
        calls: Functions and their arguments.
        cpu: CPU time of one call, in seconds; it has no limit on Windows.
        wall: Seconds after which a call is ended in any case.

    Raises:
        TypeError: See `portable`.
    """
    sent: dict[Callable[..., Any], bytes] = {}
    remaining = iter(calls)
    while part := list(islice(remaining, CALLS_TOGETHER)):
        for function, _ in part:
            if function not in sent:
                sent[function] = portable(function)
        yield from _outcomes([(sent[function], arguments) for function, arguments in part], cpu, wall)


_SentCall = tuple[bytes, tuple[Any, ...]]
"""A function as `portable` returns it, and its arguments."""


class _TimeLimit:
    """Kills a process once a call takes too long; one thread watches over many calls.

    Args:
        process: The process that makes the calls.
        wall: Seconds of one call.
    """

    def __init__(self, process: subprocess.Popen[bytes], wall: float) -> None:
        self.exceeded = False
        self._process = process
        self._wall = wall
        self._cancelled = threading.Event()
        self.restart()
        threading.Thread(target=self._kill_if_late, daemon=True).start()

    def restart(self) -> None:
        """Begin the time of the next call."""
        self._deadline = time.monotonic() + self._wall

    def cancel(self) -> None:
        """Kill nothing from now on."""
        self._cancelled.set()

    def _kill_if_late(self) -> None:
        while (seconds := self._deadline - time.monotonic()) > 0:
            if self._cancelled.wait(seconds):
                return
        self.exceeded = True
        self._process.kill()


class _Server:
    """A process that serves calls until its input ends."""

    def __init__(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from toolkit.core.calls import serve; serve()"
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stdin
        assert self.process.stdout
        self.calls, self.outcomes = self.process.stdin, self.process.stdout

    @property
    def usable(self) -> bool:
        """Whether it runs, and belongs to this process rather than to the one that this one was forked from."""
        return self.owner == os.getpid() and self.process.poll() is None

    def call(self, calls: Sequence[_SentCall], cpu: float, wall: float) -> Iterator[Outcome]:
        """Make calls until one of them ends the process, as one does that exceeds its time; yields how each ended."""
        message = pickle.dumps((calls, cpu, os.getcwd()))
        limit = _TimeLimit(self.process, wall)
        try:
            self.calls.write(message)
            self.calls.flush()
            for _ in calls:
                outcome: Outcome = pickle.load(self.outcomes)
                limit.restart()
                yield outcome
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            self.close()
            yield self._ended(cpu, wall, is_late=limit.exceeded)
        except BaseException:
            self.close()
            raise
        finally:
            limit.cancel()

    def _ended(self, cpu: float, wall: float, is_late: bool) -> Outcome:
        code = self.process.returncode
        if code < 0 and -code == getattr(signal, "SIGPROF", None):
            return Outcome("timeout", reason=f"it took more than {cpu} s of CPU time")
        if is_late:
            return Outcome("timeout", reason=f"it took more than {wall} s")
        return Outcome("crashed", reason=f"its process ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")

    def close(self) -> None:
        """End the process."""
        for stream in (self.calls, self.outcomes):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        try:
            self.process.wait(0.2)  # it may be ending by itself, and its exit code says why
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_lock = threading.Lock()
_servers: list[_Server] = []


def _outcomes(calls: Sequence[_SentCall], cpu: float, wall: float) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with _lock:
        while len(outcomes) < len(calls):
            if not (_servers and _servers[0].usable):
                _servers[:] = [_Server()]
            outcomes += _servers[0].call(calls[len(outcomes) :], cpu, wall)
    return outcomes


@atexit.register
def _close() -> None:
    for server in _servers:
        if server.usable:
            server.close()


# -- the other process -----------------------------------------------------------------------------------------------


def serve() -> None:
    """Make the calls that arrive on stdin, and write their outcomes to stdout, until stdin ends."""
    calls, outcomes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a function prints
    functions: dict[bytes, Callable[..., Any]] = {}
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # if memory runs out, this is the process to end
    while True:
        try:
            sent, cpu, folder = pickle.load(calls)
        except EOFError:
            os._exit(0)
        os.chdir(folder)  # the caller may have moved since this process began, and that folder may be gone
        for code, arguments in sent:
            pickle.dump(_outcome(functions, code, arguments, cpu), outcomes)
            outcomes.flush()


def _outcome(functions: dict[bytes, Callable[..., Any]], code: bytes, arguments: tuple[Any, ...], cpu: float) -> Outcome:
    try:
        if code not in functions:
            functions[code] = pickle.loads(code)
        _limit_cpu_time(cpu)
        value = functions[code](*arguments)
        pickle.dumps(value)
        _limit_cpu_time(0)
        return Outcome("returned", value)
    except BaseException as error:
        _limit_cpu_time(0)
        try:
            return Outcome("raised", reason=well_formed(f"{type(error).__name__}: {error}"[:MAX_REASON]))
        except BaseException:  # of an exception without a text
            return Outcome("raised", reason="an exception that cannot be described")


def _limit_cpu_time(seconds: float) -> None:
    """Let the kernel end this process by SIGPROF when the call has taken its CPU time, 0 for never; not on Windows."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
