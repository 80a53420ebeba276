"""Live routing takes the path that the environment takes, generates nothing twice, and leaves the cache whole."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.live.conftest import Script
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core import tree
from toolkit.core.errors import CheckpointError, NoResponseError, PolicyError
from toolkit.core.workspace import Workspace
from toolkit.engines import open_engine
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.live import LivePool
from toolkit.live.pool import LIVE
from toolkit.replay.exact import most_probable
from toolkit.replay.table import TransitionTable, load_table
from toolkit.routing.route import Route, run
from toolkit.routing.router import Router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig, SuiteConfig, TrainConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.suite import Suite

NEW = "What is the colour of the sky over 3 + 4 hills?"


def refuse(*_: object) -> Any:
    raise AssertionError("something was loaded although everything is cached")


def walk(router: Router, table: TransitionTable, row: int, alpha: float | None = None) -> list[tuple[str, list[float], float]]:
    """Follow the greedy router through a row of the table: each action, its probabilities, and the cost so far."""
    [probabilities] = router.probabilities(table, np.array([row]), alpha)
    node, steps = 0, []
    while node < table.n_decision_nodes:
        action = int(most_probable(probabilities[node]).argmax())
        name = (*table.models, "stop")[action]
        steps.append((name, probabilities[node].tolist(), float(table.cost[row, node])))
        if name == "stop":
            break
        node = node * table.n_models + 1 + action
    return steps


def live_steps(route: Route | Exception) -> list[tuple[str, list[float], float]]:
    assert isinstance(route, Route)
    steps, cost = [], 0.0
    for hop in route.hops:
        steps.append((hop.decision.action, list(hop.decision.probabilities.values()), cost))
        cost += hop.response.cost
    return steps if route.stop is None else [*steps, (route.stop.action, list(route.stop.probabilities.values()), cost)]


def assert_same_steps(live: list[tuple[str, list[float], float]], replayed: list[tuple[str, list[float], float]]) -> None:
    assert [action for action, _, _ in live] == [action for action, _, _ in replayed]
    for (_, probabilities, cost), (_, expected, expected_cost) in zip(live, replayed, strict=True):
        assert probabilities == pytest.approx(expected, abs=1e-6)
        assert cost == pytest.approx(expected_cost)


def filled(suite: Suite, cache: Cache, script: Any = None) -> Cache:
    engine = scripted(script or right_answers(suite))
    generate(suite, cache, Workspace(cache.path.parent, cache.path.parent), engine=engine, encode=encode)
    return cache


MODELS = suite_config().models
THREE = [m.model_dump(exclude_unset=True) for m in MODELS]
THREE.append(THREE[0] | {"name": "third", "system_prompt": "third"})
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({}, {}),
    "may stop": ({}, {"allow_stop": True, "alpha": 0.3}),
    "blind": ({}, {"blind": True}),
    "conditioned": ({}, {"alphas": (0.0, 0.5)}),
    "contexts": ({"features": {"text": "context"}}, {}),
    "without an encoder": ({"features": {"encoder": "none"}}, {}),
    "three hops of a tree": ({"horizon": 3, "tree": {"repeat": False}, "models": THREE}, {"allow_stop": True}),
    "several samples": (
        {"samples": 2, "models": [m.model_dump(exclude_unset=True) | {"temperature": 1.0} for m in MODELS]},
        {},
    ),
    "ppo": ({}, {"algorithm": "ppo"}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_cached_question_takes_the_path_of_the_environment_and_loads_nothing(name: str, tmp_path: Path) -> None:
    changes, settings = SETTINGS[name]
    suite = resolve_config(suite_config(**changes), tmp_path)
    cache = filled(suite, Cache(tmp_path / "c.duckdb"), None if len(suite.models) == 2 else Script())
    config = TrainConfig.model_validate({"algorithm": "exact", "timesteps": 1500} | settings)
    router, table = Router.load(train(suite, cache, config, 0, tmp_path).path), load_table(cache, suite)
    before = cache.query("engines").to_pylist()
    for alpha in (0.0, 0.5) if router.conditioned else (None,):
        with LivePool(suite, cache, engine=refuse, encode=refuse) as pool:
            routes = run(router, [question.prompt for question in suite.questions], pool, alpha)
        for number, route in enumerate(routes):
            assert_same_steps(live_steps(route), walk(router, table, number * suite.config.samples, alpha))
            assert isinstance(route, Route)
            assert route.is_cached
    assert cache.query("engines").to_pylist() == before


def test_masked_responses_are_masked_live_too(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(incomplete="mask"), tmp_path)
    respond = right_answers(suite)

    class Failing(Script):
        def __call__(self, model: str, prompt: Any) -> str:
            if prompt.seed % 4 == 0:
                raise ValueError("no response today")
            return respond(model, prompt)

    cache = filled(suite, Cache(tmp_path / "c.duckdb"), Failing())
    table = load_table(cache, suite)
    assert table.available is not None
    router = Router.load(train(suite, cache, TrainConfig(algorithm="exact", timesteps=1500), 0, tmp_path).path)
    rows = [row for row in range(len(suite.questions)) if table.available[row, 0]]
    with LivePool(suite, cache, engine=refuse, encode=refuse) as pool:
        for row in rows:
            mask = pool.available(suite.questions[row].prompt)
            assert mask is not None
            assert mask.tolist() == table.available[row].tolist()
            assert_same_steps(live_steps(router.run(suite.questions[row].prompt, pool)), walk(router, table, row))
    assert len(rows) < len(suite.questions) or not table.available.all()


def wider(suite: Suite, **changes: Any) -> SuiteConfig:
    """The same suite with more questions."""
    benchmarks = [{"name": entry.name, "limit": 12} for entry in suite.config.benchmarks]
    return suite_config(benchmarks=benchmarks, **changes)


def test_a_new_question_takes_the_path_through_its_whole_tree(
    suite: Suite, cache: Cache, router: Router, tmp_path: Path
) -> None:
    wide = resolve_config(wider(suite), tmp_path)
    script, known = right_answers(wide), {question.prompt for question in suite.questions}
    new = [question.prompt for question in wide.questions if question.prompt not in known]
    whole = filled(wide, Cache(tmp_path / "wide.duckdb"), script)
    table, unit, wide_unit = load_table(whole, wide), cache.suites.cost_unit(suite.key), whole.suites.cost_unit(wide.key)
    assert unit
    assert wide_unit
    table = replace(table, hop_cost=table.hop_cost * (wide_unit / unit))  # in the units that the router was trained in
    with LivePool(suite, cache, engine=scripted(script), encode=encode) as pool:
        routes = run(router, new, pool)
    assert len(new) == 12
    for question, route in zip(new, routes, strict=True):
        assert isinstance(route, Route)
        row = table.questions.index(question)
        assert_same_steps(live_steps(route), walk(router, table, row))
        path = tuple(table.models.index(name) for name in route.path)
        assert route.cost == pytest.approx(table.cost[row, tree.node_of(path, table.n_models)])
        assert not route.is_cached


def test_with_real_models_a_new_question_takes_the_path_through_its_whole_tree(
    llama: Path, encoder: Path, tmp_path: Path
) -> None:
    model = {"checkpoint": str(llama), "dtype": "float32", "max_tokens": 6, "base_rate": 1.0}
    changes: dict[str, Any] = {
        "models": [model | {"name": "plain"}, model | {"name": "brief", "system_prompt": "Be brief.", "base_rate": 2.0}],
        "features": {"encoder": {"checkpoint": str(encoder)}},
        "engine": {"name": "transformers", "device": "cpu", "batch_tokens": 1000},
    }
    small = [{"name": "addition", "limit": 6}]
    workspace = Workspace(tmp_path, tmp_path / "weights")
    suite = resolve_config(suite_config(**changes, benchmarks=small), tmp_path)
    wide = resolve_config(suite_config(**changes, benchmarks=[{"name": "addition", "limit": 9}]), tmp_path)
    cache, whole = Cache(tmp_path / "c.duckdb"), Cache(tmp_path / "wide.duckdb")
    generate(suite, cache, workspace)
    generate(wide, whole, workspace)
    router = Router.load(train(suite, cache, TrainConfig(algorithm="exact", timesteps=1000), 0, tmp_path).path)
    table, unit, wide_unit = load_table(whole, wide), cache.suites.cost_unit(suite.key), whole.suites.cost_unit(wide.key)
    assert unit
    assert wide_unit
    table = replace(table, hop_cost=table.hop_cost * (wide_unit / unit))
    with LivePool(suite, cache, workspace) as pool:
        for question in wide.questions[6:]:
            route = router.run(question.prompt, pool)
            assert_same_steps(live_steps(route), walk(router, table, table.questions.index(question.prompt)))
            assert not route.is_cached
        again = router.run(wide.questions[6].prompt, pool)
    assert again.is_cached
    tiny.make_llama(llama.parent / "other", seed=5)
    (tmp_path / "elsewhere").mkdir()
    other = suite.config.model_copy(
        update={
            "models": tuple(
                entry.model_copy(update={"checkpoint": str(llama.parent / "other")}) for entry in suite.config.models
            )
        }
    )
    with LivePool(replace(suite, config=other), cache, workspace) as pool, pytest.raises(CheckpointError, match="not those"):
        router.run("What is 1 + 1?", pool)  # nothing is cached under the key of other weights


def test_asking_again_generates_nothing(suite: Suite, cache: Cache, router: Router, script: Script) -> None:
    with LivePool(suite, cache, engine=scripted(script), encode=encode) as pool:
        first = router.run(NEW, pool)
        assert router.run(NEW, pool).is_cached
    assert not first.is_cached
    assert set(script.prompts.values()) == {1}
    assert len(script.prompts) == 2
    with LivePool(suite, cache, engine=refuse, encode=refuse) as pool:
        again = router.run(NEW, pool)
    assert again.is_cached
    assert (again.path, again.response, again.cost) == (first.path, first.response, first.cost)


def test_the_same_question_side_by_side_is_generated_once(suite: Suite, cache: Cache, router: Router, script: Script) -> None:
    with LivePool(suite, cache, engine=scripted(script), encode=encode) as pool:
        routes = run(router, [NEW] * 5, pool)
    assert len({route.response for route in routes if isinstance(route, Route)}) == 1
    assert set(script.prompts.values()) == {1}
    assert [finding for finding in verify(cache) if finding.wrong] == []


def test_generate_reuses_what_live_routing_generated(
    suite: Suite, cache: Cache, router: Router, script: Script, tmp_path: Path
) -> None:
    wide = resolve_config(wider(suite), tmp_path)
    new = wide.questions[8]
    assert new.prompt not in {question.prompt for question in suite.questions}
    with LivePool(suite, cache, engine=scripted(script), encode=encode) as pool:
        router.run(new.prompt, pool)
    filled(wide, cache, script)
    assert set(script.prompts.values()) == {1}
    load_table(cache, wide)  # is whole: nodes, scores and embeddings


def test_live_routing_fills_what_a_suite_is_missing(suite: Suite, router: Router, script: Script, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "part.duckdb")
    filled(suite, cache, script)
    with cache.write() as con:  # as if generate had been stopped in the middle of the second hop
        con.execute("DELETE FROM nodes WHERE depth = 2 AND question = ?", [suite.questions[0].key])
    with LivePool(suite, cache, engine=scripted(script), encode=encode) as pool:
        assert router.run(suite.questions[0].prompt, pool).is_cached  # of another node with the same prompt, or this one's own
    assert cache.suites.count_nodes(suite).missing == 3
    filled(suite, cache, script)
    assert set(script.prompts.values()) == {1}
    load_table(cache, suite)


def test_the_cache_stays_whole(suite: Suite, cache: Cache, router: Router, script: Script, tmp_path: Path) -> None:
    before = cache.suites.progress(suite.name)
    with LivePool(suite, cache, engine=scripted(script), encode=encode) as pool:
        router.run(NEW, pool)
        router.run("Another, \x00 with \ud800 odd characters?", pool)
    assert [finding for finding in verify(cache) if finding.wrong] == []
    assert cache.suites.progress(suite.name) == before
    assert len(cache.frame("SELECT * FROM questions WHERE benchmark = ?", [LIVE])) == 2
    cache.transfer.export(tmp_path / "out")
    copy = Cache(tmp_path / "copy.duckdb")
    copy.create()
    copy.transfer.merge(tmp_path / "out")
    with LivePool(suite, copy, engine=refuse, encode=refuse) as pool:
        assert router.run(NEW, pool).is_cached
    assert {row.table: row.unused for row in cache.housekeeping.unused()} | {"embeddings": 0} == {
        "suites": 0, "suite_models": 0, "suite_questions": 0, "suite_paths": 0, "runs": 0, "evaluations": 0, "decisions": 0,
        "nodes": 6, "generations": 4, "scores": 0, "embeddings": 0, "questions": 2, "models": 0,
    }  # fmt: skip
    cache.housekeeping.prune()
    assert [finding for finding in verify(cache) if finding.wrong] == []
    assert cache.suites.progress(suite.name) == before


def test_responses_are_spooled_while_others_hold_the_file(
    suite: Suite, cache: Cache, router: Router, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.live.pool.MAX_WAIT_SECONDS", 0.05)
    holding, release = threading.Event(), threading.Event()
    holder: list[threading.Thread] = []

    def hold() -> None:
        with Cache(cache.path).read():
            holding.set()
            release.wait(30)

    def hold_the_file(prompt: object) -> None:
        if not holder:
            holder.append(threading.Thread(target=hold))
            holder[0].start()
            assert holding.wait(30)

    script.broken = hold_the_file
    with LivePool(suite, cache, engine=scripted(script), encode=encode) as pool:
        first = router.run(NEW, pool)
        assert cache.generations.spool.files()
        assert router.run(NEW, pool).response == first.response
        release.set()
        holder[0].join()
        router.run("Something else?", pool)
    assert not cache.generations.spool.files()
    assert set(script.prompts.values()) == {1}
    assert [finding for finding in verify(cache) if finding.wrong] == []
    with LivePool(suite, cache, engine=scripted(script), encode=refuse) as pool:
        again = router.run(NEW, pool)  # its nodes are added now, from its generations
    assert again.is_cached
    assert set(script.prompts.values()) == {1}


def test_one_bad_question_costs_no_other_its_route(suite: Suite, cache: Cache, router: Router, script: Script) -> None:
    def fail(prompt: Any) -> None:
        if "bad" in prompt.text:
            raise ConnectionError("the server is down")

    script.broken = fail
    with LivePool(suite, cache, engine=scripted(script), encode=encode) as pool:
        bad, good, long = run(router, ["bad?", "good?", "long " * 9000], pool)
        assert isinstance(good, Route)
        assert isinstance(bad, NoResponseError)
        assert bad.transient
        assert "the server is down" in str(bad)
        assert isinstance(long, NoResponseError)
        assert long.overlength
        script.broken = lambda prompt: None
        assert router.run("bad?", pool).response
    assert [finding for finding in verify(cache) if finding.wrong] == []


def test_an_engine_that_breaks_is_opened_again(suite: Suite, cache: Cache, router: Router, script: Script) -> None:
    def fail(prompt: Any) -> None:
        raise ConnectionError("the server is down")

    script.broken = fail
    opened = []

    def engine(config: EngineConfig, model: ModelConfig, workspace: Workspace) -> ScriptedEngine:
        opened.append(model.name)
        return ScriptedEngine(config, model, workspace, script)

    with LivePool(suite, cache, engine=engine, encode=encode) as pool:
        failures = run(router, [f"What is {number} + 1?" for number in range(12)], pool)
        assert all(isinstance(failure, NoResponseError) for failure in failures)
        script.broken = lambda prompt: None
        assert router.run("What is 5 + 1?", pool).response
    assert len(opened) > 1


def test_no_more_models_are_in_memory_than_may_be(suite: Suite, cache: Cache, script: Script, router: Router) -> None:
    resident: set[str] = set()

    class Counted(ScriptedEngine):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            resident.add(self.model.name)
            assert len(resident) == 1

        def close(self) -> None:
            resident.remove(self.model.name)

    with LivePool(suite, cache, engine=lambda *args: Counted(*args, script=script), encode=encode, limit=1) as pool:
        for number in range(4):
            router.run(f"What is {number} + 1 of the words?", pool)
    assert not resident


def test_decide_needs_texts_alone(suite: Suite, cache: Cache, table: TransitionTable, router: Router) -> None:
    question = suite.questions[3].prompt
    steps = walk(router, table, 3)
    first = router.decide(question, encode=encode)
    assert first.action == steps[0][0]
    assert list(first.probabilities.values()) == pytest.approx(steps[0][1], abs=1e-6)
    with LivePool(suite, cache, engine=refuse, encode=refuse) as pool:
        response = router.run(question, pool).hops[0].response
    second = router.decide(question, [(response.model, response.text, response.cost)], encode=encode)
    assert list(second.probabilities.values()) == pytest.approx(steps[1][1], abs=1e-6)
    with pytest.raises(PolicyError, match="did you mean 'sums'"):
        router.decide(question, [("sum", "4")], encode=encode)
    with pytest.raises(PolicyError, match="2 hops"):
        router.decide(question, [("sums", "4"), ("sums", "4")], encode=encode)


def test_the_default_engine_is_the_suites(suite: Suite, cache: Cache, router: Router) -> None:
    assert suite.config.engine.name == "scripted"
    with LivePool(suite, cache, engine=open_engine, encode=encode) as pool:
        assert router.run(NEW, pool).response.startswith("Answer: ")
