from __future__ import annotations  # pytest keeps fixtures, and so their annotations, beyond the end of DuckDB

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import serving, tiny
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.replay.table import TransitionTable, load_table
from toolkit.store import Cache
from toolkit.suites.suite import Suite

LONGEST_FILES = ("test_reference.py", "test_malformed.py")
"""Files that take minutes; `just test` gives each file to one process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return resolve_config(suite_config(), tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    suite, cache = resolve_config(suite_config(), folder), Cache(folder / "scripted.duckdb")
    generate(suite, cache, Workspace(folder, folder), engine=scripted(right_answers(suite)), encode=encode)
    return cache.path


@pytest.fixture
def cache(tmp_path: Path, whole: Path) -> Cache:
    """A whole cache of the scripted suite, generated once and copied for every test."""
    return Cache(shutil.copy(whole, tmp_path / "scripted.duckdb"))


@pytest.fixture
def table(cache: Cache, suite: Suite) -> TransitionTable:
    return load_table(cache, suite)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server, which runs whatever checkpoint it is asked for."""
    with serving.real(tmp_path_factory.mktemp("serve") / "log") as url:
        yield url
