"""Imported results with missing responses in the commands: what they say, and that none ends with a traceback."""

from __future__ import annotations

import json
import logging
import random
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from toolkit.cli import app
from toolkit.cli.terminal import OnceFilter
from toolkit.core.errors import ToolkitError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str, ok: bool = True) -> Result:
    result = CliRunner().invoke(app, words)
    assert (result.exception is None) is ok, result.exception
    return result


def refusal(*words: str) -> str:
    error = run(*words, ok=False).exception
    assert isinstance(error, ToolkitError)
    return str(error)


def write(name: str, missing: float, questions: int = 40, splits: tuple[str, ...] = ("train", "test")) -> int:
    """Write a table of two hops in which some results are missing; return how many questions lack one."""
    rng = random.Random(0)
    paths = [*"ab", "a > a", "a > b", "b > a", "b > b"]
    rows, incomplete = [], set()
    for number in range(questions):
        for path in paths:
            if rng.random() < missing:
                incomplete.add(number)
            else:
                rows.append({"benchmark": "b", "item": str(number), "question": f"{number}?", "path": path})
                rows[-1] |= {"score": rng.random(), "cost": 1.0, "split": splits[number % len(splits)]}
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(incomplete)


def test_questions_that_are_left_out_are_counted() -> None:
    n_incomplete = write("t.jsonl", 0.05)
    output = run("import", "t.jsonl", "--suite", "s", "--encoder", "none", "--missing", "drop-question").output
    assert 0 < n_incomplete < 40
    assert f"{n_incomplete} of 40 questions lack one and are left out." in output
    assert "2 models, horizon 2, 1 benchmark, 40 questions" in output


@pytest.mark.parametrize("missing", [0.7, 0.9])
def test_a_suite_of_which_nothing_is_left_says_why(missing: float) -> None:
    write("t.jsonl", missing)
    words = ["import", "t.jsonl", "--suite", "s", "--encoder", "none", "--missing", "drop-question"]
    assert "No question is in the split train" in run(*words).output
    for command in (["train", "s"], ["sweep", "s", "--seeds", "1"], ["evaluate", "s", "--baselines"]):
        message = refusal(*command)
        assert re.search(r"(train|training|test) split( of suite s)? has no questions", message)
        assert re.search(r"Responses are missing, so that (\d+) of \1 trees are left out", message)
        assert "toolkit import --missing mask" in message


def test_evaluation_needs_training_questions() -> None:
    write("t.jsonl", 0, 12, ("test",))
    run("import", "t.jsonl", "--suite", "s", "--encoder", "none")
    message = refusal("evaluate", "s", "--baselines")
    assert message.startswith("The train split of suite s has no questions, and so no cost unit.")
    assert "[splits]" in message


def test_the_progress_of_an_import_ends_at_its_total(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.cli import import_

    bars: list[tuple[int, list[int]]] = []

    class Bar:
        def __init__(self, total: int, what: str) -> None:
            bars.append((total, []))

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def stage(self, text: str) -> None: ...

        def stopped(self) -> bool:
            return False

        def advance(self, done: int) -> None:
            bars[-1][1].append(done)

    monkeypatch.setattr(import_, "ProgressBar", Bar)
    write("t.jsonl", 0.3)
    run("import", "t.jsonl", "--suite", "s", "--encoder", "none")
    [(total, steps)] = bars
    assert sum(steps) == total > 0


def test_a_cache_is_no_table_of_results() -> None:
    write("t.jsonl", 0, 4)
    run("import", "t.jsonl", "--suite", "s", "--encoder", "none")
    run("export", "folder", "--cache", "cache/s.duckdb")
    for source in ("folder", "cache/s.duckdb"):
        message = refusal("import", source, "--suite", "s")
        assert f"{source} is a cache" in message
        assert message.endswith(f"toolkit import {source} --cache FILE")


def test_a_question_without_a_reference_shows_none() -> None:
    write("t.jsonl", 0, 4)
    run("import", "t.jsonl", "--suite", "s", "--encoder", "none")
    assert "Answer" not in run("show", "b/0", "--suite", "s").output


def test_a_message_of_the_log_is_shown_once() -> None:
    once = OnceFilter()
    records = [logging.makeLogRecord({"msg": "%s is left out", "args": (name,)}) for name in ("kNN", "kNN", "cascade")]
    assert [once.filter(record) for record in records] == [True, False, True]
