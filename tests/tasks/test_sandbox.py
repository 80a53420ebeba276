# ruff: noqa: E501
"""Hostile programs: none of them passes, reaches anything, or leaves anything behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.errors import SandboxError
from toolkit.tasks import sandbox
from toolkit.tasks.sandbox import Checks, Limits, Verdict, check, run, run_all
from toolkit.tasks.sandbox.inside import Refused, dump, load

TESTS = Checks("assert f(2) == 4\nassert f([1]) == [1, 1]\nassert f(3) == 6", ("f",))
GOOD = "def f(x):\n    return x * 2\n"
QUICK = Limits(cpu=1, wall=20, memory=1 << 28)

HOSTILE = {
    "endless loop": ("def f(x):\n while True: pass", {"timeout"}),
    "endless loop at import": ("while True: pass", {"timeout"}),
    "endless loop that catches all": (
        "def f(x):\n while True:\n  try:\n   while True: pass\n  except BaseException: pass",
        {"timeout"},
    ),
    "ignores the signal of the time limit": (
        "import signal\nfor s in set(signal.Signals) - {9, 19}:\n try: signal.signal(s, signal.SIG_IGN)\n except Exception: pass\n"
        "def f(x):\n while True: pass",
        {"timeout"},
    ),
    "waits for ever": ("import time\ndef f(x): time.sleep(10**6)", {"timeout"}),
    "fork bomb": ("import os\nwhile True: os.fork()", {"failed"}),
    "thread bomb": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()", {"failed"}),
    "daemonises": (
        "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n  time.sleep(10**6)\n os._exit(0)\n" + GOOD,
        {"failed"},
    ),
    "starts a program": ("import subprocess\nsubprocess.run(['/usr/bin/id'])\n" + GOOD, {"failed"}),
    "becomes another program": ("import os\nos.execv('/usr/bin/env', ['env'])", {"crashed", "refused"}),
    "memory hog": ("def f(x):\n a = []\n while True: a.append(bytearray(1 << 24))", {"memory"}),
    "memory in one piece": ("def f(x): return 'x' * (1 << 40)", {"memory"}),
    "answer larger than any limit": ("def f(x): return 'x' * (1 << 26)", {"refused", "memory"}),
    "deep recursion": ("def f(x): return f(x)", {"failed"}),
    "deep recursion without its limit": (
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n def __getattr__(self, n): return getattr(self, n + 'x')\n"
        "def f(x): return f(x) + A().y",
        {"failed", "crashed", "memory", "timeout"},
    ),
    "nesting bomb": ("def f(x):\n for _ in range(10**5): x = [x]\n return x", {"failed", "refused", "crashed"}),
    "a list that holds itself": ("def f(x):\n a = []\n a.append(a)\n return a", {"failed", "refused"}),
    "output flood": ("def f(x):\n while True: print('x' * 10**6)", {"timeout"}),
    "output flood into the channel": (
        "import os\ndef f(x):\n for n in range(3, 64):\n  try: os.write(n, b'x' * 10**6)\n  except OSError: pass",
        {"refused", "crashed", "timeout"},
    ),
    "file bomb": ("def f(x):\n with open('big', 'wb') as o:\n  while True: o.write(bytes(1 << 20))", {"failed", "crashed"}),
    "many files": (
        "def f(x):\n n = 0\n while True:\n  n += 1\n  with open(f'f{n}', 'wb') as o: o.write(bytes(1 << 20))",
        {"failed", "timeout"},
    ),
    "exhausts inodes": ("def f(x):\n n = 0\n while True:\n  n += 1\n  open(f'f{n}', 'wb').close()", {"timeout", "failed"}),
    "exhausts descriptors": ("def f(x):\n a = []\n while True: a.append(open('/dev/null'))", {"failed"}),
    "symlink to the checkout": (
        "import os\nos.symlink({root!r}, 'link')\nopen('link/README.md', 'a').write('x')\n" + GOOD,
        {"failed"},
    ),
    "writes to the checkout": ("open({root!r} + '/hostile', 'w').write('x')\n" + GOOD, {"failed"}),
    "writes to the interpreter": ("import os\nopen(os.__file__, 'a').write('x')\n" + GOOD, {"failed"}),
    "reads /etc/shadow": ("print(open('/etc/shadow').read())\n" + GOOD, {"failed"}),
    "reads a cache": ("print(open({secret!r}).read())\n" + GOOD, {"failed"}),
    "reads the home directory": (
        "import os\nassert os.listdir(os.path.expanduser('~root') + '/..') and open({secret!r})\n" + GOOD,
        {"failed"},
    ),
    "reads the environment": ("import os\nassert os.environ['TOOLKIT_SECRET']\n" + GOOD, {"failed"}),
    "reads another's environment": ("print(open('/proc/1/environ').read())\n" + GOOD, {"failed"}),
    "socket to loopback": ("import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)\n" + GOOD, {"failed"}),
    "abstract unix socket": (
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0toolkit-hostile-{port}')\n" + GOOD,
        {"failed"},
    ),
    "kills its parent": (
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill({pid}, signal.SIGKILL)\n" + GOOD,
        {"failed"},
    ),
    "kills everything": ("import os, signal\nos.kill(-1, signal.SIGKILL)\n" + GOOD, {"failed", "crashed"}),
    "becomes root again": ("import os\nos.setuid(0)\nassert os.geteuid() == 0 and open('/etc/shadow')\n" + GOOD, {"failed"}),
    "mounts": ("import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0\n" + GOOD, {"failed"}),
    "new user namespace": (
        "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0\n" + GOOD,
        {"failed"},
    ),
    "exits before the tests": ("import sys\nsys.exit(0)", {"failed"}),
    "exits at once before the tests": ("import os\nos._exit(0)", {"crashed"}),
    "exits at once within the tests": ("import os\ndef f(x): os._exit(0)", {"crashed"}),
    "exits within the tests": ("def f(x): raise SystemExit(0)", {"failed"}),
    "segmentation fault": ("import ctypes\nctypes.string_at(0)", {"crashed"}),
    "prints the marker": ("print('passed'); print({marker!r})\nimport os\ndef f(x): os._exit(0)", {"crashed"}),
    "writes the verdict everywhere": (
        "import os, struct\nm = {marker!r}.encode()\nfor n in range(64):\n try: os.write(n, struct.pack('>Q', len(m)) + m)\n"
        " except OSError: pass\nos._exit(0)",
        {"refused", "crashed"},
    ),
    "equals everything": (
        "class A:\n def __eq__(self, o): return True\n def __ne__(self, o): return False\n __hash__ = object.__hash__\n"
        "def f(x): return A()",
        {"failed"},
    ),
    "a number that equals everything": ("class A(int):\n def __eq__(self, o): return True\ndef f(x): return A(9)", {"failed"}),
    "a list that equals everything": ("class A(list):\n def __eq__(self, o): return True\ndef f(x): return A()", {"failed"}),
    "patches the checker": (
        "import builtins, sys\nbuiltins.AssertionError = type('A', (Exception,), {{}})\nbuiltins.exec = builtins.compile = print\n"
        "import __main__\n__main__.dump = lambda *a, **k: {marker!r}.encode()\ndef f(x): return 0",
        {"refused"},
    ),
    "rewrites the frames below": (
        "import sys, gc\nframe = sys._getframe()\nwhile frame:\n for value in list(frame.f_locals.values()):\n"
        "  if isinstance(value, dict): value['verdict'] = 'passed'\n frame = frame.f_back\ndef f(x): return 0",
        {"failed", "refused", "crashed"},
    ),
    "looks for the expected values": (
        "import gc\ndef f(x):\n for o in gc.get_objects():\n  if isinstance(o, dict) and 'tests' in o: return eval(o['tests'])",
        {"failed"},
    ),
    "hostile repr of an exception": (
        "class E(Exception):\n def __str__(self): raise SystemExit\n __repr__ = __str__\ndef f(x): raise E",
        {"failed"},
    ),
    "hostile name of an exception": (
        "class M(type):\n __name__ = property(lambda c: 1 / 0)\nclass E(Exception, metaclass=M): pass\ndef f(x): raise E",
        {"failed", "crashed"},
    ),
    "hostile pickle": (
        "import os\nclass A:\n def __reduce__(self): return (os.system, ('touch /tmp/hostile',))\ndef f(x): return A()",
        {"failed"},
    ),
    "raises what stops tests": ("def f(x): raise KeyboardInterrupt", {"failed"}),
    **{
        f"memory outside the limit by {name}": (
            f"import ctypes, os, socket\nlibc = ctypes.CDLL(None, use_errno=True)\nassert {call} != -1\n" + GOOD,
            {"failed"},
        )
        for name, call in {
            "shmget": "libc.shmget(0, 1 << 28, 0o1777)",
            "memfd_create": "os.memfd_create('m')",
            "memfd_secret": "libc.syscall(447, 0)",
            "semget": "libc.semget(0, 9999, 0o1777)",
            "msgget": "libc.msgget(0, 0o1777)",
            "mq_open": "ctypes.CDLL('librt.so.1').mq_open(b'/m', 0o102, 0o600, None)",
            "keys": "libc.syscall({'x86_64': 248, 'aarch64': 217}[os.uname().machine], b'user', b'k', b'v' * 99, 99, -3)",
            "io_uring": "libc.syscall(425, 8, bytes(200))",
            "connections that nobody accepts": "(lambda s: (s.bind('u'), s.listen(4096)))(socket.socket(socket.AF_UNIX))",
            "sockets of the network": "socket.socket(socket.AF_INET)",
            "sockets of the host": "socket.socket(40, socket.SOCK_STREAM)",
            "locked memory": "libc.mlock(ctypes.create_string_buffer(1 << 20), 1 << 20)",
        }.items()
    },
    **{
        f"300,000 {name}": (f"import os\nopen('a', 'w').close()\nfor n in range(300000): {call}\n" + GOOD, {"failed"})
        for name, call in {
            "files": "open(str(n), 'w').close()",
            "folders": "os.mkdir(str(n))",
            "hard links": "os.link('a', str(n))",
            "symbolic links": "os.symlink('a', str(n))",
            "pipes": "os.mkfifo(str(n))",
        }.items()
    },
    "a huge file with a hole": ("open('a', 'wb').truncate(1 << 40)\n" + GOOD, {"failed", "crashed"}),
    "allows itself more files": (
        "import ctypes\nassert ctypes.CDLL(None).mount(None, b'/tmp', None, 38, b'nr_inodes=9999999') == 0\n" + GOOD,
        {"failed"},
    ),
    "a namespace by another call": (
        "import ctypes, os\nassert ctypes.CDLL(None).syscall({{'x86_64': 56, 'aarch64': 220}}[os.uname().machine], 0x10000011, 0, 0, 0, 0) != -1\n"
        + GOOD,
        {"failed"},
    ),
    "traces another process": (
        "import ctypes\nassert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0\n" + GOOD,
        {"failed"},
    ),
    "raises what cannot be encoded": ("raise ValueError('\\ud800\\x00' * 10**6)", {"failed"}),
    "lies about being a handle": ("def f(x): return {{'object': 0}}", {"failed"}),
}


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    secret = tmp_path_factory.mktemp("bait") / "cache.duckdb"
    secret.write_text("secret")
    secret.chmod(0o644)
    return {
        "root": str(Path(__file__).parents[2]),
        "secret": str(secret),
        "port": 1,
        "pid": os.getpid(),
        "marker": dump(("passed", "")).decode(),
    }


needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


def _fill(program: str, bait: dict[str, object]) -> str:
    return program.format(**bait) if "{{" in program or any(f"{{{name}" in program for name in bait) else program


def _processes() -> set[str]:
    """The processes of this machine that run a candidate or a referee."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"candidate" in words or b"referee" in words:
                found.add(entry.name)
    return found


