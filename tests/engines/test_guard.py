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
from toolkit.engines import openai, ray, vllm
from toolkit.engines.guard import GuardedEngine, TokenBudget
from toolkit.engines.scripted import ScriptedEngine
from toolkit.suites.config import EngineConfig

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
    assert EngineConfig(name="transformers").token_budget == EngineConfig(name="scripted").token_budget == 2**13
    assert EngineConfig(name="openai", batch_tokens=100).token_budget == 100


def test_free_arguments_of_vllm_keep_their_types() -> None:
    table = {"enforce_eager": True, "gpu_memory_utilization": 0.5, "seed": 1, "kv_cache_dtype": "auto"}
    config = EngineConfig.model_validate({"name": "vllm", "vllm": table})
    arguments = config.settings(vllm.VllmSettings).arguments
    assert arguments == table
    assert [type(value) for value in arguments.values()] == [bool, float, int, str]
    with pytest.raises(ValueError, match="nested"):
        EngineConfig.model_validate({"name": "vllm", "vllm": {"nested": {}}})
