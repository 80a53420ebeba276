"""Another metric, or another version of one, is a matter of reading: nothing is generated, and what was scored stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.content import content
from tests.generation.test_scoring import answer, code_suite, needs_bubblewrap
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.cli import app
from toolkit.core.errors import SandboxError, SuiteError
from toolkit.core.progress import NoProgress
from toolkit.core.workspace import Workspace
from toolkit.generation import rescoring as rescore
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.store import Cache
from toolkit.suites.suite import Suite
from toolkit.tasks import metrics
from toolkit.tasks.metrics import METRICS, Reference, Score


def toolkit(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def scores(cache: Cache, metric: str) -> list[dict[str, Any]]:
    query = "SELECT question, text, value FROM scores WHERE metric = ? ORDER BY ALL"
    found: list[dict[str, Any]] = cache.arrow(query, [metric]).to_pylist()
    return found


def distinct_answers(cache: Cache) -> int:
    return len(cache.arrow("SELECT DISTINCT question, response FROM transitions"))


def test_a_metric_is_added_to_every_cached_response_and_a_second_time_to_none(cache: Cache, suite: Suite) -> None:
    before = content(cache)
    done = toolkit("score", "scripted", "--metric", "math_equal", "--cache", str(cache.path), "--format", "csv")
    answers = distinct_answers(cache)
    assert f"math_equal@1,{answers},{answers},0" in done.stdout
    after = content(cache)
    assert {table for table in before if before[table] != after[table]} == {"scores"}
    references = {str(question.key): question.reference for question in suite.questions}
    query = "SELECT question, response, value FROM transitions JOIN scores USING (question) WHERE metric = 'math_equal@1'"
    rows = cache.arrow(f"{query} AND scores.text = left(sha256(response), 32)::UUID").to_pylist()
    assert {row["value"] for row in rows} == {0.0, 1.0}
    for row in rows:
        assert row["value"] == METRICS["math_equal"].score(row["response"], references[row["question"]]).value
    again = toolkit("score", "scripted", "--metric", "math_equal", "--cache", str(cache.path), "--format", "csv")
    assert f"math_equal@1,{answers},0,{answers}" in again.stdout
    assert content(cache) == after
    assert not any(finding.wrong for finding in verify(cache))


def half(response: str, reference: Reference) -> Score:
    return Score(0.5, response)


def test_a_newer_version_of_a_metric_takes_the_place_of_the_old_one_which_stays(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = METRICS["numeric_match"]
    new = replace(old, version=old.version + 1, score=half)
    kept = scores(cache, old.label)
    assert kept
    monkeypatch.setitem(metrics.METRICS, "numeric_match", new)
    done = toolkit("score", "scripted", "--cache", str(cache.path))
    assert f"Quality of suite scripted has changed from {old.label} to {new.label}" in done.stderr
    assert scores(cache, old.label) == kept
    assert len(scores(cache, new.label)) == len(kept)
    addition = cache.arrow("SELECT DISTINCT quality FROM transitions WHERE benchmark = 'addition'")["quality"].to_pylist()
    assert addition == [0.5]
    assert all(row.missing == 0 for row in cache.progress("scripted"))
    again = toolkit("score", "scripted", "--cache", str(cache.path))
    assert "has changed" not in again.stderr


def test_the_quality_of_a_suite_file_may_change_without_generating(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    benchmarks = "".join(
        f'[[benchmarks]]\nname = "{name}"\nlimit = 8\nquality = "numeric_match"\n'
        for name in ("addition", "word_reversal", "geography")
    )
    model = f'checkpoint = "made/up"\nrevision = "{"0" * 40}"\ndtype = "float32"\nmax_tokens = 16\n'
    (tmp_path / "scripted.toml").write_text(
        'name = "scripted"\nhorizon = 2\n'
        f'[[models]]\nname = "sums"\nbase_rate = 1.0\n{model}'
        f'[[models]]\nname = "words"\nbase_rate = 3.0\nsystem_prompt = "w"\n{model}'
        f'{benchmarks}[engine]\nname = "scripted"\nbatch_tokens = 500\n'
    )
    had = cache.arrow("FROM generations").num_rows
    before = cache.arrow("SELECT node, quality FROM transitions ORDER BY ALL").to_pylist()
    toolkit("score", str(tmp_path / "scripted.toml"), "--cache", str(cache.path))
    assert cache.arrow("SELECT DISTINCT metric FROM suite_questions SEMI JOIN current_suites USING (suite)")[
        "metric"
    ].to_pylist() == [METRICS["numeric_match"].label]
    assert cache.arrow("SELECT node, quality FROM transitions ORDER BY ALL").to_pylist() != before
    assert cache.arrow("FROM transitions WHERE quality IS NULL").num_rows == 0
    assert cache.arrow("FROM generations").num_rows == had


def test_a_metric_applies_where_a_question_has_what_it_needs(cache: Cache) -> None:
    with pytest.raises(SuiteError, match="none has choices"):
        toolkit("score", "scripted", "--metric", "choice_match", "--cache", str(cache.path))
    with pytest.raises(SuiteError, match=r"no metric 'f1'.*token_f1"):
        toolkit("score", "scripted", "--metric", "f1", "--cache", str(cache.path))
    assert METRICS["choice_match"].applies(Reference(("a",), ("a", "b")))
    assert not METRICS["pass_at_1"].applies(Reference(("a",)))


@needs_bubblewrap
def test_model_written_code_is_run_only_where_that_is_allowed(tmp_path: Path) -> None:
    config = code_suite(tmp_path)
    unscored = config.benchmarks[0].model_copy(update={"quality": "token_f1"})
    suite = resolve_config(config.model_copy(update={"benchmarks": (unscored,)}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(answer), encode=encode)
    before = content(cache)
    arguments = ["score", "scripted", "--metric", "pass_at_1", "--cache", str(cache.path)]
    with pytest.raises(SandboxError, match="--sandbox"):
        toolkit(*arguments)
    assert content(cache) == before
    toolkit(*arguments, "--sandbox", "bubblewrap")
    assert [row["value"] for row in scores(cache, "pass_at_1@1")].count(1.0) == 4
    assert "pass_at_1@1  " in toolkit(*arguments).stdout  # nothing is left to run, so nothing has to be allowed
    assert cache.recorded("scripted") == suite  # and the suite still says what it said


def test_stopped_in_the_middle_it_keeps_what_it_scored_and_continues(
    cache: Cache, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescore, "SCORED_AT_ONCE", 10)

    class StopAfter(NoProgress):
        count = 0

        def advance(self, nodes: int) -> None:
            self.count += 1

        def stopped(self) -> bool:
            return self.count >= 3

    asked = rescore.wanted(suite, ["exact_match", "math_equal"])
    assert rescore.rescore(suite, cache, suite.key, asked, progress=StopAfter()) == 30
    held = len(scores(cache, "exact_match@1")) + len(scores(cache, "math_equal@1"))
    had = distinct_answers(cache)
    assert rescore.rescore(suite, cache, suite.key, asked) == 2 * had - held
    assert len(scores(cache, "exact_match@1")) == len(scores(cache, "math_equal@1")) == had


def test_killed_in_the_middle_it_continues(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    program = (
        "import sys, time; from toolkit import rescore; from toolkit.cli import main; rescore.SCORED_AT_ONCE = 5\n"
        "old = rescore.score\n"
        "rescore.score = lambda *a: time.sleep(0.1) or old(*a)\n"
        f"sys.argv = ['toolkit', 'score', 'scripted', '--metric', 'math_equal', '--cache', {str(cache.path)!r}]\nmain()"
    )
    for number in (signal.SIGKILL, signal.SIGINT):
        had = len(scores(cache, "math_equal@1"))
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while process.poll() is None and len(scores(cache, "math_equal@1")) <= had:
                time.sleep(0.05)
            os.kill(process.pid, number)
            said = process.communicate(timeout=60)[1]
        assert process.returncode == (130 if number == signal.SIGINT else -number), said
        assert had < len(scores(cache, "math_equal@1")) < distinct_answers(cache)
    assert "the same command continues" in said
    toolkit("score", "scripted", "--metric", "math_equal", "--cache", str(cache.path))
    assert len(scores(cache, "math_equal@1")) == distinct_answers(cache)


def test_generate_scores_what_was_added_to_a_suite(cache: Cache, tmp_path: Path) -> None:
    names = ("addition", "word_reversal", "geography")
    more = suite_config(benchmarks=[{"name": name, "limit": 8, "metrics": ["exact_match"]} for name in names])
    suite = resolve_config(more, tmp_path)
    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    assert report.generated == 0
    assert len(scores(cache, "exact_match@1")) == distinct_answers(cache)
