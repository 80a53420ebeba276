"""Engines under guard, and what importing an engine's module costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.scripted import suite_config
from toolkit.core.registry import ENGINE_SETTINGS, ENGINES
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, Prompt, openai, ray, vllm
from toolkit.engines.base import MAX_REASON_CHARACTERS, MAX_RESPONSE_CHARACTERS
from toolkit.engines.guard import MAX_CONSECUTIVE_FAILURES, GuardedEngine, TokenBudget
from toolkit.engines.scripted import ScriptedEngine
from toolkit.suites.config import EngineConfig

ODD_OUTCOMES: dict[str, Any] = {
    "nothing": None,
    "a text": "yes",
    "no text": Completion(None, 1, "stop"),  # type: ignore[arg-type]
    "bytes": Completion(b"yes", 1, "stop"),  # type: ignore[arg-type]
    "too long": Completion("a" * (MAX_RESPONSE_CHARACTERS + 1), 1, "stop"),
    "another reason": Completion("yes", 1, "abort \ud800"),  # type: ignore[arg-type]
    "no count": Completion("yes", None, "stop"),  # type: ignore[arg-type]
    "a fraction": Completion("yes", 1.5, "stop"),  # type: ignore[arg-type]
    "below zero": Completion("yes", -1, "stop"),
    "too many": Completion("yes", 2**31, "stop"),
    "thousands of digits": Completion("yes", 1, "stop", 10**5000),
    "a cached fraction": Completion("yes", 1, "stop", 3, 1.5),  # type: ignore[arg-type]
    "cached below zero": Completion("yes", 1, "stop", 3, -1),
}
LIBRARIES = {"openai", "ray", "sentence_transformers", "torch", "transformers", "vllm"}


def test_an_empty_batch_is_never_passed_to_the_engine() -> None:
    class NeverCalled(ScriptedEngine):
        def generate(self, prompts: Any) -> list[Any]:
            raise AssertionError("called")

    config = suite_config()
    engine = NeverCalled(config.engine, config.models[0], Workspace(Path(), Path()))
    guarded = GuardedEngine(lambda: engine, 16, TokenBudget(500), 600)
    assert guarded.generate([]) == []
    assert guarded.submit([], lambda: True).result(10).outcomes == []
    guarded.close()


def guard_outcomes(outcomes: list[Any]) -> tuple[GuardedEngine, list[Any]]:
    """Return a guarded engine that has returned these outcomes, and what became of them."""

    class Odd(ScriptedEngine):
        def generate(self, prompts: Any) -> list[Any]:
            return outcomes

    config = suite_config()
    engine = Odd(config.engine, config.models[0], Workspace(Path(), Path()))
    guarded = GuardedEngine(lambda: engine, 16, TokenBudget(10**9), 600)
    try:
        return guarded, guarded.generate([Prompt("text", 1, 0)] * len(outcomes))
    finally:
        guarded.close()


@pytest.mark.parametrize("kind", ODD_OUTCOMES)
def test_an_outcome_that_cannot_be_stored_is_one_failure(kind: str) -> None:
    good = Completion("yes", 1, "stop", 3, 2)
    _, (before, odd, after) = guard_outcomes([good, ODD_OUTCOMES[kind], good])
    assert before == after == good
    assert isinstance(odd, Failure)
    assert not odd.transient
    odd.reason.encode()


def test_text_that_utf_8_cannot_express_is_replaced_and_all_other_text_kept() -> None:
    texts = ["half \ud83d", "\udc00\x00\x1b[31m\u202e\ufffe\U0010ffff", "\r\n\x85\u2028", ""]
    _, outcomes = guard_outcomes([Completion(text, 1, "stop") for text in texts] + [Failure("half \ud83d" * 10**6, True)])
    assert [outcome.response for outcome in outcomes[:-1]] == [
        "half \ufffd",
        "\ufffd\x00\x1b[31m\u202e\ufffe\U0010ffff",
        *texts[2:],
    ]
    assert outcomes[-1].reason.startswith("half \ufffd")
    assert len(outcomes[-1].reason) == MAX_REASON_CHARACTERS


@pytest.mark.parametrize(("prompt_only", "transient"), [(False, False), (False, True), (True, False)])
def test_an_engine_counts_as_broken_unless_only_the_prompts_are_at_fault(prompt_only: bool, transient: bool) -> None:
    failure = Failure("no", transient, prompt_only)
    guarded, _ = guard_outcomes([failure] * MAX_CONSECUTIVE_FAILURES)
    broken = guarded.broken
    assert (broken is None) == prompt_only
    assert broken is None or broken.transient == transient


def test_settings_are_validated_without_importing_any_library_of_an_engine() -> None:
    code = (
        "import sys\n"
        "from toolkit.core.registry import ENGINE_SETTINGS, ENGINES\n"
        "assert all([*ENGINES.values(), *ENGINE_SETTINGS.values()])\n"
        "print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not LIBRARIES & {*result.stdout.split()}


def test_every_engine_has_a_default_and_a_line_of_help() -> None:
    assert {"transformers", "vllm", "openai", "scripted"} <= {*ENGINES}
    for engine in ENGINES.values():
        assert engine.default_batch_tokens >= 64
        assert engine.__doc__.strip()
    assert {"server", "vllm", "ray"} <= {*ENGINE_SETTINGS}


@pytest.mark.parametrize(("module", "extra"), [(openai, "openai"), (vllm, "vllm"), (ray, "ray")])
def test_the_advised_installation_is_that_of_the_package(module: Any, extra: str) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"][extra] == [module.REQUIREMENT]


def test_the_token_budget_is_the_suite_s_or_the_engine_s_default() -> None:
    assert EngineConfig(name="openai").token_budget == 2**16
    assert EngineConfig(name="vllm").token_budget == 2**18
    assert EngineConfig(name="transformers").token_budget == 24_576
    assert EngineConfig(name="scripted").token_budget == 2**13
    assert EngineConfig(name="openai", batch_tokens=100).token_budget == 100


def test_free_arguments_of_vllm_keep_their_types() -> None:
    table = {"enforce_eager": True, "gpu_memory_utilization": 0.5, "seed": 1, "kv_cache_dtype": "auto"}
    config = EngineConfig.model_validate({"name": "vllm", "vllm": table})
    arguments = config.settings(vllm.VllmSettings).arguments
    assert arguments == table
    assert [type(value) for value in arguments.values()] == [bool, float, int, str]
    with pytest.raises(ValueError, match="nested"):
        EngineConfig.model_validate({"name": "vllm", "vllm": {"nested": {}}})