@needs_bubblewrap
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_program_neither_passes_nor_escapes(
    name: str, bait: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_SECRET", "secret")
    before = _processes()
    template, expected = HOSTILE[name]
    wall = 3 if name == "waits for ever" else QUICK.wall
    verdict = run(_fill(template, bait), TESTS, "bubblewrap", Limits(QUICK.cpu, wall, QUICK.memory))
    assert verdict.word in expected, verdict
    assert _processes() <= before
    root = Path(str(bait["root"]))
    assert not (root / "hostile").exists()
    assert not Path("/tmp/hostile").exists()
    assert run(GOOD, TESTS, "bubblewrap") == Verdict("passed")


SWALLOWED = (
    "assert all(map(check, [1, 2]))",
    "assert all(filter(check, [1, 2])) or True",
    "assert list(zip(map(check, [1]), [1])) is not None",
    "for value in iter(lambda: check(1), 0): assert value",
    "import itertools\nassert not any(itertools.starmap(check, [(1,)]))",
    "assert not [*itertools.takewhile(check, [1, 2])]",
    "next(map(check, [1]), None)",
    "assert max(map(check, [1]), default=1)",
    "assert dict(map(check, [1])) == {}",
)
"""Tests that pass if an exception that ends iterations comes out of `check`, which the benchmark defines as a call of `f`."""


@needs_bubblewrap
@pytest.mark.parametrize("tests", SWALLOWED)
@pytest.mark.parametrize("kind", ["StopIteration", "type('E', (StopIteration,), {})", "StopAsyncIteration", "GeneratorExit"])
def test_an_exception_of_a_candidate_ends_no_iteration_of_the_tests(tests: str, kind: str) -> None:
    checks = Checks(f"import itertools\ncheck = lambda x: f(x) == 2 * x\n{tests}", ("f",))
    assert run(f"def f(x): raise {kind}", checks, "bubblewrap").word == "failed"


@needs_bubblewrap
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os; os._exit(0)", {"crashed"}),
        ("import os; os.kill(os.getpid(), 9)", {"crashed"}),
        ("import sys; sys.exit()", {"failed"}),
        ("raise KeyboardInterrupt", {"failed"}),
        ("raise BaseException", {"failed"}),
        ("raise GeneratorExit", {"failed"}),
        ("raise MemoryError", {"memory"}),
        ("return 'x' * (1 << 26)", {"memory", "refused"}),
        ("import ctypes; ctypes.string_at(0)", {"crashed"}),
    ],
)
@pytest.mark.parametrize("handler", ["except BaseException: pass", "except: pass", "finally: None"])
def test_tests_that_catch_everything_do_not_hide_how_a_candidate_ended(body: str, words: set[str], handler: str) -> None:
    tests = Checks(f"try: f(3)\n{handler}\ntry: f(4)\nexcept BaseException: pass", ("f",))
    assert run(f"def f(x): {body}", tests, "bubblewrap", Limits(memory=1 << 28)).word in words
    ended_later = Checks(f"def calm():\n try: f(3)\n {handler}\n return True\nassert calm()", ("f",))
    assert run(f"def f(x): {body}", ended_later, "bubblewrap", Limits(memory=1 << 28)).word in words


