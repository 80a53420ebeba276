"""Runs inside the two sandboxes: the candidate, and the referee that sends it requests and runs the tests.

Uses little of the standard library and nothing else: a bare interpreter receives this file as compiled code, and imports take
longer than most programs. The candidate replies with plain data (numbers, texts, containers) or with handles to objects that
stay in its process. So none of its objects takes part in a comparison, and nothing in its process knows when the tests end.
"""

from __future__ import annotations

import _ast
import builtins
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, NoReturn

    from toolkit.tasks.sandbox.confine import confine

MAX_MESSAGE_BYTES = 1 << 26


class Gone(BaseException):
    """The other process has ended and does not reply."""


class Refused(BaseException):
    """The other process sent something that is not a message."""


class Exited(BaseException):
    """The candidate raised something that is no `Exception`, such as `SystemExit`."""


class OutOfMemory(BaseException):
    """The candidate ran out of memory."""


def send(channel: BinaryIO, message: bytes) -> None:
    """Write one message."""
    channel.write(len(message).to_bytes(8, "big") + message)
    channel.flush()


def receive(channel: BinaryIO) -> bytes:
    """Read one message.

    Raises:
        Gone: The channel has ended.
        Refused: It is too long.
    """
    head = channel.read(8)
    if len(head) < 8:
        raise Gone
    size = int.from_bytes(head, "big")
    if size > MAX_MESSAGE_BYTES:
        raise Refused(f"a message of {size} bytes")
    message = channel.read(size)
    if len(message) < size:
        raise Gone
    return message


# -- plain data: one line per value, with its type and content; that of a container has the number of values that follow --
# (Importing json takes as long as starting the interpreter.)


def no_handle(value: Any) -> NoReturn:
    """Refuse a value that is not plain data."""
    raise TypeError(f"a {type(value).__name__} is not plain data")


def dump(value: Any, keep: Callable[[Any], int] = no_handle) -> bytes:
    """Serialise a value as plain data: subclasses as their base type, anything else as a handle that `keep` returns."""
    lines: list[str] = []
    _write(value, keep, lines.append)
    return "\n".join(lines).encode()


def _write(value: Any, keep: Callable[[Any], int], put: Callable[[str], None]) -> None:
    if value is None or isinstance(value, bool):
        return put(str(value))
    for kind, write in _WRITTEN.items():
        if isinstance(value, _type(kind)):
            return put(f"{kind} {write(value)}")
    for kind in _CONTAINERS:
        if isinstance(value, of := _type(kind)):
            put(f"{kind} {of.__len__(value)}")
            for part in of.__iter__(value):
                _write(part, keep, put)
            return None
    if isinstance(value, dict):
        put(f"dict {dict.__len__(value)}")
        for pair in dict.items(value):
            for part in pair:
                _write(part, keep, put)
        return None
    return put(f"object {keep(value)}")


def load(data: bytes, find: Callable[[int], Any] = no_handle) -> Any:
    """Deserialise plain data; `find` resolves handles.

    Raises:
        Refused: `dump` does not write such data.
    """
    lines = iter(data.split(b"\n"))
    try:
        value = _read(lines, find)
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError, StopIteration) as error:
        raise Refused(f"{type(error).__name__}: {error}") from None
    if next(lines, None) is not None:
        raise Refused("there is more than one value")
    return value


def _read(lines: Iterator[bytes], find: Callable[[int], Any]) -> Any:
    kind, _, text = next(lines).decode("ascii").partition(" ")
    if kind == "dict":
        return {_read(lines, find): _read(lines, find) for _ in range(int(text))}
    if kind in _CONTAINERS:
        parts = [_read(lines, find) for _ in range(int(text))]
        return _type(kind, needed=True)(parts)
    return find(int(text)) if kind == "object" else _READ[kind](text)


def _type(kind: str, needed: bool = False) -> Any:
    """Return the type of a kind; an empty tuple if its module has not been imported, because then no value has that type."""
    module, name = _ELSEWHERE.get(kind, ("builtins", kind))
    if needed:
        __import__(module)
    return getattr(sys.modules.get(module), name, ())


def _ints(text: str) -> Iterator[int]:
    return (int(part, 16) for part in text.split())


_ELSEWHERE = {"deque": ("collections", "deque"), "fraction": ("fractions", "Fraction")}
_CONTAINERS = ("list", "tuple", "set", "frozenset", "deque")
_WRITTEN: dict[str, Callable[[Any], str]] = {
    "str": lambda value: str.encode(value, "unicode_escape").decode(),
    "int": lambda value: int.__format__(value, "x"),
    "float": float.hex,
    "complex": lambda value: " ".join(complex.__getattribute__(value, part).hex() for part in ("real", "imag")),
    "fraction": lambda value: f"{value.numerator:x} {value.denominator:x}",
    "bytes": lambda value: bytes(value).hex(),
    "bytearray": lambda value: bytes(value).hex(),
    "range": lambda value: f"{value.start:x} {value.stop:x} {value.step:x}",
}
_READ: dict[str, Callable[[str], Any]] = {
    "None": lambda _: None,
    "True": lambda _: True,
    "False": lambda _: False,
    "str": lambda text: text.encode().decode("unicode_escape"),
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda text: complex(*map(float.fromhex, text.split())),
    "fraction": lambda text: _type("fraction", needed=True)(*_ints(text)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda text: range(*_ints(text)),
}


# -- the candidate ---------------------------------------------------------------------------------------------------


def _next(iterator: Iterator[Any]) -> list[Any]:
    """Return the next value in a list, which is empty at the end."""
    try:
        return [next(iterator)]
    except StopIteration:
        return []


OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, arguments, named: function(*arguments, **named),
    "get": getattr,
    "set": setattr,
    "item": lambda value, key: value[key],
    "iterate": iter,
    "next": _next,
    "length": len,
}


