"""Calls in another process: whatever a function does, the caller gets an outcome, and the next call works."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.core.calls import Outcome, call_each, portable

FACTOR = 3


def triple(value: Any) -> Any:
    return value * FACTOR


def run_on() -> None:
    while True:
        pass


def catch_everything() -> None:
    while True:
        with contextlib.suppress(BaseException):
            run_on()


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise SystemExit


def one(function: Callable[..., Any], *arguments: Any, cpu: float = 0.2, wall: float = 60) -> Outcome:
    (outcome,) = call_each([(function, arguments)], cpu, wall)
    return outcome


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_travels(text: str) -> None:
    assert one(triple, text) == Outcome("returned", text * 3)


def test_a_function_that_exists_here_alone_travels_by_value() -> None:
    names: dict[str, Any] = {"__name__": "a_file_of_the_users", "PLUS": 4}
    exec("def add(value):\n    return value + PLUS", names)
    assert one(names["add"], 1).value == 5
    assert one(lambda value: value - FACTOR, 1).value == -2


@pytest.mark.parametrize(
    ("function", "arguments", "kind", "reason"),
    [
        (run_on, (), "timeout", "0.2 s of CPU time"),
        (catch_everything, (), "timeout", "0.2 s of CPU time"),
        (pow, (7, 10**10), "timeout", "0.2 s of CPU time"),
        (time.sleep, (999,), "timeout", "0.5 s"),
        (os._exit, (3,), "crashed", "exit code 3"),
        (os.kill, (0, signal.SIGKILL), "crashed", "signal 9"),
        (os.abort, (), "crashed", "signal 6"),
        (sys.exit, (), "raised", "SystemExit"),
        (int, ("1" * 5000,), "raised", "ValueError: Exceeds the limit"),
        (exec, ("raise ValueError('\\ud800\\x1b' * 999)",), "raised", "ValueError: \ufffd\x1b"),
        (exec, ("import threading; raise threading.ThreadError",), "raised", "RuntimeError"),
        (eval, ("(n for n in 'x')",), "raised", "TypeError"),
        (print, ("to the outcomes?",), "returned", ""),
        (os.close, (1,), "returned", ""),
    ],
)
def test_every_end_is_an_outcome_and_the_next_call_works(
    function: Callable[..., Any], arguments: tuple[Any, ...], kind: str, reason: str
) -> None:
    outcome = one(function, *arguments, wall=0.5 if function is time.sleep else 60)
    assert outcome.kind == kind
    assert reason in outcome.reason
    assert len(outcome.reason) <= 600
    assert one(triple, 2) == Outcome("returned", 6)


def test_an_exception_without_a_text_is_an_outcome() -> None:
    def speechless() -> None:
        raise UnspeakableError

    assert one(speechless).kind == "raised"


def test_calls_are_made_in_the_callers_folder_even_if_an_earlier_one_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    monkeypatch.chdir(earlier)
    assert one(os.getcwd).value == str(earlier)
    monkeypatch.chdir(tmp_path)
    earlier.rmdir()
    assert one(os.getcwd).value == str(tmp_path)


def test_what_cannot_travel_is_refused_here() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        portable(lambda: lock)


def test_calls_of_several_threads_do_not_mix() -> None:
    results: dict[int, list[Any]] = {}

    def call(number: int) -> None:
        results[number] = [outcome.value for outcome in call_each([(triple, (number,))] * 50)]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [number * 3] * 50 for number in range(8)}


def test_the_process_ends_with_its_caller(tmp_path: Path) -> None:
    """It ends however the caller ends, and a killed caller leaves no process."""
    program = (
        "import os\nfrom toolkit.core.calls import call_each\n"
        "print(*(outcome.value for outcome in call_each([(os.getpid, ())])), flush=True)"
    )
    for ending in ("", "os._exit(0)", "os.kill(os.getpid(), 9)"):
        done = subprocess.run([sys.executable, "-c", f"{program}\n{ending}"], stdout=subprocess.PIPE, text=True)
        assert done.stdout.strip().isdigit()
        deadline = time.monotonic() + 30
        while Path(f"/proc/{done.stdout.strip()}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not Path(f"/proc/{done.stdout.strip()}").exists()


def test_calls_that_are_sent_together_end_each_in_its_own_way() -> None:
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [(triple, (n,)) for n in range(150)]
    calls[3] = calls[149] = (os._exit, (3,))
    outcomes = list(call_each(calls))
    assert {n: outcome.kind for n, outcome in enumerate(outcomes) if outcome.kind != "returned"} == {
        3: "crashed",
        149: "crashed",
    }
    assert all(outcome.value == 3 * n for n, outcome in enumerate(outcomes) if outcome.kind == "returned")


def test_each_call_has_the_whole_time() -> None:
    one(triple, 1)  # the process has started
    assert [outcome.kind for outcome in call_each([(time.sleep, (0.5,))] * 4, wall=1.5)] == ["returned"] * 4