@needs_bubblewrap
def test_tests_may_expect_an_exception() -> None:
    tests = Checks("try:\n f(3)\n assert 0\nexcept LookupError: pass\nassert not hasattr(f, 'g')\nassert f(2) == 2", ("f",))
    program = "def f(x):\n if x == 3: raise KeyError(x)\n return x"
    assert run(program, tests, "bubblewrap") == Verdict("passed")


@needs_bubblewrap
def test_a_hundred_programs_at_a_time_get_the_verdicts_they_get_alone() -> None:
    programs = [GOOD, "def f(x): return 0", "def f(x):\n while True: pass", "import os\nos._exit(0)"]
    alone = [run(program, TESTS, "bubblewrap", QUICK).word for program in programs]
    assert alone == ["passed", "failed", "timeout", "crashed"]
    chosen = [0] * 90 + [1] * 4 + [2] * 2 + [3] * 4
    together = run_all([(programs[n], TESTS) for n in chosen], "bubblewrap", QUICK)
    assert [verdict.word for verdict in together] == [alone[n] for n in chosen]


@needs_bubblewrap
@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("class P:\n def __init__(self, a): self.a = a\ndef total(ps): return sum(p.a for p in ps)",
         Checks("assert total([P(1), P(2)]) == 3\np = P(5)\np.a = 7\nassert p.a == 7 and total([p]) == 7", ("P", "total"))),
        ("def f(n):\n for i in range(n): yield i", Checks("assert list(f(3)) == [0, 1, 2]\nassert tuple(f(2)) == (0, 1)", ("f",))),
        ("def f(n): raise ValueError('no')",
         Checks("try:\n    f(1)\n    assert False\nexcept ValueError as error:\n    assert 'no' in str(error)", ("f",))),
        ("def f(x): return x", Checks("for v in [1, -2**200, 0.5, 1e400, 'é\\ud800', b'x', None, True, 2j, (1, [2]), {1: {2}}, "
                                    "frozenset({3}), range(1, 9, 2)]:\n    assert f(v) == v and type(f(v)) is type(v), v", ("f",))),
        ("from collections import Counter\ndef f(x): return Counter(x)", Checks("assert f('aab') == {'a': 2, 'b': 1}", ("f",))),
        ("def f(x): return sorted(x, key=g)\ndef g(x): return -x", Checks("assert f([1, 2]) == [2, 1]", ("f",))),
        ("import asyncio, tempfile\nasync def g(x): return x\ndef f(x):\n with tempfile.TemporaryDirectory(): return asyncio.run(g(x))",
         Checks("assert f(3) == 3", ("f",))),
        ("f = lambda x: x", Checks("import math\nassert math.isnan(f(math.nan))\nassert h(f(3)) == 4", ("f",), "def h(x): return x + 1")),
    ],
    ids=["classes", "generators", "exceptions", "values", "subclasses", "helpers", "sockets and files", "setup"],
)  # fmt: skip
def test_honest_programs_pass(program: str, tests: Checks) -> None:
    assert run(program, tests, "bubblewrap") == Verdict("passed")


