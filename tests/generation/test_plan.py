"""Plans and profiles, recomputed from an engine whose speed is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.generation.test_generate import run
from tests.scripted import resolve_config, scripted, suite_config
from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, OpenEngine, Prompt
from toolkit.engines.memory import memory
from toolkit.engines.scripted import ScriptedEngine
from toolkit.engines.transformers import TransformersEngine
from toolkit.generation.budget import dollars
from toolkit.generation.plan import Plan, plan
from toolkit.generation.profile import EngineProfile, load_profiles, profile_engine, save_profile
from toolkit.report.plan import render
from toolkit.suites.models import ModelConfig
from toolkit.suites.suite import Suite

READ, WRITTEN, LOADING = 0.0004, 0.004, 0.2
"""Seconds per prompt token, per response token, and until the first token."""


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> OpenEngine:
    """Open engines that take a known time for every token, by a clock of their own, and respond with eight tokens."""
    clock = [0.0]
    monkeypatch.setattr("toolkit.generation.profile.time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Timed(ScriptedEngine):
        loaded = False

        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            completions = super().generate(prompts)
            written = sum(completion.completion_tokens for completion in completions) if self.model.max_tokens > 1 else 0
            clock[0] += LOADING * (not self.loaded) + READ * sum(prompt.tokens for prompt in prompts) + WRITTEN * written
            self.loaded = True
            return completions

    return partial(Timed, script=lambda name, prompt: "one two three four five six seven eight")


def profiles_of(suite: Suite) -> dict[tuple[str, str], dict[UUID, EngineProfile]]:
    """Return profiles that are easy to calculate with."""
    profiles = {
        model.key: EngineProfile(
            model=str(model.key),
            name=model.name,
            engine="engine",
            machine="laptop",
            prompts=1,
            prompt_tokens=10.0,
            completion_tokens=4.0,
            loading=3.0,
            read=100.0,
            written=20.0,
            peak=1000,
            batch_tokens=500,
            measured="2026-01-01 00:00:00",
        )
        for model in suite.models
    }
    return {("engine", "laptop"): profiles}


def test_a_profile_has_the_speed_of_the_engine(suite: Suite, timed: OpenEngine, tmp_path: Path) -> None:
    profiles = list(profile_engine(suite, Workspace(tmp_path, tmp_path), 12, engine=timed))
    assert [profile.name for profile in profiles] == ["sums", "words"]
    for profile in profiles:
        assert profile.prompts == 12
        assert profile.completion_tokens == 8
        assert profile.read == pytest.approx(1 / READ)
        assert profile.written == pytest.approx(1 / WRITTEN)
        assert LOADING < profile.loading < LOADING + READ * profile.prompt_tokens  # it includes the shortest prompt
        assert profile.peak is None


def test_an_error_says_why_there_is_no_profile(suite: Suite, tmp_path: Path) -> None:
    class Failing(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Any]:
            return [Failure("unknown prompt", False) for _ in prompts]

    with pytest.raises(EngineError, match="unknown prompt"):
        next(profile_engine(suite, Workspace(tmp_path, tmp_path), engine=Failing))
    with pytest.raises(EngineError, match="too little to measure"):
        next(profile_engine(suite, Workspace(tmp_path, tmp_path), engine=scripted(lambda model, prompt: "")))


def test_the_newest_profile_of_a_model_counts_and_other_machines_keep_theirs(suite: Suite, tmp_path: Path) -> None:
    assert load_profiles(tmp_path) == {}
    key = suite.models[0].key
    first = profiles_of(suite)["engine", "laptop"][key]
    for profile in (first, first._replace(read=7.0), first._replace(machine="server", read=9.0)):
        assert save_profile(profile, tmp_path) == tmp_path / "profiles.jsonl"
    profiles = load_profiles(tmp_path)
    assert profiles["engine", "laptop"][key].read == 7.0
    assert profiles["engine", "server"][key].read == 9.0


def test_without_measurements_nothing_is_guessed(suite: Suite) -> None:
    planned = plan(suite, None)
    assert (planned.prompt_tokens, planned.completion_tokens, planned.storage) == (None, None, None)
    assert planned.estimates == ()


def test_a_plan_by_a_profile_is_tokens_over_speeds_and_loading_once_per_hop_and_model(suite: Suite) -> None:
    priced = suite.config.engine.model_copy(update={"usd_per_hour": 7.2, "usd_per_million_tokens": {"sums": (100.0, 1000.0)}})
    priced_suite = Suite(suite.config.model_copy(update={"engine": priced}), suite.models, suite.questions, suite.encoder)
    planned = plan(priced_suite, None, profiles_of(suite))
    first, second = 24, 48  # responses of one model at each hop
    prompts = 2 * (first * 10 + second * 14)  # a second prompt holds the first response's four tokens
    responses = 2 * (first + second) * 4
    assert (planned.prompt_tokens, planned.completion_tokens) == (prompts, responses)
    (estimate,) = planned.estimates
    assert estimate.seconds == pytest.approx(prompts / 100 + responses / 20 + 4 * 3.0)
    tokens = {"sums": (prompts / 2, responses / 2)}
    assert estimate.usd == pytest.approx(dollars(estimate.seconds / 3600, 7.2, tokens, {"sums": (100.0, 1000.0)}))
    assert planned.peaks == {"sums": 1000, "words": 1000}


@pytest.mark.parametrize(
    ("engine", "hours", "told"), [("transformers 5.23.0", 2, 1), ("transformers 5.23.0", 0.9, 0), ("vllm 0.32", 2, 0)]
)
def test_a_plan_of_hours_names_the_faster_engine(engine: str, hours: float, told: int, suite: Suite) -> None:
    planned = plan(suite, None, profiles_of(suite))
    estimate = planned.estimates[0]._replace(engine=engine, seconds=hours * 3600)
    text = render(replace(planned, estimates=(estimate,)), suite, "toolkit profile scripted", Path("c.duckdb"))
    assert text.count("The engine vllm takes less time") == told


def test_a_plan_by_cached_generations_is_their_means(suite: Suite, tmp_path: Path) -> None:
    cache, _, _ = run(suite, tmp_path / "c.duckdb")
    more = suite_config(benchmarks=[{"name": name, "limit": 16} for name in ("addition", "word_reversal", "geography")])
    larger = resolve_config(more, tmp_path)
    planned: Plan = plan(larger, cache)
    assert planned.missing == planned.nodes - 24 * 6 > 0
    (row,) = cache.arrow(
        "SELECT avg(prompt_tokens) FILTER (depth = 1) AS p1, avg(seconds) FILTER (depth = 1) AS s1,"
        " avg(prompt_tokens) FILTER (depth = 2) AS p2, avg(seconds) FILTER (depth = 2) AS s2 FROM"
        " generations JOIN (SELECT DISTINCT generation, depth FROM nodes) USING (generation)"
        f" WHERE model = '{suite.models[0].key}'"
    ).to_pylist()
    (estimate,) = [estimate for estimate in planned.estimates if "cached generations" in estimate.source]
    missing = [sum(r.missing for r in planned.rows if (r.model, r.depth) == ("sums", depth)) for depth in (1, 2)]
    prompt_tokens = missing[0] * row["p1"] + missing[1] * row["p2"]
    assert planned.prompt_tokens is not None
    assert 0 < prompt_tokens < planned.prompt_tokens
    assert estimate.seconds > missing[0] * row["s1"] + missing[1] * row["s2"] > 0
    assert planned.storage == pytest.approx(planned.missing * cache.path.stat().st_size / (24 * 6))


def test_memory_is_that_of_the_weights_and_of_the_keys_and_values(llama: Path, tmp_path: Path) -> None:
    config = ModelConfig(name="m", checkpoint=str(llama), dtype="float32", base_rate=1.0)
    model = AutoModelForCausalLM.from_pretrained(llama)
    estimate = memory(config, Workspace(tmp_path, tmp_path))
    assert estimate
    assert estimate.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert estimate.weights == 4 * estimate.parameters
    past = model(torch.ones(1, 7, dtype=torch.long), use_cache=True).past_key_values
    assert estimate.token * 7 == sum(4 * (layer.keys.numel() + layer.values.numel()) for layer in past.layers)
    half = memory(config.model_copy(update={"dtype": "bfloat16"}), Workspace(tmp_path, tmp_path))
    assert half
    assert (half.weights, half.token) == (estimate.weights // 2, estimate.token // 2)
    served = ModelConfig(name="m", checkpoint="served:some-model", base_rate=1.0)
    assert memory(served, Workspace(tmp_path, tmp_path)) is None


def test_a_real_engine_is_profiled_with_its_memory(llama: Path, tmp_path: Path) -> None:
    model = {"name": "m", "checkpoint": str(llama), "dtype": "float32", "max_tokens": 100, "base_rate": 1.0}
    config = suite_config(models=[model], engine={"device": "cpu"})
    (profile,) = profile_engine(resolve_config(config, tmp_path), Workspace(tmp_path, tmp_path), 8)
    engine = TransformersEngine(config.engine, config.models[0], Workspace(tmp_path, tmp_path))
    assert profile.engine == engine.label
    assert profile.peak is None or profile.peak > 2**27  # PyTorch alone is larger
    assert profile.model == str(resolve_config(config, tmp_path).models[0].key)
