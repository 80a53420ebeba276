from __future__ import annotations  # pytest keeps fixtures, and so their annotations, beyond the end of DuckDB

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.scripted import resolve_config, suite_config
from toolkit.engines import Prompt
from toolkit.routing.router import Router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig


class Script:
    """A script by which each response repeats the question's last line, and that counts the prompts of each model."""

    def __init__(self) -> None:
        self.prompts: Counter[tuple[str, str]] = Counter()
        self.broken: Callable[[Prompt], None] = lambda prompt: None

    def __call__(self, model: str, prompt: Prompt) -> str:
        self.prompts[model, prompt.text] += 1
        self.broken(prompt)
        question = prompt.text.removesuffix("\nassistant:").splitlines()[-1].removeprefix("user: ")
        return f"{model}: {question}"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture(scope="session")
def trained(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a router of the scripted suite that takes both hops."""
    folder = tmp_path_factory.mktemp("runs")
    suite = resolve_config(suite_config(), folder)
    config = TrainConfig(algorithm="exact", timesteps=2000, allow_stop=False)
    return train(suite, Cache(shutil.copy(whole, folder / "scripted.duckdb")), config, 0, folder).path


@pytest.fixture
def router(trained: Path) -> Router:
    return Router.load(trained)
