"""What runs inside the two sandboxes: the candidate, and the referee that asks it and runs the tests.

Standard library only, and little of it: a bare interpreter gets this as compiled code, and its imports take longer than most
programs. The candidate answers calls with plain data (numbers, texts, containers) or with handles to objects that stay in its
process, so that no object of its making ever takes part in a comparison, and nothing in its process knows of the tests' end.
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

LARGEST_MESSAGE = 1 << 26


class Gone(BaseException):
    """The other side ended, so that there is no answer."""


class Refused(BaseException):
    """The other side sent what is no message."""


class OutOfMemory(BaseException):
    """The candidate ran out of memory."""


def confine(uid: int, cpu: int, memory: int, file: int, files: int) -> None:
    """Drop root and set the limits, which children cannot raise again; processes are bounded by the uid, so it is our own."""
    import resource  # not there on Windows, where the toolkit reads this file for `dump` and `load` alone

    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    os.umask(0o077)
    for name, value, hard in (
        ("RLIMIT_CPU", cpu, cpu + 1),
        ("RLIMIT_AS", memory, memory),
        ("RLIMIT_FSIZE", file, file),
        ("RLIMIT_NOFILE", files, files),
        ("RLIMIT_NPROC", 1, 1),
        ("RLIMIT_CORE", 0, 0),
    ):
        resource.setrlimit(getattr(resource, name), (value, hard))


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
    if size > LARGEST_MESSAGE:
        raise Refused(f"an answer of {size} bytes")
    message = channel.read(size)
    if len(message) < size:
        raise Gone
    return message


# -- plain data: a line for each value, its kind and its content; a container's says how many values follow ------------
# (Importing json takes as long as all of the interpreter's start.)


def no_handle(value: Any) -> NoReturn:
    """Refuse what is no plain data."""
    raise TypeError(f"a {type(value).__name__} is no plain data")


def dump(value: Any, keep: Callable[[Any], int] = no_handle) -> bytes:
    """Turn a value into plain data; subclasses become what they are made of, anything else a handle that `keep` gives."""
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
    """Turn plain data back into a value; `find` resolves handles.

    Raises:
        Refused: It is nothing that `dump` writes.
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
    """Return the type of a kind; nothing at all where it is a module's that nobody has imported, so that no value is of it."""
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

OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, arguments, named: function(*arguments, **named),
    "get": getattr,
    "set": setattr,
    "item": lambda value, key: value[key],
    "iterate": iter,
    "next": next,
    "length": len,
}


def _name(error: BaseException) -> str:
    """Return the name of the built-in exception that one is or derives from."""
    try:
        found: str = next(t.__name__ for t in type(error).__mro__ if t is getattr(builtins, t.__name__, None))
        return found
    except BaseException:  # a hostile one
        return "error"


def _text(error: BaseException) -> str:
    """Return the type of an exception, and what it says."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException:  # a hostile one
        return ""


def candidate() -> None:
    """Execute the program that the referee sends, then answer its requests until it hangs up."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    program = load(receive(requests))
    names: dict[str, Any] = {"__name__": "candidate", "__builtins__": builtins}
    kept: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    def answer(work: Callable[..., Any], *given: Any) -> None:
        try:
            message = dump({"value": work(*given)}, keep)
        except BaseException as error:
            message = dump({"error": _name(error), "text": _text(error)})
        send(answers, message)

    def run() -> None:
        exec(compile(program, "<candidate>", "exec"), names)

    def work(request: bytes) -> Any:
        do, operands = load(request, kept.__getitem__)
        return names[operands] if do == "global" else OPERATIONS[do](*operands)

    answer(run)
    while True:
        try:
            request = receive(requests)
        except Gone:
            return
        answer(work, request)


# -- the referee -----------------------------------------------------------------------------------------------------


class Candidate:
    """The candidate's process as the referee sees it."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self.requests, self.answers = requests, answers

    def ask(self, request: Any) -> Any:
        """Send one request and return the value; an exception is raised as the built-in one it derives from."""
        try:
            send(self.requests, dump(request, _handle))
        except BrokenPipeError:
            raise Gone from None
        answer = load(receive(self.answers), lambda handle: Remote(self, handle))
        if not isinstance(answer, dict) or not ({"value"} == answer.keys() or {"error", "text"} == answer.keys()):
            raise Refused("no answer to the request")
        if "value" in answer:
            return answer["value"]
        if answer["error"] == "MemoryError":
            raise OutOfMemory
        kind = getattr(builtins, str(answer["error"]), None)
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError | ImportError):
            raise kind(str(answer["text"]))
        raise RuntimeError(str(answer["text"]))

    def do(self, operation: str, *operands: Any) -> Any:
        """Have the candidate's process do one of `OPERATIONS`."""
        return self.ask((operation, operands))


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
    job = load(receive(sys.stdin.buffer))
    other = Candidate(os.fdopen(requests, "wb"), os.fdopen(answers, "rb"))
    try:
        verdict = _judge(job, other)
    except MemoryError:
        verdict = "memory", "its answer does not fit into the limit"
    send(verdicts, dump(verdict))


def _judge(job: dict[str, Any], other: Candidate) -> tuple[str, str]:
    where = "the program"
    try:
        other.ask(job["program"])
        where = "the tests"
        names: dict[str, Any] = {"__name__": "tests"}
        exec(compile(job["setup"], "<setup>", "exec"), names)
        names |= {name: other.ask(("global", name)) for name in job["names"]}
        for statement in _statements(job["tests"]):
            exec(statement, names)
    except Gone:
        return "gone", f"it ended before {where} did"
    except Refused as error:
        return "refused", f"what it answered is no plain data: {error}"[:300]
    except OutOfMemory:
        return "memory", "MemoryError"
    except MemoryError:
        raise
    except BaseException as error:
        return "failed", f"{where}{_line(error)}: {type(error).__name__}: {error}"[:300]
    return "passed", ""


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
    role, *numbers = sys.argv[1:]
    uid, cpu, memory, file, files, *descriptors = map(int, numbers)
    confine(uid, cpu, memory, file, files)
    if role == "candidate":
        candidate()
    else:
        referee(*descriptors)
    os._exit(0)


if __name__ == "__main__":
    main()
