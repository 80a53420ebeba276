"""A key holds everything that changes an answer, and nothing else: each field is changed in turn, and reuse is counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from tests.scripted import encode, resolve_config, scripted, suite_config
from toolkit.core.workspace import Workspace
from toolkit.engines.scripted import Script
from toolkit.generation.generate import generate
from toolkit.generation.plan import plan
from toolkit.generation.state import GenerationReport
from toolkit.store import Cache
from toolkit.suites import prompts
from toolkit.suites.config import PromptConfig, SuiteConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.suite import Suite

QUESTIONS, MODELS = 6, 2

GREEDY: dict[str, dict[str, Any]] = {
    "checkpoint": {"checkpoint": "made/other"},
    "revision": {"revision": "1" * 40},
    "adapter": {"adapter": "adapter"},
    "layers": {"layers": (0, 2)},
    "dtype": {"dtype": "bfloat16"},
    "system_prompt": {"system_prompt": "Be brief."},
    "few_shot": {"few_shot": [{"user": "1 + 1?", "assistant": "2"}]},
    "chat_template": {"chat_template": "{{ messages }}"},
    "chat_template_args": {"chat_template_args": {"enable_thinking": False}},
    "max_tokens": {"max_tokens": 15},
    "context_length": {"context_length": 4000},
    "temperature": {"temperature": 0.5},
    "stop": {"stop": ["\n"]},
}
"""Changes of a greedy model that change its answers."""
SAMPLED: dict[str, dict[str, Any]] = {"seed": {"seed": 5}, "top_p": {"top_p": 0.5}}
"""Changes that change answers only where there is a temperature."""
NEUTRAL: dict[str, dict[str, Any]] = {
    "name": {"name": "renamed"},
    "base_rate": {"base_rate": 7.0},
    "rate_in": {"base_rate": None, "rate_in": 1.0, "rate_out": 2.0},
    "rate_out": {"base_rate": None, "rate_in": 2.0, "rate_out": 1.0},
    "served": {"served": "what a server calls it"},
    "url": {"url": "http://localhost:1/v1"},
}
"""Changes that never change an answer."""
READING: dict[str, dict[str, Any]] = {
    "description": {"description": "other words"},
    "engine": {"engine": {"name": "scripted", "batch_tokens": 64, "device": "cpu"}},
    "splits": {"splits": {"train": 0.5, "validation": 0.0, "test": 0.5, "seed": 3}},
    "features": {"features": {"text": "context"}},
    "train": {"train": {"alpha": 1.0, "timesteps": 5}},
    "incomplete": {"incomplete": "exclude question"},
    "currency": {"currency": "USD"},
    "code": {"code": {"sandbox": "process"}},
    "name": {"name": "renamed"},
    "quality": {"benchmarks": [{"name": "addition", "limit": 3, "quality": "exact_match"}, {"name": "geography", "limit": 3}]},
    "benchmark order": {"benchmarks": [{"name": "geography", "limit": 3}, {"name": "addition", "limit": 3}]},
    "fewer questions": {"benchmarks": [{"name": "addition", "limit": 2}]},
    "one hop less": {"horizon": 1},
    "tree": {"tree": {"repeat": False}},
}
"""Changes of a suite by which nothing is generated."""


class Ran(NamedTuple):
    """What generating a suite on top of an earlier one did."""

    suite: Suite
    cache: Cache
    report: GenerationReport

    def rows(self) -> list[dict[str, Any]]:
        query = "SELECT path, depth, response, sample FROM transitions WHERE suite = ?"
        found: list[dict[str, Any]] = self.cache.arrow(query, [self.suite.name]).to_pylist()
        return found


def tagged(tag: str, by_seed: bool = False) -> Script:
    """A script whose answers tell in which run they were generated."""
    return lambda model, prompt: f"{tag} {len(prompt.text)} {prompt.seed if by_seed else ''}".strip()


def config(**changes: Any) -> SuiteConfig:
    return suite_config(**{"benchmarks": [{"name": "addition", "limit": 3}, {"name": "geography", "limit": 3}]} | changes)


def with_model(base: SuiteConfig, changes: dict[str, Any], position: int = 0) -> SuiteConfig:
    models = [model.model_dump(exclude_none=True) for model in base.models]
    models[position] = {name: value for name, value in {**models[position], **changes}.items() if value is not None}
    return SuiteConfig.model_validate(base.model_dump(exclude_none=True) | {"models": models})


def sampling(base: SuiteConfig, samples: int) -> SuiteConfig:
    for position in range(len(base.models)):
        base = with_model(base, {"temperature": 1.0}, position)
    return base.model_copy(update={"samples": samples})


def run(changed: SuiteConfig, path: Path, tag: str, by_seed: bool = False) -> Ran:
    suite, cache = resolve_config(changed, path.parent), Cache(path)
    report = generate(suite, cache, Workspace(path.parent, path.parent), engine=scripted(tagged(tag, by_seed)), encode=encode)
    assert plan(suite, cache).missing == 0
    assert cache.arrow("SELECT count(*) - count(DISTINCT node) AS n FROM nodes")["n"][0].as_py() == 0
    assert cache.arrow("SELECT count(*) - count(DISTINCT generation) AS n FROM generations")["n"][0].as_py() == 0
    return Ran(suite, cache, report)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("identity") / "base.duckdb"
    run(config(), path, "old")
    return path


@pytest.fixture
def base(first_run: Path, tmp_path: Path) -> Path:
    """A cache of the unchanged suite, to be changed."""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/weights").write_text("adapter")
    return Path(shutil.copy(first_run, tmp_path / "c.duckdb"))


def test_every_field_of_a_model_and_a_suite_is_in_one_of_the_lists() -> None:
    assert set(ModelConfig.model_fields) == {*GREEDY, *SAMPLED, *NEUTRAL, "fingerprint", "sha256"}  # sha256: test_checkpoints
    assert set(SuiteConfig.model_fields) - set(READING) == {"horizon", "samples", "models", "benchmarks", "prompts"}
    assert set(PromptConfig.model_fields) == {"protocol", "overlength"}


@pytest.mark.parametrize("field", GREEDY)
def test_what_changes_a_models_answers_regenerates_exactly_the_paths_through_it(field: str, base: Path) -> None:
    changed = run(with_model(config(), GREEDY[field]), base, "new")
    assert changed.report.generated
    for row in changed.rows():
        assert row["response"].startswith("new" if "sums" in row["path"] else "old"), row
    again = run(config(), base, "again")  # and what was there before is there still
    assert again.report.generated == 0
    assert {row["response"][:3] for row in again.rows()} == {"old"}


def test_a_served_model_is_known_by_its_name_and_its_server_s_fingerprint(tmp_path: Path) -> None:
    def key(**changes: Any) -> UUID:
        model = {"name": "m", "checkpoint": "served:one", "base_rate": 1.0} | changes
        return resolve_config(config(models=[model]), tmp_path).models[0].key

    keys = [key(), key(fingerprint="fp_1"), key(fingerprint="fp_2"), key(checkpoint="served:two")]
    assert len(set(keys)) == 4
    assert key(served="another", url="http://localhost:1/v1") == keys[0]


@pytest.mark.parametrize("changes", [*NEUTRAL.values(), *SAMPLED.values()], ids=[*NEUTRAL, *SAMPLED])
def test_a_greedy_models_price_name_seed_and_top_p_regenerate_nothing(changes: dict[str, Any], base: Path) -> None:
    assert run(with_model(config(), changes), base, "new").report.generated == 0


@pytest.mark.parametrize("field", READING)
def test_what_is_applied_when_reading_regenerates_nothing(field: str, base: Path) -> None:
    changed = run(config(**READING[field]), base, "new")
    assert (changed.report.generated, changed.report.shared) == (0, 0)


@pytest.mark.parametrize("field", ["protocol", "overlength"])
def test_a_prompt_protocol_or_policy_makes_new_trees_that_share_equal_prompts(
    field: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        prompts.PROTOCOLS,
        "refine-v2",
        lambda prompt, answers: "\n".join([*answers, "Do better.", prompt]) if answers else prompt,
    )
    changed = run(config(prompts={"protocol": "refine-v2"} if field == "protocol" else {"overlength": "error"}), base, "new")
    for row in changed.rows():
        new = field == "protocol" and row["depth"] == 2  # the first hop asks the same, whatever the protocol
        assert row["response"].startswith("new" if new else "old")
    assert changed.report.generated + changed.report.shared == QUESTIONS * (MODELS + MODELS**2)


@pytest.mark.parametrize("content", ["the same", "another"])
@pytest.mark.parametrize("what", ["checkpoint", "adapter"])
def test_local_weights_count_by_content_not_by_path(what: str, content: str, tmp_path: Path) -> None:
    for name, text in (("here", "the same"), ("there", content)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model").write_text(text)
    unpinned = {"revision": None} if what == "checkpoint" else {}
    run(with_model(config(), {what: "./here", **unpinned}), tmp_path / "c.duckdb", "old")
    moved = run(with_model(config(), {what: "./there", **unpinned}), tmp_path / "c.duckdb", "new")
    assert bool(moved.report.generated) is (content == "another")


def test_pool_order_changes_nothing(base: Path) -> None:
    assert run(config(models=config().model_dump(exclude_none=True)["models"][::-1]), base, "new").report.generated == 0


@pytest.mark.parametrize("grow", ["model", "hop", "question"])
def test_a_larger_suite_generates_only_what_is_new_and_a_smaller_one_nothing(grow: str, base: Path) -> None:
    models = config().model_dump(exclude_none=True)["models"]
    larger: dict[str, Callable[[], SuiteConfig]] = {
        "model": lambda: config(models=[*models, {**models[0], "name": "third", "system_prompt": "third"}]),
        "hop": lambda: config(horizon=3),
        "question": lambda: config(benchmarks=[{"name": "addition", "limit": 5}, {"name": "geography", "limit": 3}]),
    }
    grown = run(larger[grow](), base, "new")
    old = [row for row in grown.rows() if row["response"].startswith("old")]
    assert len(old) == QUESTIONS * (MODELS + MODELS**2)
    assert all("third" not in row["path"] and row["depth"] <= 2 for row in old)
    assert run(config(), base, "newer").report.generated == 0


@pytest.mark.parametrize("field", SAMPLED)
def test_sampling_settings_count_where_there_is_a_temperature(field: str, tmp_path: Path) -> None:
    run(sampling(config(), 1), tmp_path / "c.duckdb", "old")
    changed = run(with_model(sampling(config(), 1), SAMPLED[field]), tmp_path / "c.duckdb", "new")
    for row in changed.rows():
        assert row["response"].startswith("new" if "sums" in row["path"] else "old")


def test_more_samples_are_more_distinct_trees_beside_the_old_ones(tmp_path: Path) -> None:
    two = run(sampling(config(), 2), tmp_path / "c.duckdb", "old", by_seed=True)
    assert len({row["response"] for row in two.rows()}) == len(two.rows()) == 2 * QUESTIONS * (MODELS + MODELS**2)
    three = run(sampling(config(), 3), tmp_path / "c.duckdb", "new", by_seed=True)
    for row in three.rows():
        assert row["response"].startswith("new" if row["sample"] == 2 else "old")
    assert len({row["response"] for row in three.rows()}) == len(three.rows())
