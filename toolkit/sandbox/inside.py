"""What runs inside the two sandboxes: the candidate, and the referee that asks it and runs the tests.

Standard library only, and little of it: a bare interpreter gets this as compiled code, and its imports take longer than most
programs. The candidate answers calls with plain data (numbers, texts, containers) or with handles to objects that stay in its
process, so that no object of its making ever takes part in a comparison, and nothing in its process knows of the tests' end.
"""

from __future__ import annotations

import _ast
import builtins
import collections
import json
import os
import resource
import sys
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, NoReturn

LARGEST_MESSAGE = 1 << 26


class Gone(BaseException):
    """The other side ended, so that there is no answer."""


class Refused(BaseException):
    """The other side sent what is no message."""


class OutOfMemory(BaseException):
    """The candidate ran out of memory."""


def confine(limits: dict[str, int]) -> None:
    """Drop root and set the limits, which children cannot raise again; processes are bounded by the uid, so it is our own."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(limits["uid"], limits["uid"], limits["uid"])
        os.setresuid(limits["uid"], limits["uid"], limits["uid"])
    os.umask(0o077)
    for name, value, hard in (
        ("RLIMIT_CPU", limits["cpu"], limits["cpu"] + 1),
        ("RLIMIT_AS", limits["memory"], limits["memory"]),
        ("RLIMIT_FSIZE", limits["file"], limits["file"]),
        ("RLIMIT_NOFILE", limits["files"], limits["files"]),
        ("RLIMIT_NPROC", limits["processes"], limits["processes"]),
        ("RLIMIT_CORE", 0, 0),
    ):
        resource.setrlimit(getattr(resource, name), (value, hard))


def send(channel: BinaryIO, message: object) -> None:
    """Write one message."""
    data = json.dumps(message).encode()
    channel.write(len(data).to_bytes(8, "big") + data)
    channel.flush()


def receive(channel: BinaryIO) -> Any:
    """Read one message.

    Raises:
        Gone: The channel has ended.
        Refused: It is too long, or no message.
    """
    head = channel.read(8)
    if len(head) < 8:
        raise Gone
    size = int.from_bytes(head, "big")
    if size > LARGEST_MESSAGE:
        raise Refused(f"an answer of {size} bytes")
    data = channel.read(size)
    if len(data) < size:
        raise Gone
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refused(str(error)) from None


def pack(value: Any, keep: Callable[[Any], int]) -> Any:
    """Turn a value into plain data; subclasses become what they are made of, anything else a handle."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return {"int": int.__format__(value, "x")}
    if isinstance(value, float):
        return {"float": float.hex(value)}
    if isinstance(value, complex):
        return {"complex": [complex.__getattribute__(value, part).hex() for part in ("real", "imag")]}
    if "fractions" in sys.modules and isinstance(value, sys.modules["fractions"].Fraction):
        return {"fraction": [f"{value.numerator:x}", f"{value.denominator:x}"]}
    if isinstance(value, bytes | bytearray):
        return {"bytearray" if isinstance(value, bytearray) else "bytes": bytes(value).hex()}
    if isinstance(value, range):
        return {"range": [f"{part:x}" for part in (value.start, value.stop, value.step)]}
    for name, kind in _CONTAINERS.items():
        if isinstance(value, kind):
            return {name: [pack(part, keep) for part in kind.__iter__(value)]}
    if isinstance(value, dict):
        return {"dict": [[pack(key, keep), pack(part, keep)] for key, part in dict.items(value)]}
    return {"object": keep(value)}


def unpack(data: Any, find: Callable[[int], Any]) -> Any:
    """Turn plain data back into a value; `find` resolves handles.

    Raises:
        Refused: It is nothing that `pack` writes.
    """
    if data is None or isinstance(data, bool | str):
        return data
    try:
        ((kind, inner),) = data.items()
        if kind == "dict":
            return {unpack(key, find): unpack(value, find) for key, value in inner}
        if kind in _CONTAINERS:
            return _CONTAINERS[kind](unpack(part, find) for part in inner)
        return find(inner) if kind == "object" else _ATOMS[kind](inner)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Refused(f"{type(error).__name__}: {error}") from None


_CONTAINERS: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
}
_ATOMS: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda parts: complex(*map(float.fromhex, parts)),
    "fraction": lambda parts: __import__("fractions").Fraction(*(int(part, 16) for part in parts)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda parts: range(*(int(part, 16) for part in parts)),
}


# -- the candidate ---------------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, arguments, named: function(*arguments, **named),
    "get": getattr,
    "set": setattr,
    "item": lambda value, key: value[key],
    "iterate": iter,
    "next": next,
    "length": len,
}


