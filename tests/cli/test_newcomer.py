"""The newcomer's path: every step follows from what the step before has printed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.cli.session import Session, session

__all__ = ["session"]

THIRD_MODEL = """\
[[models]]
name = "third"
checkpoint = "made/up"
revision = "{revision}"
dtype = "float32"
max_tokens = 8
base_rate = 0.5

[[benchmarks]]"""


def use_scripted_models(file: Path) -> None:
    """Edit a suite file so that a rule responds in place of its models; training is short."""
    edit(file, r'name = "transformers"', 'name = "scripted"')
    edit(file, r"# timesteps = 100000", "timesteps = 500")
    edit(file, r"# n_envs = 512", "n_envs = 128")


def edit(file: Path, pattern: str, replacement: str, count: int = 0) -> None:
    text = file.read_text()
    edited = re.sub(pattern, replacement, text, count=count)
    assert edited != text
    file.write_text(edited)


def test_every_step_works_as_printed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = Path("mine.toml")
    [plan] = session.succeeds("toolkit init mine.toml").commands
    use_scripted_models(suite)
    profile = session.succeeds(plan).commands[0]
    [plan] = session.succeeds(profile).commands
    assert "tokens of prompts" in session.succeeds(plan).text

    spent = session.succeeds("toolkit generate mine.toml --budget '8000 tokens'")
    assert "is exhausted" in spent.text, spent.text
    generate, train = spent.commands
    session.succeeds(generate)
    [evaluate] = session.succeeds(train).commands[-1:]
    session.succeeds(evaluate)
    session.succeeds("toolkit generate mine.toml")
    session.succeeds(train)

    edit(suite, r"limit = \d+", "limit = 12")  # lower a limit
    [generate] = session(train).commands
    assert "Nothing to do" in session.succeeds(generate).text
    session.succeeds(train)

    edit(suite, r"\[\[benchmarks\]\]", THIRD_MODEL.format(revision="0" * 40), count=1)  # add a model
    [generate] = session(train).commands
    assert "responses generated" in session.succeeds(generate).text
    session.succeeds(train)

    edit(suite, r"base_rate = 0\.5", "base_rate = 5.0")  # change a price
    [evaluate] = session.succeeds(train).commands[-1:]
    session.succeeds(evaluate)

    folder = Path.cwd().name
    monkeypatch.chdir(Path("..").resolve())  # merge into another cache, beside it
    session.succeeds(f"toolkit import {folder}/cache/mine.duckdb --cache merged/mine.duckdb")
    session.succeeds(f"toolkit train {folder}/mine.toml --cache merged/mine.duckdb")
    session.succeeds(f"toolkit evaluate {folder}/mine.toml --cache merged/mine.duckdb")


def test_a_cache_and_its_runs_move_together(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session.succeeds("toolkit init mine.toml")
    use_scripted_models(Path("mine.toml"))
    edit(Path("mine.toml"), r"limit = \d+", "limit = 12")
    session.succeeds("toolkit generate mine.toml")
    session.succeeds("toolkit train mine.toml")
    before = session.succeeds("toolkit evaluate mine.toml").text
    (tmp_path / "elsewhere").mkdir()
    for name in ("mine.toml", "cache", "runs"):
        shutil.move(name, tmp_path / "elsewhere" / name)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert session.succeeds("toolkit evaluate mine.toml").text == before
