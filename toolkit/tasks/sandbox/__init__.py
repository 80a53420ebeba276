"""Runs model-written code against tests, isolated from everything else.

A run has two processes: the candidate executes the program, and the referee, which alone can write the verdict, runs the tests
and asks the candidate for the value of each call. With bubblewrap each has a sandbox of its own: no network, no files except
the interpreter's and an empty temporary folder, no environment, its own process and IPC namespaces. It does not know
benchmarks.
"""

import contextlib
import itertools
import json
import marshal
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from toolkit.core.cpus import available_cpus
from toolkit.core.errors import SandboxError
from toolkit.core.text import well_formed
from toolkit.tasks.sandbox.inside import Refused, dump, load

Process = subprocess.Popen[bytes]
Mode = Literal["off", "bubblewrap", "process"]
Word = Literal["passed", "failed", "timeout", "memory", "crashed", "refused"]

INSIDE = "import marshal, sys\nfor code in marshal.loads(bytes.fromhex(sys.argv.pop(1))): exec(code)"
"""Code for the interpreter in a sandbox: run compiled code, because compiling takes as long as starting the interpreter."""
MAX_VERDICT_BYTES = 1 << 16
FIRST_UID = 1 << 30
"""Under root, each process runs as a user of its own, numbered from here, so that limits and signals affect no other."""


@dataclass(frozen=True)
class Limits:
    """What each of the two processes of a run may use.

    Attributes:
        cpu: Seconds of CPU time, which end an endless loop however busy the machine is.
        wall: Seconds after which a run that waits for something is ended.
        memory: Bytes of address space.
        scratch: Size of the temporary folder, in bytes.
        file: Size of one file, in bytes.
        files: Number of open files.
        scratch_files: Number of files in the temporary folder.
    """

    cpu: int = 10
    wall: int = 120
    memory: int = 1 << 30
    scratch: int = 1 << 25
    file: int = 1 << 24
    files: int = 64
    scratch_files: int = 1024


class Checks(NamedTuple):
    """The tests that a program must pass.

    Attributes:
        code: Python statements that raise an exception if the program is wrong.
        names: Functions and classes of the program that the tests use.
        setup: Trusted code that runs before the tests, such as imports and helper functions.
    """

    code: str
    names: tuple[str, ...]
    setup: str = ""


class Verdict(NamedTuple):
    """How a run ended, and why.

    `passed`, `failed` (a test or the program itself raised an exception), `timeout`, `memory`, `crashed` (the process ended
    before the tests did), or `refused` (the program returned something that is not plain data).
    """

    word: Word
    reason: str = ""


def check(mode: Mode) -> None:
    """Check that programs can be run in a mode.

    Raises:
        SandboxError: Running code is off, or bubblewrap is missing or cannot create a sandbox here.
    """
    if mode == "off":
        raise SandboxError(
            "This suite scores responses by running them, and running model-written code is off: it can do whatever you can. "
            'To allow it in a sandbox, write  sandbox = "bubblewrap"  under [code] in the suite, or use --sandbox bubblewrap.'
        )
    if not sys.platform.startswith("linux"):
        raise SandboxError(
            "Model-written code runs on Linux only, because limits and namespaces are those of its kernel. Use a Linux machine."
        )
    if mode == "bubblewrap" and (reason := _no_bubblewrap()):
        raise SandboxError(
            f"Model-written code cannot be isolated here: {reason}. Install bubblewrap (apt-get install bubblewrap). If "
            'such code can reach nothing of value, you may instead write  sandbox = "process"  under [code]: that sets limits, '
            "but gives the code access to your files and processes, with which it can also change its verdict."
        )
    if mode == "process" and os.getuid() == 0 and (private_folder := _private_folder()):
        raise SandboxError(
            f'sandbox = "process" drops root, and then cannot read the interpreter: {private_folder} is private. '
            "Use bubblewrap, another user, or an interpreter outside that folder."
        )


def _private_folder() -> Path | None:
    """Return the folder that keeps other users from reading the interpreter, if there is one."""
    home = Path(os.path.realpath(sys.base_prefix))
    return next((folder for folder in [home, *home.parents] if not folder.stat().st_mode & 0o001), None)