atoms = st.one_of(
    *(st.none(), st.booleans(), st.text(st.characters(exclude_categories=())), st.integers(), st.floats(allow_nan=False)),
    *(st.complex_numbers(allow_nan=False), st.fractions(), st.binary(), st.binary().map(bytearray)),
    st.tuples(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9)).map(lambda three: range(*three)),
)
keys = atoms.filter(lambda atom: not isinstance(atom, bytearray))
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        *(st.lists(inner), st.lists(inner).map(tuple), st.lists(inner).map(deque), st.dictionaries(keys, inner)),
        *(st.sets(keys), st.frozensets(keys)),
    ),
)


@given(values)
def test_plain_data_comes_back_as_it_was(value: object) -> None:
    back = load(dump(value))
    assert type(back) is type(value)
    assert repr(back) == repr(value) or back == value


NO_DATA = (
    *(
        b"",
        b"list",
        b"list 1",
        b"list -1\n",
        b"list 9999999999999",
        b"dict 1\nlist 0\nNone",
        b"dict 1\nNone",
        b"int x",
        b"int ",
    ),
    *(b"float 1,5", b"str \\x", b"str \xff", b"fraction 1 0", b"range 1 2 0", b"object 0", b"object", b"type 1", b"None\nNone"),
    *(b"list 1\n" * 10**6, b"list " + b"9" * 5000),
)


