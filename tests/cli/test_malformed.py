"""Malformed command lines end with a sentence, never with a traceback, and change no file."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from typer.testing import CliRunner

from tests.cli.malformed import calls, make_places
from toolkit.cli import app, commands
from toolkit.core.errors import ToolkitError

SEED = 1
CALLS = [line for line in calls(SEED, per_parameter=1) if line[0] not in ("train", "sweep", "generate", "evaluate", "profile")]
"""Commands that would train or generate with what is plausible have tests of their own."""
SECONDS = 60


@pytest.fixture(scope="module")
def places(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    make_places(folder)
    (folder / "cache").mkdir()
    shutil.copy(whole, folder / "cache/scripted.duckdb")
    return folder


@pytest.fixture
def alarm() -> Iterator[None]:
    """End a call that hangs."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the call hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", sorted({line[0] for line in CALLS}))
@pytest.mark.usefixtures("alarm")
def test_malformed_calls_end_with_a_sentence(name: str, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(places)
    cache = (places / "cache/scripted.duckdb").read_bytes()
    files = {str(path) for path in places.rglob("*")}
    for line in (line for line in CALLS if line[0] == name):
        result = CliRunner().invoke(app, line)
        error = result.exception
        assert error is None or isinstance(error, SystemExit | ToolkitError), (line, error)
        assert error is None or not isinstance(error, ToolkitError) or str(error).strip(), line
    assert (places / "cache/scripted.duckdb").read_bytes() == cache
    assert files <= {str(path) for path in places.rglob("*")}


def test_every_command_is_called() -> None:
    called = {" ".join(line[:2]) for line in calls(SEED, per_parameter=1)} | {line[0] for line in calls(SEED, per_parameter=1)}
    assert set(commands()) <= called
