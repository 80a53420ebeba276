"""A suite with `[tree]` generates the nodes that exist and no others, is used like any suite, and widens at no cost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.errors import IncompleteCacheError
from toolkit.core.workspace import Workspace
from toolkit.engines.scripted import Script
from toolkit.generation.budget import Budget
from toolkit.generation.generate import generate
from toolkit.generation.plan import plan
from toolkit.generation.question_groups import complete_questions
from toolkit.generation.state import GenerationReport, Shard
from toolkit.outcomes.export_long import long_tables
from toolkit.outcomes.suite_results import read_suite_results
from toolkit.replay.table import load_table
from toolkit.report import plan as plan_report
from toolkit.report.question import render, tree_of
from toolkit.routing.coverage import COMPLETE, coverage
from toolkit.routing.evaluate import evaluate
from toolkit.routing.router import load_router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.suite import Suite

TREE = {"paths": (("sums", "words"), ("words", "sums"), ("words", "words"))}
QUESTIONS = 24


def make(folder: Path, tree: dict[str, Any] | None = None, **changes: Any) -> Suite:
    return resolve_config(suite_config(**({"tree": tree} if tree else {}), **changes), folder)


def fill(suite: Suite, cache: Cache, folder: Path, **options: Any) -> tuple[GenerationReport, list[str]]:
    """Generate; return the report, and the model of every prompt that an engine has seen."""
    respond, seen = right_answers(suite), []

    def script(model: str, prompt: Any) -> str:
        seen.append(model)
        return respond(model, prompt)

    follow: Script = script
    report = generate(suite, cache, Workspace(folder, folder), engine=scripted(follow), encode=encode, **options)
    return report, seen


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("narrow")
    cache = Cache(folder / "c.duckdb")
    fill(make(folder, TREE), cache, folder)
    return cache.path


@pytest.fixture
def cache(narrow: Path, tmp_path: Path) -> Cache:
    return Cache(shutil.copy(narrow, tmp_path / "c.duckdb"))


def test_the_nodes_that_exist_are_generated_and_no_others(cache: Cache, tmp_path: Path) -> None:
    suite = make(tmp_path, TREE)
    paths = cache.arrow("SELECT path, count(*)::INTEGER AS n FROM transitions GROUP BY path ORDER BY path").to_pylist()
    nodes = [["sums"], ["sums", "words"], ["words"], ["words", "sums"], ["words", "words"]]
    assert [(row["path"], row["n"]) for row in paths] == [(path, QUESTIONS) for path in nodes]
    [[n_nodes]] = [row.values() for row in cache.arrow("SELECT count(*) FROM nodes WHERE depth > 0").to_pylist()]
    assert n_nodes == len(nodes) * QUESTIONS
    counts = cache.suites.count_nodes(suite)
    assert (counts.nodes, counts.done, counts.missing, counts.is_complete) == (120, 120, 0, True)
    progress = cache.suites.progress(suite.name)
    assert {(row.depth, row.model) for row in progress if row.nodes == 8 and not row.missing} == {
        (1, "sums"),
        (1, "words"),
        (2, "sums"),
        (2, "words"),
    } - {(2, "words")}
    assert complete_questions(suite, cache) == {question.key for question in suite.questions}
    complete = cache.arrow("SELECT DISTINCT path FROM paths ORDER BY path").to_pylist()
    assert [row["path"] for row in complete] == [path for path in nodes if len(path) == 2]


def test_a_tree_is_loaded_trained_on_and_evaluated_without_a_word_of_missing_responses(
    cache: Cache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    suite = make(tmp_path, TREE)
    table = load_table(cache, suite)
    assert "masked" not in caplog.text
    assert (table.lacks_responses, coverage(table, "test")) == (False, COMPLETE)
    settings = suite.config.train.changed({"algorithm": "exact", "exact": {"n_epochs": 2}})
    trained = train(suite, cache, settings, 0, tmp_path / "runs")
    evaluation, _ = evaluate(table, load_router(trained.path), "test", dict.fromkeys(table.benchmarks, False))
    taken = {path for result in evaluation.results for path in result.paths}
    assert taken == {"sums", "words", "sums > words", "words > sums", "words > words"}
    assert "sums x2" not in {result.policy for result in evaluation.results}
    assert {result.questions for result in evaluation.results if result.benchmark == "overall"} == {len(table.rows("test"))}


def test_widening_generates_what_is_new_and_narrowing_nothing(cache: Cache, tmp_path: Path) -> None:
    whole = make(tmp_path)
    missing = plan(whole, cache)
    assert (missing.nodes, missing.missing) == (144, 24)
    with pytest.raises(IncompleteCacheError):
        load_table(cache, whole)
    report, seen = fill(whole, cache, tmp_path)
    assert report.generated + report.shared == QUESTIONS
    assert set(seen) == {"sums"}
    assert load_table(cache, whole).available is None
    for tree in ({"repeat": False}, {"hops": {"1": ("words",)}}):
        narrowed = make(tmp_path, tree)
        assert plan(narrowed, cache).missing == 0
        cache.suites.record(narrowed)
        assert load_table(cache, narrowed).quality.any()
        assert complete_questions(narrowed, cache) == {question.key for question in narrowed.questions}


def test_a_failed_node_that_exists_is_still_missing(tmp_path: Path) -> None:
    suite, cache = make(tmp_path, TREE), Cache(tmp_path / "c.duckdb")
    respond = right_answers(suite)

    def failing(model: str, prompt: Any) -> str | None:
        return None if model == "words" and suite.questions[0].prompt in prompt.text else respond(model, prompt)

    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(failing), encode=encode)  # type: ignore[arg-type]
    with pytest.raises(IncompleteCacheError, match="4 of 120 nodes"):
        load_table(cache, suite)
    for setting in ("exclude question", "mask"):  # every path has a response of `words`
        suite = make(tmp_path, TREE, incomplete=setting)
        cache.suites.record(suite)
        table = load_table(cache, suite)
        assert np.flatnonzero(table.split == "excluded").tolist() == [0]
        assert not table.available[1:, ~table.exists].any()  # type: ignore[index, operator]


def test_shards_and_budgets_complete_trees_that_exist(tmp_path: Path) -> None:
    suite, cache = make(tmp_path, TREE), Cache(tmp_path / "c.duckdb")
    fill(suite, cache, tmp_path, budget=Budget(2000, "tokens"))
    part = complete_questions(suite, cache)
    assert 0 < len(part) < QUESTIONS
    for number in (1, 2):
        fill(suite, cache, tmp_path, shard=Shard(number, 2))
    assert cache.suites.count_nodes(suite).is_complete


def test_a_plan_says_what_the_tree_saves(cache: Cache, tmp_path: Path) -> None:
    suite = make(tmp_path, TREE)
    planned = plan(suite, cache)
    assert (planned.nodes, planned.missing, planned.left_out) == (120, 0, QUESTIONS)
    mean = cache.generations.means()[None, suite.models[0].key, 2]
    assert planned.left_out_tokens == pytest.approx((QUESTIONS * mean.prompt_tokens, QUESTIONS * mean.completion_tokens))
    text = plan_report.render(planned, suite, "toolkit profile", cache.path)
    assert "[tree] leaves out 24 of the 144 nodes of the complete tree, about" in text
    only = make(tmp_path, {"hops": {"1": ("words",), "2": ("words",)}})
    assert "On no path of [tree], and so never asked: sums." in plan_report.render(plan(only, None), only, "", cache.path)


def test_a_tree_is_shown_and_exported(cache: Cache, tmp_path: Path) -> None:
    fill(make(tmp_path, {"hops": {"1": ("words",)}}), cache, tmp_path)
    suite = make(tmp_path, {"hops": {"1": ("words",)}})
    question = suite.questions[0]
    shown = [
        line.split("  [")[0] for line in render(tree_of(cache, f"{question.benchmark}/{question.item}", None, 0)).split("\n")
    ]
    assert [line[2:] for line in shown if line.strip(" *") in ("sums", "words")] == ["words", "    sums", "    words"]
    results = read_suite_results(cache, suite)
    assert results.n_missing == 0
    assert set(results.complete_paths()) == {"words > sums", "words > words"}
    rows = [row for table in long_tables(results) for row in table.to_pylist()]
    assert {(row["model"], row["path"]) for row in rows} == {
        ("words", "words"),
        ("sums", "words > sums"),
        ("words", "words > words"),
    }