@pytest.mark.parametrize("message", NO_DATA, ids=lambda message: repr(message[:20]))
def test_what_is_no_plain_data_is_refused(message: bytes) -> None:
    with pytest.raises(Refused):
        load(message)


@needs_bubblewrap
def test_a_verdict_says_why() -> None:
    assert "line 2" in run("def f(x): return 4", TESTS, "bubblewrap").reason
    assert "SyntaxError" in run("def f(x)", TESTS, "bubblewrap").reason
    assert "KeyError" in run("x = 1", TESTS, "bubblewrap").reason


def test_running_is_off_until_it_is_allowed() -> None:
    with pytest.raises(SandboxError, match="whatever you can"):
        run(GOOD, TESTS, "off")


def test_without_bubblewrap_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    sandbox._no_bubblewrap.cache_clear()
    try:
        with pytest.raises(SandboxError, match=r"there is no bwrap.*apt-get install bubblewrap.*process"):
            check("bubblewrap")
    finally:
        sandbox._no_bubblewrap.cache_clear()


def test_a_bubblewrap_that_makes_no_sandbox_is_refused_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho no namespaces here >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda limits: [str(fake)])
    monkeypatch.setattr(shutil, "which", lambda name: str(fake))
    sandbox._no_bubblewrap.cache_clear()
    try:
        with pytest.raises(SandboxError, match="no namespaces here"):
            check("bubblewrap")
    finally:
        sandbox._no_bubblewrap.cache_clear()


