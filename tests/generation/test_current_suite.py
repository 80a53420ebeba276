"""A suite becomes the current one of its name when a model has responded; a run that fails before changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.content import content
from tests.generation.test_generate import StopAfter
from tests.scripted import encode, resolve_config, right_answers, suite_config
from toolkit.core.errors import CacheError, CheckpointError, EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import BatchTooLargeError, Completion, Prompt, TransientError
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.generate import generate
from toolkit.generation.state import GenerationReport
from toolkit.replay.table import load_table
from toolkit.store import Batch, Cache
from toolkit.store.generations import Generations
from toolkit.suites.config import SuiteConfig
from toolkit.suites.suite import Suite


class RefusingEngine(ScriptedEngine):
    """Fails as soon as it is used, in one of three places."""

    opening: BaseException | None = None
    rendering: BaseException | None = None
    generating: BaseException | None = None

    def __init__(self, *arguments: Any, **failures: BaseException) -> None:
        self.__dict__ |= failures
        if self.opening:
            raise self.opening
        super().__init__(*arguments)

    def render(self, messages: Sequence[Any]) -> str:
        if self.rendering:
            raise self.rendering
        return super().render(messages)

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        if self.generating:
            raise self.generating
        return super().generate(prompts)


FAILURES: dict[str, dict[str, BaseException]] = {
    "wrong sha256": {"opening": CheckpointError("the file has another sha256")},
    "missing checkpoint": {"opening": CheckpointError("no such file")},
    "engine not installed": {"opening": EngineError("install it first")},
    "chat template": {"rendering": EngineError("System role not supported")},
    "dead server": {"generating": TransientError("connection refused")},
    "broken engine": {"generating": RuntimeError("device lost")},
    "out of memory": {"generating": BatchTooLargeError("too large")},
    "interrupt": {"generating": KeyboardInterrupt()},
}


def changed(folder: Path, limit: int = 8) -> Suite:
    """Return a suite of the same name of which no response is cached."""
    config = suite_config(benchmarks=[{"name": name, "limit": limit} for name in ("addition", "word_reversal", "geography")])
    models = tuple(model.model_copy(update={"max_tokens": 15}) for model in config.models)
    return resolve_config(config.model_copy(update={"models": models}), folder)


def run(suite: Suite, cache: Cache, **options: Any) -> GenerationReport:
    folder = cache.path.parent
    engine = options.pop("engine", partial(ScriptedEngine, script=right_answers(suite)))
    return generate(suite, cache, Workspace(folder, folder), engine=engine, encode=encode, **options)


def fails(attempt: Callable[[], GenerationReport]) -> None:
    """Run something that must not succeed: it raises, or reports that the suite has not become current."""
    with suppress(CacheError, CheckpointError, EngineError, KeyboardInterrupt):
        assert not attempt().is_current


def check_is_as_before(cache: Cache, suite: Suite, rows: dict[str, list[Any]]) -> None:
    current = cache.suites.get(suite.name)
    assert current == suite
    assert current.config == suite.config
    assert load_table(cache, current).quality.shape == (24, 7)
    after = content(cache)
    for name, before in rows.items():
        assert set(map(repr, before)) <= set(map(repr, after[name])), name


@pytest.mark.parametrize(
    ("failure", "limit"),
    [*((failure, 8) for failure in FAILURES), ("dead server", 1), ("broken engine", 1)],  # 1: fewer than the guard tolerates
)
def test_a_run_without_a_response_leaves_the_suite_that_works_current(
    failure: str, limit: int, cache: Cache, suite: Suite, tmp_path: Path
) -> None:
    rows = content(cache)
    new = changed(tmp_path, limit)
    fails(lambda: run(new, cache, engine=partial(RefusingEngine, **FAILURES[failure])))
    check_is_as_before(cache, suite, rows)
    assert run(new, cache, retry=True).is_current
    assert cache.suites.get(suite.name) == new


def test_ctrl_c_before_the_first_batch_leaves_the_suite_current(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    rows = content(cache)
    fails(lambda: run(changed(tmp_path), cache, progress=StopAfter(0)))
    check_is_as_before(cache, suite, rows)


def test_a_full_disk_at_the_first_commit_leaves_the_suite_current(
    cache: Cache, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Generations, batch: Batch, wait: float | None = None) -> None:
        raise CacheError("No space left on device")

    rows = content(cache)
    with monkeypatch.context() as context:
        context.setattr(Generations, "commit", full)
        fails(lambda: run(changed(tmp_path), cache))
    check_is_as_before(cache, suite, rows)


def test_a_killed_run_leaves_the_suite_current(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    rows = content(cache)
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.generation.test_current_suite import RefusingEngine, changed, run\n"
        "from toolkit.store import Cache\n"
        "class Killed(RefusingEngine):\n"
        "    def generate(self, prompts):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "run(changed(Path(sys.argv[1])), Cache(sys.argv[2]), engine=Killed)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(cache.path)], cwd=root, env=os.environ | {"PYTHONPATH": root}
    )
    assert done.returncode == -signal.SIGKILL
    check_is_as_before(cache, suite, rows)


def test_settings_that_never_worked_do_not_replace_those_that_did(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    engine = suite.config.engine.model_copy(update={"batch_tokens": 123})
    models = (*suite.config.models, suite.config.models[0].model_copy(update={"name": "third", "max_tokens": 9}))
    wider = resolve_config(suite.config.model_copy(update={"models": models}), tmp_path)
    fails(lambda: run(wider, cache, engine=partial(RefusingEngine, opening=EngineError("no"))))  # half of it is cached
    assert cache.suites.get(suite.name) == suite
    with cache.write() as con:
        con.execute("DELETE FROM nodes WHERE depth = 2")
    retuned = resolve_config(suite.config.model_copy(update={"engine": engine}), tmp_path)
    assert retuned.key == suite.key
    fails(lambda: run(retuned, cache, engine=partial(RefusingEngine, opening=EngineError("no"))))
    current = cache.suites.get(suite.name)
    assert current
    assert current.config == suite.config
    assert run(retuned, cache).is_current
    current = cache.suites.get(suite.name)
    assert current
    assert current.config == retuned.config


def test_the_first_response_makes_a_suite_current(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    new = changed(tmp_path)
    report = run(new, cache, progress=StopAfter(1))
    assert report.is_current
    assert 0 < report.generated < len(new.questions) * 6
    assert cache.suites.get(suite.name) == new


def test_a_suite_that_is_wholly_cached_becomes_current_at_once(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    part = resolve_config(suite.config.limited(3), tmp_path)
    never = partial(RefusingEngine, opening=AssertionError("nothing is missing"))
    report = run(part, cache, engine=never)
    assert (report.generated, report.is_current) == (0, True)
    assert cache.suites.get(suite.name) == part
    assert len(load_table(cache, part).split) == 9


def test_a_suite_whose_encoder_fails_does_not_become_current(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    def no_encoder(texts: Sequence[str]) -> Any:
        raise CheckpointError("no encoder")

    config: SuiteConfig = suite.config
    part = resolve_config(config.limited(3), tmp_path)
    part = Suite(part.config, part.models, part.questions, "another encoder")
    with pytest.raises(CheckpointError):
        generate(part, cache, Workspace(tmp_path, tmp_path), encode=no_encoder)
    assert cache.suites.get(suite.name) == suite


def test_a_batch_that_was_spooled_counts_once_it_is_committed(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    new, generations = changed(tmp_path), Generations.commit_or_spool
    spooled: list[Batch] = []

    def spool_first(self: Generations, batch: Batch, wait: float) -> bool:
        if not spooled:
            spooled.append(batch)
            self.spool.put(batch)
            return False
        return generations(self, batch, wait)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(Generations, "commit_or_spool", spool_first)
        assert run(new, cache).is_current
    assert cache.suites.get(suite.name) == new
    assert load_table(cache, new).quality.shape == (24, 7)