def _name(error: BaseException) -> str:
    """Return the name of the built-in exception that an exception is or derives from."""
    try:
        return str(next(t.__name__ for t in type(error).__mro__ if t is getattr(builtins, t.__name__, None)))
    except BaseException:  # a hostile one
        return "error"


def _text(error: BaseException) -> str:
    """Return the type and the message of an exception."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # a hostile one
        return ""


def candidate() -> None:
    """Execute the program that the referee sends, then reply to its requests until it hangs up."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    program = load(receive(requests))
    names: dict[str, Any] = {"__name__": "candidate", "__builtins__": builtins}
    objects: list[Any] = []

    def keep(value: Any) -> int:
        objects.append(value)
        return len(objects) - 1

    def reply(work: Callable[..., Any], *arguments: Any) -> None:
        try:
            message = dump({"value": work(*arguments)}, keep)
        except BaseException as error:
            message = dump({"error": _name(error), "text": _text(error)})
        send(replies, message)

    def run() -> None:
        exec(compile(program, "<candidate>", "exec"), names)

    def work(request: bytes) -> Any:
        operation, operands = load(request, objects.__getitem__)
        return names[operands] if operation == "global" else OPERATIONS[operation](*operands)

    reply(run)
    while True:
        try:
            request = receive(requests)
        except Gone:
            return
        reply(work, request)


# -- the referee -----------------------------------------------------------------------------------------------------


class Candidate:
    """The candidate's process as the referee sees it."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self.requests, self.replies = requests, replies
        self.ending: BaseException | None = None

    def ask(self, request: Any) -> Any:
        """Send one request and return the value; an exception is raised as the built-in exception that it derives from.

        What ends iterations silently (`StopIteration`) is raised as a `RuntimeError`. What is no `Exception` (`SystemExit`)
        ends the run, as does a process that has gone or replies with something else, even if the tests catch it.
        """
        message = dump(request, _handle)
        if self.ending:
            raise self.ending
        try:
            reply = self._reply(message)
        except BaseException as error:
            self.ending = error
            raise
        if "value" in reply:
            return reply["value"]
        kind, text = getattr(builtins, str(reply["error"]), RuntimeError), str(reply["text"])
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            self.ending = Exited(text)
            raise self.ending
        if issubclass(kind, UnicodeError | ImportError | StopIteration | StopAsyncIteration | BaseExceptionGroup):
            raise RuntimeError(text)
        raise kind(text)

    def _reply(self, message: bytes) -> dict[str, Any]:
        try:
            send(self.requests, message)
        except BrokenPipeError:
            raise Gone from None
        reply = load(receive(self.replies), lambda handle: Remote(self, handle))
        if not isinstance(reply, dict) or not ({"value"} == reply.keys() or {"error", "text"} == reply.keys()):
            raise Refused("not a reply to the request")
        if reply.get("error") == "MemoryError":
            raise OutOfMemory
        return reply

    def do(self, operation: str, *operands: Any) -> Any:
        """Let the candidate's process perform one of `OPERATIONS`."""
        return self.ask((operation, operands))


def _handle(value: Any) -> int:
    if isinstance(value, Remote):
        return int(object.__getattribute__(value, "_handle"))
    raise TypeError(f"the tests pass a {type(value).__name__}, which is not plain data")


class Remote:
    """An object that stays in the candidate's process: it can be called and inspected, and equals only itself."""

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
        while values := self._owner.do("next", iterator):
            yield values[0]


def referee(requests: int, replies: int) -> None:
    """Send the candidate its program, run the tests on it, and write the verdict to stdout, which only this process has."""
    verdicts = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    job = load(receive(sys.stdin.buffer))
    candidate = Candidate(os.fdopen(requests, "wb"), os.fdopen(replies, "rb"))
    try:
        verdict = _judge(job, candidate)
    except MemoryError:
        verdict = "memory", "its reply exceeds the limit"
    send(verdicts, dump(verdict))


def _judge(job: dict[str, Any], candidate: Candidate) -> tuple[str, str]:
    where = "the program"
    try:
        candidate.ask(job["program"])
        where = "the tests"
        names: dict[str, Any] = {"__name__": "tests"}
        exec(compile(job["setup"], "<setup>", "exec"), names)
        names |= {name: candidate.ask(("global", name)) for name in job["names"]}
        for statement in _statements(job["tests"]):
            exec(statement, names)
            if candidate.ending:
                raise candidate.ending
    except Gone:
        return "gone", f"it ended before {where} did"
    except Refused as error:
        return "refused", f"its reply is not plain data: {error}"[:300]
    except OutOfMemory:
        return "memory", "MemoryError"
    except Exited as error:
        return "failed", f"{where}: {error}"[:300]
    except MemoryError:
        raise
    except BaseException as error:
        return "failed", f"{where}{_line(error)}: {type(error).__name__}: {error}"[:300]
    return "passed", ""


def _statements(tests: str) -> Iterator[Any]:
    """Compile the tests statement by statement, so that those before a failure are executed."""
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
    """Confine this process, then run the role that the arguments name."""
    role, *numbers = sys.argv[1:]
    uid, cpu, memory, file, files, scratch_files, *descriptors = map(int, numbers)
    confine(uid, cpu, memory, file, files, scratch_files)
    if role == "candidate":
        candidate()
    else:
        referee(*descriptors)
    os._exit(0)


if __name__ == "__main__":
    main()