def candidate() -> None:
    """Execute the program that the referee sends, then answer its requests until it hangs up."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    program = receive(requests)
    names: dict[str, Any] = {"__name__": "candidate", "__builtins__": builtins}
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    def answer(work: Callable[[], Any]) -> None:
        try:
            message = {"value": pack(work(), keep)}
        except BaseException as error:
            message = {"error": "error", "text": ""}
            try:
                message["error"] = next(t.__name__ for t in type(error).__mro__ if t is getattr(builtins, t.__name__, None))
                message["text"] = f"{type(error).__name__}: {error}"[:300]
            except BaseException:  # what cannot even be named or told stays without it
                pass
        send(answers, message)

    def run() -> None:
        exec(compile(program, "<candidate>", "exec"), names)

    def work(do: str, operands: Any = None, name: str = "") -> Any:
        return names[name] if do == "global" else OPERATIONS[do](*unpack(operands, kept.__getitem__))

    answer(run)
    while True:
        try:
            request = receive(requests)
        except Gone:
            return
        answer(partial(work, **request))


# -- the referee -----------------------------------------------------------------------------------------------------


class Candidate:
    """The candidate's process as the referee sees it."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self.requests, self.answers = requests, answers

    def ask(self, request: Any) -> Any:
        """Send one request and return the value; an exception is raised as the built-in one it derives from."""
        try:
            send(self.requests, request)
        except BrokenPipeError:
            raise Gone from None
        answer = receive(self.answers)
        if not isinstance(answer, dict) or not ({"value"} == answer.keys() or {"error", "text"} == answer.keys()):
            raise Refused("no answer to the request")
        if "value" in answer:
            return unpack(answer["value"], lambda handle: Remote(self, handle))
        if answer["error"] == "MemoryError":
            raise OutOfMemory
        kind = getattr(builtins, str(answer["error"]), None)
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError | ImportError):
            raise kind(str(answer["text"]))
        raise RuntimeError(str(answer["text"]))

    def do(self, operation: str, *operands: Any) -> Any:
        """Have the candidate's process do one of `OPERATIONS`."""
        return self.ask({"do": operation, "operands": pack(operands, _handle)})


def _handle(value: Any) -> int:
    if isinstance(value, Remote):
        return int(object.__getattribute__(value, "_handle"))
    raise TypeError(f"the tests pass a {type(value).__name__}, which is no plain data")


class Remote:
    """An object of the candidate that stays in its process: it can be called and looked into, and equals only itself."""

    def __init__(self, owner: Candidate, handle: int) -> None:
        object.__setattr__(self, "_owner", owner)
        object.__setattr__(self, "_handle", handle)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it in its process."""
        return self._owner.do("call", self, arguments, named)

    def __getattr__(self, name: str) -> Any:
        return self._owner.do("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._owner.do("set", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._owner.do("item", self, key)

    def __len__(self) -> int:
        return int(self._owner.do("length", self))

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        iterator = self._owner.do("iterate", self)
        while True:
            try:
                yield self._owner.do("next", iterator)
            except StopIteration:
                return


def referee(requests: int, answers: int) -> None:
    """Send the candidate its program, run the tests against it, and write the verdict to stdout, which is ours alone."""
    verdicts = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    job = receive(sys.stdin.buffer)
    other = Candidate(os.fdopen(requests, "wb"), os.fdopen(answers, "rb"))
    try:
        send(verdicts, {"verdict": "passed", "reason": ""} | (_judge(job, other) or {}))
    except MemoryError:
        send(verdicts, {"verdict": "memory", "reason": "its answer does not fit into the limit"})


def _judge(job: dict[str, Any], other: Candidate) -> dict[str, str] | None:
    where = "the program"
    try:
        other.ask(job["program"])
        where = "the tests"
        names: dict[str, Any] = {"__name__": "tests"}
        exec(compile(job["setup"], "<setup>", "exec"), names)
        names |= {name: other.ask({"do": "global", "name": name}) for name in job["names"]}
        for statement in _statements(job["tests"]):
            exec(statement, names)
    except Gone:
        return {"verdict": "gone", "reason": f"it ended before {where} did"}
    except Refused as error:
        return {"verdict": "refused", "reason": f"what it answered is no plain data: {error}"[:300]}
    except OutOfMemory:
        return {"verdict": "memory", "reason": "MemoryError"}
    except MemoryError:
        raise
    except BaseException as error:
        line = _line(error)
        return {"verdict": "failed", "reason": f"{where}{line}: {type(error).__name__}: {error}"[:300]}
    return None


def _statements(tests: str) -> Iterator[Any]:
    """Compile the tests statement by statement, so that a failure can be told from the ones before."""
    tree: Any = compile(tests, "<tests>", "exec", _ast.PyCF_ONLY_AST)
    for statement in tree.body:
        yield compile(_ast.Module([statement], []), "<tests>", "exec")


def _line(error: BaseException) -> str:
    traces = [error.__traceback__] if error.__traceback__ else []
    while traces and traces[-1].tb_next:
        traces.append(traces[-1].tb_next)
    lines = [trace.tb_lineno for trace in traces if trace.tb_frame.f_code.co_filename == "<tests>"]
    return f", line {lines[-1]}" if lines else ""


def main() -> NoReturn:
    """Confine this process, then play the role that the arguments name."""
    role, limits, *descriptors = sys.argv[1:]
    confine(json.loads(limits))
    if role == "candidate":
        candidate()
    else:
        referee(*map(int, descriptors))
    os._exit(0)


if __name__ == "__main__":
    main()
