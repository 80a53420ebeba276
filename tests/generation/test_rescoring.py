"""Adding a metric, or a new version of one, generates nothing and keeps the existing scores."""

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
from tests.generation.test_scoring import code_suite, needs_bubblewrap, respond_with_code
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.cli import app
from toolkit.core.errors import BenchmarkError, SandboxError, SuiteError
from toolkit.core.progress import NoProgress
from toolkit.core.workspace import Workspace
from toolkit.generation import rescoring
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.store import Cache
from toolkit.suites.suite import Suite
from toolkit.tasks.metrics import METRICS, Reference, Score


def toolkit(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def scores(cache: Cache, metric: str) -> list[dict[str, Any]]:
    query = "SELECT question, text, value FROM scores WHERE metric = ? ORDER BY ALL"
    rows: list[dict[str, Any]] = cache.arrow(query, [metric]).to_pylist()
    return rows


def distinct_responses(cache: Cache) -> int:
    return len(cache.arrow("SELECT DISTINCT question, response FROM transitions"))


def test_a_metric_is_added_to_every_cached_response_and_a_second_time_to_none(cache: Cache, suite: Suite) -> None:
    before = content(cache)
    done = toolkit("score", "scripted", "--metric", "math_equal", "--cache", str(cache.path), "--format", "csv")
    responses = distinct_responses(cache)
    assert f"math_equal@1,{responses},{responses},0" in done.stdout
    after = content(cache)
    assert {table for table in before if before[table] != after[table]} == {"scores"}
    references = {str(question.key): question.reference for question in suite.questions}
    query = "SELECT question, response, value FROM transitions JOIN scores USING (question) WHERE metric = 'math_equal@1'"
    rows = cache.arrow(f"{query} AND scores.text = left(sha256(response), 32)::UUID").to_pylist()
    assert {row["value"] for row in rows} == {0.0, 1.0}
    for row in rows:
        assert row["value"] == METRICS["math_equal"].score(row["response"], references[row["question"]]).value
    again = toolkit("score", "scripted", "--metric", "math_equal", "--cache", str(cache.path), "--format", "csv")
    assert f"math_equal@1,{responses},0,{responses}" in again.stdout
    assert content(cache) == after
    assert not any(finding.wrong for finding in verify(cache))


def score_half(response: str, reference: Reference) -> Score:
    return Score(0.5, response)


def test_a_newer_version_of_a_metric_becomes_the_quality_and_the_old_scores_stay(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = METRICS["numeric_match"]
    new = replace(old, version=old.version + 1, score=score_half)
    old_scores = scores(cache, old.label)
    assert old_scores
    monkeypatch.setitem(METRICS._loaded, "numeric_match", new)
    done = toolkit("score", "scripted", "--cache", str(cache.path))
    assert f"quality of suite scripted has changed from {old.label} to {new.label}" in done.stderr
    assert scores(cache, old.label) == old_scores
    assert len(scores(cache, new.label)) == len(old_scores)
    addition = cache.arrow("SELECT DISTINCT quality FROM transitions WHERE benchmark = 'addition'")["quality"].to_pylist()
    assert addition == [0.5]
    assert all(row.missing == 0 for row in cache.suites.progress("scripted"))
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
    n_generations = cache.arrow("FROM generations").num_rows
    before = cache.arrow("SELECT node, quality FROM transitions ORDER BY ALL").to_pylist()
    toolkit("score", str(tmp_path / "scripted.toml"), "--cache", str(cache.path))
    assert cache.arrow("SELECT DISTINCT metric FROM suite_questions SEMI JOIN current_suites USING (suite)")[
        "metric"
    ].to_pylist() == [METRICS["numeric_match"].label]
    assert cache.arrow("SELECT node, quality FROM transitions ORDER BY ALL").to_pylist() != before
    assert cache.arrow("FROM transitions WHERE quality IS NULL").num_rows == 0
    assert cache.arrow("FROM generations").num_rows == n_generations


def test_a_metric_applies_to_questions_that_have_what_it_needs(cache: Cache) -> None:
    with pytest.raises(SuiteError, match="none has choices"):
        toolkit("score", "scripted", "--metric", "choice_match", "--cache", str(cache.path))
    with pytest.raises(SuiteError, match=r"no metric 'f1'.*token_f1"):
        toolkit("score", "scripted", "--metric", "f1", "--cache", str(cache.path))
    assert METRICS["choice_match"].applies(Reference(("a",), ("a", "b")))
    assert not METRICS["pass_at_1"].applies(Reference(("a",)))


@needs_bubblewrap
def test_model_written_code_is_run_only_if_allowed(tmp_path: Path) -> None:
    config = code_suite(tmp_path)
    unscored = config.benchmarks[0].model_copy(update={"quality": "token_f1"})
    suite = resolve_config(config.model_copy(update={"benchmarks": (unscored,)}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(respond_with_code), encode=encode)
    before = content(cache)
    arguments = ["score", "scripted", "--metric", "pass_at_1", "--cache", str(cache.path)]
    with pytest.raises(SandboxError, match="--sandbox"):
        toolkit(*arguments)
    assert content(cache) == before
    toolkit(*arguments, "--sandbox", "bubblewrap")
    assert [row["value"] for row in scores(cache, "pass_at_1@2")].count(1.0) == 4
    assert "pass_at_1@2  " in toolkit(*arguments).stdout  # nothing is left to run, so no permission is needed
    assert cache.suites.get("scripted") == suite  # the suite itself is unchanged


def test_stopped_in_the_middle_it_keeps_its_scores_and_continues(
    cache: Cache, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescoring, "SCORE_BATCH", 10)

    class StopAfter(NoProgress):
        count = 0

        def advance(self, nodes: int) -> None:
            self.count += 1

        def stopped(self) -> bool:
            return self.count >= 3

    metrics = rescoring.metrics_to_apply(suite, ["exact_match", "math_equal"])
    assert rescoring.rescore(suite, cache, suite.key, metrics, progress=StopAfter()) == 30
    scored = len(scores(cache, "exact_match@1")) + len(scores(cache, "math_equal@1"))
    responses = distinct_responses(cache)
    assert rescoring.rescore(suite, cache, suite.key, metrics) == 2 * responses - scored
    assert len(scores(cache, "exact_match@1")) == len(scores(cache, "math_equal@1")) == responses


def test_killed_in_the_middle_it_continues(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    program = (
        "import sys, time; from toolkit.generation import rescoring; from toolkit.cli import main; rescoring.SCORE_BATCH = 5\n"
        "score_each = rescoring.score_each\n"
        "rescoring.score_each = lambda *arguments: time.sleep(0.1) or score_each(*arguments)\n"
        f"sys.argv = ['toolkit', 'score', 'scripted', '--metric', 'math_equal', '--cache', {str(cache.path)!r}]\nmain()"
    )
    for number in (signal.SIGKILL, signal.SIGINT):
        scored = len(scores(cache, "math_equal@1"))
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while process.poll() is None and len(scores(cache, "math_equal@1")) <= scored:
                time.sleep(0.05)
            os.kill(process.pid, number)
            stderr = process.communicate(timeout=60)[1]
        assert process.returncode == (130 if number == signal.SIGINT else -number), stderr
        assert scored < len(scores(cache, "math_equal@1")) < distinct_responses(cache)
    assert "the same command continues" in stderr
    toolkit("score", "scripted", "--metric", "math_equal", "--cache", str(cache.path))
    assert len(scores(cache, "math_equal@1")) == distinct_responses(cache)


def test_generate_scores_metrics_that_were_added_to_a_suite(cache: Cache, tmp_path: Path) -> None:
    names = ("addition", "word_reversal", "geography")
    more = suite_config(benchmarks=[{"name": name, "limit": 8, "metrics": ["exact_match"]} for name in names])
    suite = resolve_config(more, tmp_path)
    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    assert report.generated == 0
    assert len(scores(cache, "exact_match@1")) == distinct_responses(cache)


def test_a_suite_file_is_applied_on_request(cache: Cache, suite: Suite) -> None:
    generations = content(cache)["generations"]
    names = ("addition", "word_reversal", "geography")
    benchmarks = [{"name": name, "limit": 8, "quality": "numeric_match"} for name in names]
    config = suite_config(benchmarks=benchmarks, splits={"seed": 7})
    assert cache.suites.get("scripted") == suite
    applied = rescoring.apply_suite_file(suite, config, cache)
    assert applied.key != suite.key
    assert {question.metric for question in applied.questions} == {METRICS["numeric_match"].label}
    assert cache.suites.get("scripted") == applied
    assert cache.suites.cost_unit(applied.key)
    assert not cache.scores.missing(applied.key, [(question.key, question.metric) for question in applied.questions])
    assert content(cache)["generations"] == generations
    assert rescoring.apply_suite_file(applied, config, cache) is applied
    with pytest.raises(SuiteError, match="Generate what is new first"):
        rescoring.apply_suite_file(applied, suite_config(horizon=3), cache)
    assert cache.suites.get("scripted") == applied


OWN_METRIC = """
from toolkit.tasks import Benchmark, Item, Score, metric

@metric("is_short", version=1)
def is_short(response, reference):
    return Score(float(len(response) < 9), response)

ITEMS = [Item(str(n), f"Say {n}.", (str(n),)) for n in range(4)]
MINE = Benchmark(name="mine", version="1", field="qa", metric="is_short", licence="", load=lambda: ITEMS)
"""


def test_the_metric_of_a_benchmark_file_is_scored_if_the_suite_file_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METRICS, "_loaded", dict(METRICS._loaded))
    (tmp_path / "mine.py").write_text(OWN_METRIC)
    config = suite_config(benchmarks=[{"name": "mine", "file": "mine.py"}], horizon=1)
    suite = resolve_config(config, tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(lambda model, prompt: model), encode=encode)
    (tmp_path / "scripted.toml").write_text(
        'name = "scripted"\nhorizon = 1\n'
        + "".join(
            f'[[models]]\nname = "{model.name}"\nbase_rate = {model.base_rate}\nsystem_prompt = "{model.system_prompt}"\n'
            f'checkpoint = "made/up"\nrevision = "{"0" * 40}"\ndtype = "float32"\nmax_tokens = 16\n'
            for model in config.models
        ).replace('system_prompt = "None"\n', "")
        + '[[benchmarks]]\nname = "mine"\nfile = "mine.py"\nmetrics = ["exact_match"]\n'
        + '[engine]\nname = "scripted"\nbatch_tokens = 500\n'
    )
    arguments = ["--cache", str(cache.path), "--format", "csv"]
    monkeypatch.delitem(METRICS._loaded, "is_short")  # as in a new process
    with pytest.raises(SuiteError, match=r"'is_short' of benchmark mine is not registered.*use the suite file"):
        toolkit("score", "scripted", *arguments)
    with pytest.raises(SuiteError, match=r"no metric 'is_shot'.*name the suite file"):
        toolkit("score", "scripted", "--metric", "is_shot", *arguments)
    with pytest.raises(BenchmarkError, match=r"loading it runs its code"):
        toolkit("score", str(tmp_path / "scripted.toml"), *arguments)
    monkeypatch.setenv("TOOLKIT_TRUST", "1")
    done = toolkit("score", str(tmp_path / "scripted.toml"), *arguments)
    assert "is_short@1,8,0,8" in done.stdout
    assert "exact_match@1,8,8,0" in done.stdout
