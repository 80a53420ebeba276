"""Exported or merged, a cache is what it was; what differs is not decided in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.content import content
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.errors import CacheError
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.generation.state import Shard
from toolkit.generation.verify import verify
from toolkit.store import Cache
from toolkit.suites.suite import Suite


def copied(cache: Cache, path: Path) -> Cache:
    return Cache(shutil.copy(cache.path, path))


def change(cache: Cache, query: str) -> Cache:
    with cache.write() as con:
        con.execute(query)
    return cache


@pytest.mark.parametrize("how", ["folder", "cache"])
def test_a_round_trip_keeps_the_content_and_a_second_adds_nothing(how: str, cache: Cache, tmp_path: Path) -> None:
    source = cache.path
    if how == "folder":
        cache.transfer.export(tmp_path / "parquet")
        source = tmp_path / "parquet"
    other = Cache(tmp_path / "other.duckdb")
    other.create()
    assert sum(other.transfer.merge(source).values())
    assert content(other) == content(cache)
    assert sum(other.transfer.merge(source).values()) == 0
    assert not any(finding.wrong for finding in verify(other))


def test_two_halves_made_apart_are_the_whole(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    halves = [Cache(tmp_path / f"{n}.duckdb") for n in (1, 2)]
    for n, half in enumerate(halves, 1):
        generate(
            suite, half, Workspace(tmp_path, tmp_path), shard=Shard(n, 2), engine=scripted(right_answers(suite)), encode=encode
        )
    halves[0].transfer.merge(halves[1].path)
    halves[0].suites.compute_cost_unit(suite.key)
    assert content(halves[0]) == content(cache)


def test_other_suites_come_along(cache: Cache, tmp_path: Path) -> None:
    suite = resolve_config(suite_config(name="other", benchmarks=[{"name": "addition", "limit": 10}]), tmp_path)
    other = Cache(tmp_path / "other.duckdb")
    generate(suite, other, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    cache.transfer.merge(other.path)
    assert cache.suites.names() == ["other", "scripted"]
    assert not any(finding.wrong for finding in verify(cache))


def test_what_differs_is_refused_or_preferred(cache: Cache, tmp_path: Path) -> None:
    query = "UPDATE generations SET response = 'other', text = left(sha256('other'), 32)::UUID WHERE rowid = 0"
    other = change(copied(cache, tmp_path / "other.duckdb"), query)
    before = content(cache)
    with pytest.raises(CacheError, match=r"1 generations of .* differ.*--prefer"):
        cache.transfer.merge(other.path)
    assert content(cache) == before
    cache.transfer.merge(other.path, "ours")
    assert content(cache) == before
    cache.transfer.merge(other.path, "theirs")
    assert cache.arrow("FROM generations WHERE response = 'other'").num_rows == 1


def test_an_answer_replaces_an_error_whichever_side_has_it(cache: Cache, tmp_path: Path) -> None:
    before = content(cache)
    query = (
        "UPDATE generations SET status = 'error', response = NULL, text = NULL, completion_tokens = NULL, finish_reason = NULL,"
        " error = 'away', transient = true WHERE rowid = 0"
    )
    failed = change(copied(cache, tmp_path / "failed.duckdb"), query)
    cache.transfer.merge(failed.path)
    assert content(cache) == before
    failed.transfer.merge(cache.path)
    assert content(failed) == before


@pytest.mark.parametrize("damage", ["no manifest", "truncated", "missing"])
def test_a_damaged_folder_is_refused(damage: str, cache: Cache, tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    cache.transfer.export(folder)
    file = folder / ("manifest.json" if damage == "no manifest" else "nodes.parquet")
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-10])
    else:
        file.unlink()
    other = Cache(tmp_path / "other.duckdb")
    other.create()
    with pytest.raises(CacheError, match=file.name):
        other.transfer.merge(folder)
    assert not other.suites.names()


def test_an_export_overwrites_nothing(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    with pytest.raises(CacheError, match="not empty"):
        cache.transfer.export(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(CacheError, match="cache itself"):
        cache.transfer.merge(cache.path)
