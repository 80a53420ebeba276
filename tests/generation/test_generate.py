from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.content import content
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.progress import NoProgress
from toolkit.core.workspace import Workspace
from toolkit.engines import BatchTooLargeError, Completion, Prompt
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.generate import generate
from toolkit.generation.plan import plan
from toolkit.generation.state import GenerationReport
from toolkit.report.status import render
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.suite import Suite


class StopAfter(NoProgress):
    """Stops after a number of batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def advance(self, nodes: int) -> None:
        self.left -= 1

    def stopped(self) -> bool:
        return self.left <= 0


class RecordingEngine(ScriptedEngine):
    """Records the batches that it is given."""

    batches: list[list[Prompt]]

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        self.batches.append(list(prompts))
        return super().generate(prompts)


def run(suite: Suite, path: Path, **options: Any) -> tuple[Cache, GenerationReport, list[list[Prompt]]]:
    batches: list[list[Prompt]] = []

    def open_engine(engine: EngineConfig, model: ModelConfig, workspace: Workspace) -> ScriptedEngine:
        recording = RecordingEngine(engine, model, workspace, right_answers(suite))
        recording.batches = batches
        return recording

    cache = Cache(path)
    report = generate(suite, cache, Workspace(path.parent, path.parent), engine=open_engine, encode=encode, **options)
    return cache, report, batches


def test_every_node_exists_once_and_as_planned(suite: Suite, tmp_path: Path) -> None:
    planned = plan(suite, None)
    cache, report, batches = run(suite, tmp_path / "c.duckdb")
    assert planned.nodes == planned.missing == 24 * (2 + 4)
    assert cache.arrow("SELECT count(*) AS n, count(DISTINCT node) AS d FROM nodes WHERE depth > 0").to_pylist() == [
        {"n": planned.nodes, "d": planned.nodes}
    ]
    assert report.generated + report.shared == planned.nodes
    assert report.generated == sum(map(len, batches)) == cache.arrow("FROM generations").num_rows
    assert {(p.depth, p.model, p.benchmark): p.nodes for p in planned.rows} == {
        (p.depth, p.model, p.benchmark): p.done for p in cache.suites.progress(suite.name)
    }
    assert plan(suite, cache).missing == 0


def test_equal_prompts_are_generated_once_and_shared(suite: Suite, tmp_path: Path) -> None:
    engine = scripted(lambda model, prompt: "same")
    cache = Cache(tmp_path / "c.duckdb")
    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=engine, encode=encode)
    # At hop 2 both parents of a question have the same response, so each model has one prompt instead of two.
    assert (report.generated, report.shared) == (24 * 4, 24 * 2)
    assert plan(suite, cache).saved == 24 * 2
    assert f"({24 * 2} saved)" in render(cache, suite.name)
    by_prompt = cache.arrow("SELECT g.model, g.prompt, count(*) AS n FROM generations AS g GROUP BY ALL")
    assert set(by_prompt["n"].to_pylist()) == {1}


def test_batches_keep_to_the_token_budget_and_siblings_meet(suite: Suite, tmp_path: Path) -> None:
    _, _, batches = run(suite, tmp_path / "c.duckdb")
    token_budget = suite.config.engine.token_budget
    for batch in batches:
        assert len(batch) == 1 or len(batch) * (max(p.tokens for p in batch) + 16) <= token_budget
    questions_of = {question.prompt: question.key for question in suite.questions}
    texts = sorted(questions_of, key=len, reverse=True)
    asked = [[questions_of[next(text for text in texts if text in prompt.text)] for prompt in batch] for batch in batches]
    runs = [len(list(groupby(questions))) for questions in asked]
    assert runs == [len(set(questions)) for questions in asked]
    assert any(n_runs < len(questions) for n_runs, questions in zip(runs, asked, strict=True))


def test_a_finished_suite_generates_nothing(suite: Suite, tmp_path: Path) -> None:
    cache, _, _ = run(suite, tmp_path / "c.duckdb")
    before = content(cache)
    _, report, batches = run(suite, tmp_path / "c.duckdb")
    assert (report.generated, batches) == (0, [])
    assert content(cache) == before


@pytest.mark.parametrize("stops", [1, 3, 7])
def test_a_stopped_run_continues_to_the_same_content(stops: int, suite: Suite, tmp_path: Path) -> None:
    complete, _, undisturbed = run(suite, tmp_path / "complete.duckdb")
    resumed: list[list[Prompt]] = []
    for _ in range(200):
        cache, report, batches = run(suite, tmp_path / "parts.duckdb", progress=StopAfter(stops))
        assert report.stopped is bool(report.generated + report.shared) or not report.stopped
        resumed += batches
        if not report.stopped:
            break
    assert resumed == undisturbed  # the same batches, in the same order
    assert content(cache) == content(complete)


def test_out_of_memory_halves_the_batch_and_is_remembered(suite: Suite, tmp_path: Path) -> None:
    refused: list[bool] = []

    class Small(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            refused.append(len(prompts) * (max(prompt.tokens for prompt in prompts) + 16) > 150)
            if refused[-1]:
                raise BatchTooLargeError("150 tokens at most")
            return super().generate(prompts)

    complete, _, _ = run(suite, tmp_path / "complete.duckdb")
    cache = Cache(tmp_path / "small.duckdb")
    script = right_answers(suite)
    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=partial(Small, script=script), encode=encode)
    assert report.failed == 0
    assert content(cache) == content(complete)
    assert refused[:3] == [True, True, False]  # 500 tokens, then 250, then 125
    assert not any(refused[3:])


def test_a_failure_is_a_row_that_blocks_its_subtree_and_is_retried_on_request(suite: Suite, tmp_path: Path) -> None:
    failing = suite.questions[0].prompt

    class Full(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            if any(failing in prompt.text for prompt in prompts) and self.model.name == "sums":
                raise BatchTooLargeError("no room")
            return super().generate(prompts)

    cache = Cache(tmp_path / "c.duckdb")
    script = right_answers(suite)
    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=partial(Full, script=script), encode=encode)
    assert report.failed == 2  # by sums at hop 1, and after words at hop 2
    failed = cache.arrow("SELECT path, response, quality, cost, error FROM transitions WHERE status = 'error' ORDER BY depth")
    assert failed["path"].to_pylist() == [["sums"], ["words", "sums"]]
    assert set(failed["response"].to_pylist() + failed["quality"].to_pylist() + failed["cost"].to_pylist()) == {None}
    assert failed["error"][0].as_py().startswith("out of memory")
    assert sum(row.missing for row in cache.suites.progress(suite.name)) == 2  # the children of the first
    _, again, batches = run(suite, tmp_path / "c.duckdb")
    assert (again.generated, batches) == (0, [])
    _, retried, _ = run(suite, tmp_path / "c.duckdb", retry=True)
    assert retried.generated == 4
    complete, _, _ = run(suite, tmp_path / "complete.duckdb")
    assert content(cache) == content(complete)


def test_a_context_that_does_not_fit_drops_the_oldest_response_or_fails_as_the_suite_says(tmp_path: Path) -> None:
    for policy, dropped, failed in (("drop_oldest", 1, 0), ("error", 0, 8 * 2)):
        config = suite_config(prompts={"overlength": policy}, benchmarks=[{"name": "addition", "limit": 8}])
        models = [model.model_copy(update={"context_length": 30}) for model in config.models]
        suite = resolve_config(config.model_copy(update={"models": tuple(models)}), tmp_path)
        cache = Cache(tmp_path / f"{policy}.duckdb")
        report = generate(
            suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(lambda model, prompt: "so " * 9), encode=encode
        )
        assert report.failed == failed
        rows = cache.arrow("SELECT dropped_responses, status, error FROM transitions WHERE depth = 2").to_pylist()
        assert {row["dropped_responses"] for row in rows} == {dropped}
        assert {row["status"] for row in rows} == {"error" if failed else "ok"}
        assert all(row["error"].startswith("overlength") for row in rows if failed)


def test_sampling_keeps_k_distinct_trees(tmp_path: Path) -> None:
    base = suite_config()
    models = tuple(model.model_copy(update={"temperature": 1.0}) for model in base.models)
    suite = resolve_config(base.model_copy(update={"models": models, "samples": 3}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    engine = scripted(lambda model, prompt: f"{model} {prompt.seed % 10_000}")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=engine, encode=encode)
    rows = cache.arrow("SELECT question, path, count(DISTINCT response) AS d FROM transitions GROUP BY ALL").to_pylist()
    assert {row["d"] for row in rows} == {3}


def test_decision_texts_are_embedded_once_each(cache: Cache, suite: Suite) -> None:
    texts = cache.arrow("SELECT count(*) AS n, count(DISTINCT text) AS d FROM embeddings").to_pylist()[0]
    responses = cache.arrow("SELECT DISTINCT response FROM transitions WHERE depth < 2")["response"].to_pylist()
    assert texts["n"] == texts["d"] == len({*responses, *(question.prompt for question in suite.questions)})