def _public_interpreter() -> str:
    """An interpreter that every user may read: this one, or the system's; skips where there is none."""
    if sandbox._private_folder() is None:
        return sys.executable
    new = "import sys; sys.exit(sys.version_info < (3, 11))"
    if not Path("/usr/bin/python3").exists() or subprocess.run(["/usr/bin/python3", "-c", new]).returncode:
        pytest.skip("the interpreter lies in root's private home, and the system has none that is new enough")
    return "/usr/bin/python3"


def _words(programs: list[str], mode: str, first: str = "pass") -> list[str]:
    """Run programs from another interpreter, after a statement; returns the words of their verdicts."""
    code = (
        f"import os, sys; {first}; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        f"from toolkit.tasks.sandbox import *\nT, Q = Checks({TESTS.code!r}, ('f',)), Limits(1, 20, 1 << 28)\n"
        f"for program in {programs!r}: print(run(program, T, {mode!r}, Q).word)"
    )
    done = subprocess.run([_public_interpreter(), "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout.split()


LIMITED = {
    GOOD: "passed",
    "import os\nassert 'HOME' not in os.environ\n" + GOOD: "passed",
    "def f(x):\n while True: pass": "timeout",
    "import os\nos._exit(0)": "crashed",
    "import os\nos.fork()\n" + GOOD: "failed",
    "def f(x):\n a = []\n while True: a.append(bytearray(1 << 24))": "memory",
    "open('big', 'wb').write(bytes(1 << 25))\n" + GOOD: "failed",
}
AS_SOMEBODY_ELSE = {
    "import os\nassert os.getuid() and os.getgid() and not os.getgroups()\n" + GOOD: "passed",
    "open('/etc/shadow').read()\n" + GOOD: "failed",
    "import os\nos.setuid(0)\n" + GOOD: "failed",
    "import os\nos.kill(os.getppid(), 9)\n" + GOOD: "failed",
}
"""What root's programs, which run as users of their own, get besides."""


def test_as_a_process_limits_hold_too() -> None:
    expected = LIMITED | (AS_SOMEBODY_ELSE if os.getuid() == 0 else {})
    assert dict(zip(expected, _words(list(expected), "process"), strict=True)) == expected


@pytest.mark.skipif(os.getuid() != 0, reason="only root drops to another user")
def test_a_private_interpreter_is_refused_where_root_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "private/python").mkdir(parents=True)
    (tmp_path / "private").chmod(0o700)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "private/python"))
    with pytest.raises(SandboxError, match=r"private is private\. Use bubblewrap, another user, or an interpreter outside"):
        check("process")


SOMEBODY = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
FORGER = """
import glob, os, struct
verdict = {marker!r}.encode()
for path in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(descriptor, struct.pack(">Q", len(verdict)) + verdict)
    except OSError: pass
os._exit(0)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_as_a_process_of_the_same_user_it_cannot_write_the_verdict(bait: dict[str, object]) -> None:
    """It opens every descriptor of every process of its user, the toolkit's own included."""
    programs = [FORGER.format(**bait), f"def f(x):{FORGER.format(**bait)}".replace("\n", "\n ")]
    assert not {"passed"} & set(_words(programs, "process", SOMEBODY))


@needs_bubblewrap
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    "name", [name for name in HOSTILE if "outside the limit" in name or "300,000" in name or "file" in name]
)
def test_limits_hold_for_an_unprivileged_user_too(name: str, bait: dict[str, object]) -> None:
    template, expected = HOSTILE[name]
    assert set(_words([_fill(template, bait)], "bubblewrap", SOMEBODY)) <= expected


@needs_bubblewrap
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_it_holds_for_an_unprivileged_user_too() -> None:
    """Without root the sandbox is made in a user namespace."""
    assert _words([GOOD, "import os\nos.fork()"], "bubblewrap", SOMEBODY) == ["passed", "failed"]