@cache
def _no_bubblewrap() -> str | None:
    if not shutil.which("bwrap"):
        return "there is no bwrap"
    with _running([*_bubblewrap(Limits()), *_python(), "pass"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as trial:
        message = trial.communicate()[1].decode(errors="replace").strip()
    return f"bwrap cannot create a sandbox ({message or f'exit code {trial.returncode}'})" if trial.returncode else None


def run(program: str, tests: Checks, mode: Mode, limits: Limits = Limits()) -> Verdict:
    """Run a program's tests and return the verdict, after every process of the run has ended.

    Raises:
        SandboxError: See `check`.
    """
    check(mode)
    job = dump({"program": program, "setup": tests.setup, "names": tests.names, "tests": tests.code})
    with tempfile.TemporaryDirectory(prefix="toolkit-") as empty_folder:
        os.chmod(empty_folder, 0o777)
        requests, replies = _Pipe(), _Pipe()
        verdicts, verdict_writer = socket.socketpair()  # not a pipe: nobody can open it through /proc
        started = time.monotonic()
        with (
            requests,
            replies,
            verdicts,
            verdict_writer,
            _running(
                _command(mode, limits, "candidate"),
                cwd=empty_folder,
                stdin=requests.reader,
                stdout=replies.writer,
            ) as candidate,
            _running(
                _command(mode, limits, "referee", requests.writer, replies.reader),
                cwd=empty_folder,
                stdin=subprocess.PIPE,
                stdout=verdict_writer,
                pass_fds=(requests.writer, replies.reader),
            ) as referee,
        ):
            requests.close()
            replies.close()
            verdict_writer.close()
            try:
                referee.communicate(len(job).to_bytes(8, "big") + job, limits.wall)
            except subprocess.TimeoutExpired:
                return Verdict("timeout", f"{limits.wall} s passed")
            verdicts.setblocking(False)
            message = b""
            with contextlib.suppress(BlockingIOError):
                message = verdicts.recv(MAX_VERDICT_BYTES)
            return _verdict(message, referee, candidate, started, limits)


def run_all(programs: Sequence[tuple[str, Checks]], mode: Mode, limits: Limits = Limits()) -> Iterator[Verdict]:
    """Start to run several programs, one per core at a time, and return their verdicts in order.

    Raises:
        SandboxError: See `check`; raised when the first verdict is requested.
    """
    if not programs:
        return iter(())
    pool = ThreadPoolExecutor(available_cpus())
    verdicts = pool.map(lambda pair: run(pair[0], pair[1], mode, limits), programs)
    pool.shutdown(wait=False)
    return verdicts


def _verdict(message: bytes, referee: Process, candidate: Process, started: float, limits: Limits) -> Verdict:
    try:
        word, reason = load(message[8:])
    except Refused:
        if _ran_out(referee, started, limits):
            return Verdict("timeout", f"{limits.cpu} s of CPU time, in the tests")
        return Verdict("crashed", "the process of the tests ended before the tests did")
    if word == "gone":
        if _ran_out(candidate, started, limits):
            return Verdict("timeout", f"{limits.cpu} s of CPU time")
        return Verdict("crashed", reason)
    return Verdict(word, well_formed(reason))


def _ran_out(process: Process, started: float, limits: Limits) -> bool:
    """Return whether the limit of CPU time ended a process: by its signal or, if that is ignored, by killing it."""
    code = process.wait()
    if code in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return True
    return code in (-signal.SIGKILL, 128 + signal.SIGKILL) and time.monotonic() - started >= limits.cpu


@contextmanager
def _running(command: Sequence[str], **options: Any) -> Iterator[Process]:
    """Start a process in a session of its own, and end everything that it started."""
    settings: dict[str, Any] = {"stderr": subprocess.DEVNULL, "env": {"PATH": os.defpath}, "start_new_session": True} | options
    info = _Pipe()
    with info:
        if command[0] == "bwrap":
            command = ["bwrap", "--info-fd", str(info.writer), *command[1:]]
            settings["pass_fds"] = (info.writer, *settings.get("pass_fds", ()))
        process = subprocess.Popen(command, **settings)
        info.close_writer()
        first = _first_process(info.reader) if command[0] == "bwrap" else None
    try:
        yield process
    finally:
        if first is not None:
            _end_sandbox(first)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def _first_process(info: int) -> int | None:
    """Return a descriptor of the first process of a sandbox, which bubblewrap reports."""
    report = b""
    while part := os.read(info, 4096):
        report += part
    try:
        return os.pidfd_open(json.loads(report)["child-pid"])
    except (ValueError, KeyError, ProcessLookupError):
        return None


def _end_sandbox(first: int) -> None:
    """End a sandbox and wait until all its processes have ended: the kernel ends a PID namespace with its first process."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(first, signal.SIGKILL)
    ended = select.poll()
    ended.register(first, select.POLLIN)
    ended.poll()
    os.close(first)


class _Pipe:
    """Both ends of a pipe."""

    def __enter__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._open = {self.reader, self.writer}

    def close_writer(self) -> None:
        """Close this process's copy of the writing end."""
        self._close(self.writer)

    def close(self) -> None:
        """Close this process's copies; the other processes keep theirs."""
        self._close(self.reader)
        self._close(self.writer)

    def _close(self, end: int) -> None:
        if end in self._open:
            self._open.remove(end)
            os.close(end)

    def __exit__(self, *problem: object) -> None:
        self.close()


_uids = itertools.count()
_uids_lock = threading.Lock()


def _uid() -> int:
    """Return a user id that no other run on this machine has now, since process ids and the counts within one are unique."""
    with _uids_lock:
        return FIRST_UID + (os.getpid() % (1 << 20)) * 512 + next(_uids) % 512


def _python() -> list[str]:
    """Return the bare interpreter: no site packages, no environment, no bytecode written."""
    return [os.path.realpath(getattr(sys, "_base_executable", sys.executable)), "-I", "-S", "-B", "-c"]


def _command(mode: Mode, limits: Limits, role: str, *descriptors: int) -> list[str]:
    """Return the command that runs a role within its limits."""
    prefix = _bubblewrap(limits) if mode == "bubblewrap" else []
    uid = _uid() if os.getuid() == 0 else 0
    scratch_files = limits.scratch_files if mode == "bubblewrap" else 0
    numbers = (uid, limits.cpu, limits.memory, limits.file, limits.files, scratch_files, *descriptors)
    return [*prefix, *_python(), INSIDE, _inside(), role, *map(str, numbers)]


@cache
def _inside() -> str:
    """Return `confine.py` and `inside.py` as compiled code, in hexadecimal digits."""
    files = [Path(__file__).with_name(name) for name in ("confine.py", "inside.py")]
    return marshal.dumps([compile(file.read_text("utf-8"), "<inside>", "exec") for file in files]).hex()


def _bubblewrap(limits: Limits) -> list[str]:
    """Return the command that creates a sandbox: the interpreter's files and an empty /tmp, nothing else."""
    command = ["bwrap", "--die-with-parent", "--new-session", "--clearenv"]
    command += [f"--unshare-{namespace}" for namespace in ("net", "ipc", "pid", "uts", "cgroup-try")]
    command += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]  # to limit the files of /tmp, then given up
    if os.getuid() == 0:  # the process itself drops root next, for which it needs these two
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "0", "--gid", "0"]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("/lib", "/lib64", "/lib32", "/bin"):
        path = Path(name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            command += ["--ro-bind", name, name]
    home = Path(os.path.realpath(sys.base_prefix))
    if not home.is_relative_to("/usr"):
        for parent in [*list(home.parents)[-2::-1], home]:  # otherwise they would be as private as outside
            command += ["--perms", "0755", "--dir", str(parent)]
        command += ["--ro-bind", str(home), str(home)]
    command += ["--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(limits.scratch), "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp"]
    return command


__all__ = ["Checks", "Limits", "Mode", "Verdict", "Word", "check", "run", "run_all"]
