"""A folder in which commands run as a user types them, with a suite of scripted models: nothing is downloaded."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from tests.scripted import encode
from toolkit.cli import app
from toolkit.core.errors import ToolkitError
from toolkit.engines import Completion, Prompt
from toolkit.engines.scripted import ScriptedEngine

COMMAND = re.compile(r"(?m)(?:^|: )(toolkit [^\n]+)$")
"""A command in a message: the rest of a line, alone or after a colon."""
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")

SUITE = """\
name = "{name}"
horizon = {horizon}

[engine]
name = "scripted"
batch_tokens = 300

{models}
{benchmarks}
[train]
timesteps = 500
n_envs = 128
"""
MODEL = """\
[[models]]
name = "{name}"
checkpoint = "made/up"
revision = "{revision}"
dtype = "float32"
max_tokens = 8
base_rate = {rate}
system_prompt = "{name}"
"""
BENCHMARK = '[[benchmarks]]\nname = "{name}"\nlimit = {limit}\n'


def suite_text(
    name: str = "mine",
    models: str = "abc",
    benchmarks: tuple[str, ...] = ("addition", "geography"),
    limit: int = 12,
    horizon: int = 2,
    rate: float = 2.0,
) -> str:
    """Return a suite file; each letter of `models` is a model."""
    return SUITE.format(
        name=name,
        horizon=horizon,
        models="\n".join(MODEL.format(name=model, revision="0" * 40, rate=rate if model == "a" else 1.0) for model in models),
        benchmarks="\n".join(BENCHMARK.format(name=benchmark, limit=limit) for benchmark in benchmarks),
    )


class Result(NamedTuple):
    """What a command printed, on both streams, and its exit code."""

    text: str
    code: int

    @property
    def commands(self) -> list[str]:
        """The commands that the text prints."""
        return COMMAND.findall(self.text)


class Session:
    """Runs commands in the current folder; errors are printed as `main` prints them."""

    def __call__(self, line: str) -> Result:
        """Run a command line that begins with `toolkit`; a traceback fails the test."""
        program, *words = shlex.split(line)
        assert program == "toolkit"
        done = CliRunner().invoke(app, words, terminal_width=200)
        if isinstance(done.exception, ToolkitError):
            return Result(text=f"{done.output}\n{done.exception}", code=2)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Result(text=done.output, code=done.exit_code)

    def succeeds(self, line: str) -> Result:
        """Run a command that must succeed."""
        done = self(line)
        assert done.code == 0, (line, done.text)
        return done


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session in an empty folder, with an encoder that needs no weights and a clock that measures responses alone."""
    monkeypatch.setattr("toolkit.engines.encoder.SuiteEncoder.__call__", lambda self, texts: encode(texts))
    clock, generate = [0.0], ScriptedEngine.generate

    def timed(self: ScriptedEngine, prompts: Sequence[Prompt]) -> list[Completion]:
        clock[0] += len(prompts) * (0.01 if self.model.max_tokens > 1 else 0.001)
        return generate(self, prompts)

    monkeypatch.setattr("toolkit.generation.profile.time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(ScriptedEngine, "generate", timed)
    monkeypatch.delenv("TOOLKIT_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    return Session()
