"""What is prepared ahead, and how the work is cut into blocks and commits, never changes what a cache holds."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.content import content
from tests.generation.test_generate import StopAfter, run
from tests.scripted import encode, resolve_config, right_answers, suite_config
from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Prompt
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation import steps
from toolkit.generation.generate import generate
from toolkit.store import Cache, generations
from toolkit.store.generations import Generations
from toolkit.suites.keys import question_key
from toolkit.suites.suite import Suite

SECONDS = 30
"""Time after which something that should happen has not."""


def test_the_next_model_is_loaded_while_the_last_batches_of_the_present_one_are_generated(suite: Suite, tmp_path: Path) -> None:
    loaded = threading.Event()
    events: list[str] = []

    class Loading(ScriptedEngine):
        def load(self) -> None:
            events.append(f"load {self.model.name}")
            loaded.set()

        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            if "generate" not in events:
                events.append("generate")
                assert loaded.wait(SECONDS)
            return super().generate(prompts)

        def close(self) -> None:
            events.append(f"close {self.model.name}")

    cache = Cache(tmp_path / "c.duckdb")
    engine = partial(Loading, script=right_answers(suite))
    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=engine, encode=encode)
    assert not report.failures
    assert events.index("load words") < events.index("close sums")
    # at most one model ahead, each closed once; the first is opened when its turn comes
    assert [event for event in events if event.startswith("load")] == ["load words", "load sums", "load words"]
    assert [event for event in events if event.startswith("close")] == ["close sums", "close words"] * 2


def test_a_failed_load_ahead_is_tried_again_when_its_turn_comes(suite: Suite, tmp_path: Path) -> None:
    class NotYet(ScriptedEngine):
        def load(self) -> None:
            raise MemoryError

    cache = Cache(tmp_path / "c.duckdb")
    engine = partial(NotYet, script=right_answers(suite))
    assert not generate(suite, cache, Workspace(tmp_path, tmp_path), engine=engine, encode=encode).failures


def test_a_model_that_cannot_be_opened_fails_when_its_turn_comes(suite: Suite, tmp_path: Path) -> None:
    class Missing(ScriptedEngine):
        def __init__(self, config: Any, model: Any, workspace: Any, **options: Any) -> None:
            super().__init__(config, model, workspace, **options)
            if model.name == "words":
                raise EngineError("no such weights")

    cache = Cache(tmp_path / "c.duckdb")
    engine = partial(Missing, script=right_answers(suite))
    with pytest.raises(EngineError, match="no such weights"):
        generate(suite, cache, Workspace(tmp_path, tmp_path), engine=engine, encode=encode)
    assert {(row.model, row.depth): row.done for row in cache.suites.progress(suite.name) if row.done} == {("sums", 1): 8}
    assert not cache.generations.spool.files()


@pytest.mark.parametrize(("prompts", "pause"), [(1, 1e9), (7, 0.0)])
def test_blocks_and_pauses_between_commits_change_nothing(
    prompts: int, pause: float, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, report, _ = run(suite, tmp_path / "whole.duckdb")
    monkeypatch.setattr(steps, "BLOCK_PROMPTS", prompts)
    monkeypatch.setattr(generations, "COMMIT_SHARE", 1 / (1 + pause))
    blocks, blocks_report, _ = run(suite, tmp_path / "blocks.duckdb")
    assert content(blocks) == content(whole)
    assert (blocks_report.generated, blocks_report.shared) == (report.generated, report.shared)


def test_a_stopped_run_of_several_blocks_forms_the_same_batches(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "BLOCK_PROMPTS", 10)
    complete, _, undisturbed = run(suite, tmp_path / "complete.duckdb")
    resumed: list[list[Prompt]] = []
    for _ in range(200):
        cache, report, batches = run(suite, tmp_path / "parts.duckdb", progress=StopAfter(5))
        resumed += batches
        if not report.stopped:
            break
    assert resumed == undisturbed
    assert content(cache) == content(complete)


def test_equal_prompts_of_two_blocks_are_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BLOCK_PROMPTS", 1)
    suite = resolve_config(suite_config(benchmarks=[{"name": "addition", "limit": 3}]), tmp_path)

    def again(n: int) -> Any:
        question = suite.questions[n]
        key = question_key("addition", "1", f"again {n}", question.prompt, question.reference)
        return replace(question, key=key, item=f"again {n}")

    twice = Suite(suite.config, suite.models, tuple(q for n in range(3) for q in (suite.questions[n], again(n))), suite.encoder)
    _, report, batches = run(twice, tmp_path / "c.duckdb")
    prompts = [prompt.text for batch in batches for prompt in batch]
    assert (report.generated, report.shared) == (len(prompts), 6 * 6 - len(prompts))
    assert len(prompts) == 3 * 6


def test_cached_responses_are_looked_up_once_per_block_while_nobody_else_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[int] = []
    responses = Generations.responses

    def counted(self: Generations, keys: Sequence[UUID], wait: float | None = None) -> dict[UUID, str]:
        lookups.append(len(keys))
        return responses(self, keys, wait)

    monkeypatch.setattr(Generations, "responses", counted)
    monkeypatch.setattr(generations, "COMMIT_SHARE", 1e9)  # a commit for every batch
    suite = resolve_config(suite_config(), tmp_path)
    _, _, batches = run(suite, tmp_path / "c.duckdb")
    steps_of_run = 4
    assert len(lookups) <= steps_of_run + 1  # and once after the suite was recorded
    assert len(batches) > len(lookups)
