"""Plans and calibrations, recomputed from an engine whose pace is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.generation.test_generate import run
from tests.scripted import resolve_config, suite_config
from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, OpenEngine, Prompt
from toolkit.engines.memory import memory
from toolkit.engines.scripted import ScriptedEngine
from toolkit.engines.transformers import TransformersEngine
from toolkit.generation.budget import dollars
from toolkit.generation.plan import Plan, plan
from toolkit.generation.profile import profile_engine
from toolkit.generation.profiles import EngineProfile, load_profiles, save_profile
from toolkit.suites.config import ModelConfig
from toolkit.suites.suite import Suite

READ, WRITTEN, LOADING = 0.0004, 0.004, 0.2
"""Seconds of a prompt token, of an answer's token, and until the first one."""


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> OpenEngine:
    """Opens engines that take a known time for every token, by a clock of their own, and answer with eight tokens."""
    clock = [0.0]
    monkeypatch.setattr("toolkit.generation.profile.time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Paced(ScriptedEngine):
        loaded = False

        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            answers = super().generate(prompts)
            written = sum(answer.completion_tokens for answer in answers) if self.model.max_tokens > 1 else 0
            clock[0] += LOADING * (not self.loaded) + READ * sum(prompt.tokens for prompt in prompts) + WRITTEN * written
            self.loaded = True
            return answers

    return lambda engine, model, workspace: Paced(model, lambda name, prompt: "one two three four five six seven eight")


def rates_of(suite: Suite, **changes: Any) -> dict[tuple[str, str], dict[UUID, EngineProfile]]:
    """Rates that are easy to reckon with."""
    rate = EngineProfile("", "", "made", "here", 1, 10.0, 4.0, 3.0, 100.0, 20.0, 1000, 500, "2026-01-01 00:00:00")
    known = {model.key: rate._replace(model=str(model.key), name=model.name, **changes) for model in suite.models}
    return {("made", "here"): known}


def test_a_calibration_finds_the_pace_of_the_engine(suite: Suite, paced: OpenEngine, tmp_path: Path) -> None:
    found = list(profile_engine(suite, Workspace(tmp_path, tmp_path), 12, engine=paced))
    assert [rate.name for rate in found] == ["sums", "words"]
    for rate in found:
        assert rate.prompts == 12
        assert rate.completion_tokens == 8
        assert rate.read == pytest.approx(1 / READ)
        assert rate.written == pytest.approx(1 / WRITTEN)
        assert LOADING < rate.loading < LOADING + READ * rate.prompt_tokens  # the shortest prompt is read with it
        assert rate.peak is None


def test_a_calibration_says_why_it_cannot_be_made(suite: Suite, tmp_path: Path) -> None:
    class Failing(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Any]:
            return [Failure("no such weather", False) for _ in prompts]

    with pytest.raises(EngineError, match="no such weather"):
        next(profile_engine(suite, Workspace(tmp_path, tmp_path), engine=lambda engine, model, workspace: Failing(model)))
    with pytest.raises(EngineError, match="too little to measure"):
        next(
            profile_engine(
                suite, Workspace(tmp_path, tmp_path), engine=lambda e, m, w: ScriptedEngine(m, lambda model, prompt: "")
            )
        )


def test_the_newest_rate_of_a_model_counts_and_other_machines_keep_theirs(suite: Suite, tmp_path: Path) -> None:
    assert load_profiles(tmp_path) == {}
    key = suite.models[0].key
    first = rates_of(suite)["made", "here"][key]
    for one in (first, first._replace(read=7.0), first._replace(machine="there", read=9.0)):
        save_profile(one, tmp_path)
    found = load_profiles(tmp_path)
    assert found["made", "here"][key].read == 7.0
    assert found["made", "there"][key].read == 9.0


def test_without_measurements_nothing_is_guessed(suite: Suite) -> None:
    made = plan(suite, None)
    assert (made.prompt_tokens, made.completion_tokens, made.storage) == (None, None, None)
    assert made.estimates == ()


def test_a_plan_by_a_calibration_is_tokens_over_rates_and_loading_once_a_hop_and_model(suite: Suite) -> None:
    priced = suite.config.engine.model_copy(update={"usd_per_hour": 7.2, "usd_per_million_tokens": {"sums": (100.0, 1000.0)}})
    priced_suite = Suite(suite.config.model_copy(update={"engine": priced}), suite.models, suite.questions, suite.encoder)
    made = plan(priced_suite, None, rates_of(suite))
    first, second = 24, 48  # answers of one model at each hop
    prompts = 2 * (first * 10 + second * 14)  # a second prompt holds the first answer's four tokens
    answers = 2 * (first + second) * 4
    assert (made.prompt_tokens, made.completion_tokens) == (prompts, answers)
    (estimate,) = made.estimates
    assert estimate.seconds == pytest.approx(prompts / 100 + answers / 20 + 4 * 3.0)
    tokens = {"sums": (prompts / 2, answers / 2)}
    assert estimate.usd == pytest.approx(dollars(estimate.seconds / 3600, 7.2, tokens, {"sums": (100.0, 1000.0)}))
    assert made.peaks == {"sums": 1000, "words": 1000}


def test_a_plan_by_the_cache_s_history_is_its_means(suite: Suite, tmp_path: Path) -> None:
    cache, _, _ = run(suite, tmp_path / "c.duckdb")
    more = suite_config(benchmarks=[{"name": name, "limit": 16} for name in ("addition", "word_reversal", "geography")])
    larger = resolve_config(more, tmp_path)
    made: Plan = plan(larger, cache)
    assert made.missing == made.nodes - 24 * 6 > 0
    (row,) = cache.arrow(
        "SELECT avg(prompt_tokens) FILTER (depth = 1) AS p1, avg(seconds) FILTER (depth = 1) AS s1,"
        " avg(prompt_tokens) FILTER (depth = 2) AS p2, avg(seconds) FILTER (depth = 2) AS s2 FROM"
        " generations JOIN (SELECT DISTINCT generation, depth FROM nodes) USING (generation)"
        f" WHERE model = '{suite.models[0].key}'"
    ).to_pylist()
    (estimate,) = [one for one in made.estimates if "cached answers" in one.source]
    halves = [sum(r.missing for r in made.rows if (r.model, r.depth) == ("sums", depth)) for depth in (1, 2)]
    ours = halves[0] * row["p1"] + halves[1] * row["p2"]
    assert made.prompt_tokens is not None
    assert 0 < ours < made.prompt_tokens
    assert estimate.seconds > halves[0] * row["s1"] + halves[1] * row["s2"] > 0
    assert made.storage == pytest.approx(made.missing * cache.path.stat().st_size / (24 * 6))


def test_memory_is_that_of_the_weights_and_of_the_keys_and_values(llama: Path, tmp_path: Path) -> None:
    config = ModelConfig(name="m", checkpoint=str(llama), dtype="float32", base_rate=1.0)
    model = AutoModelForCausalLM.from_pretrained(llama)
    found = memory(config, Workspace(tmp_path, tmp_path))
    assert found
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.weights == 4 * found.parameters
    past = model(torch.ones(1, 7, dtype=torch.long), use_cache=True).past_key_values
    assert found.token * 7 == sum(4 * (layer.keys.numel() + layer.values.numel()) for layer in past.layers)
    half = memory(config.model_copy(update={"dtype": "bfloat16"}), Workspace(tmp_path, tmp_path))
    assert half
    assert (half.weights, half.token) == (found.weights // 2, found.token // 2)
    served = ModelConfig(name="m", checkpoint="served:some-model", base_rate=1.0)
    assert memory(served, Workspace(tmp_path, tmp_path)) is None


def test_a_real_engine_is_calibrated_with_its_memory(llama: Path, tmp_path: Path) -> None:
    model = {"name": "m", "checkpoint": str(llama), "dtype": "float32", "max_tokens": 100, "base_rate": 1.0}
    config = suite_config(models=[model], engine={"device": "cpu"})
    (rate,) = profile_engine(resolve_config(config, tmp_path), Workspace(tmp_path, tmp_path), 8)
    engine = TransformersEngine(config.engine, config.models[0], Workspace(tmp_path, tmp_path))
    assert rate.engine == engine.label
    assert rate.peak is None or rate.peak > 2**27  # PyTorch alone is larger
    assert rate.model == str(resolve_config(config, tmp_path).models[0].key)
