"""The paths that `[tree]` leaves are those that satisfy it one by one, and mistakes in it are named."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.scripted import resolve_config, suite_config
from tests.suites.test_config import GOOD
from toolkit.core import tree
from toolkit.core.errors import SuiteError
from toolkit.suites import config as suites_config
from toolkit.suites.config import SuiteConfig
from toolkit.suites.loading import load_config, recorded_config
from toolkit.suites.tree import TreeConfig, path_tree, ruled_out, tree_mistake

NAMES = ("a", "b", "c", "d")


@st.composite
def trees(draw: st.DrawFn) -> tuple[tuple[str, ...], int, TreeConfig]:
    """Draw a pool, a horizon, and a `[tree]` of them without mistakes."""
    names, horizon = NAMES[: draw(st.integers(1, 4))], draw(st.integers(1, 3))
    pools = st.lists(st.sampled_from(names), min_size=1, unique=True).map(tuple)
    paths = st.lists(st.tuples(*[st.sampled_from(names)] * horizon), min_size=1, unique=True).map(tuple)
    config = TreeConfig(
        repeat=draw(st.booleans()),
        hops=draw(st.dictionaries(st.integers(1, horizon).map(str), pools)),
        paths=draw(st.none() | paths),
    )
    assume(tree_mistake(names, horizon, config) is None)
    return names, horizon, config


def listed_paths(names: tuple[str, ...], horizon: int, config: TreeConfig) -> list[tuple[str, ...]]:
    """Return the complete paths that satisfy a `[tree]`, of all that there are."""
    return [
        path
        for path in product(names, repeat=horizon)
        if (config.repeat or len(set(path)) == horizon)
        and all(model in config.hops.get(str(hop), names) for hop, model in enumerate(path, 1))
        and (config.paths is None or path in config.paths)
    ]


@given(trees())
@settings(max_examples=200, deadline=None)
def test_a_tree_has_the_complete_paths_that_satisfy_it_and_their_prefixes(
    drawn: tuple[tuple[str, ...], int, TreeConfig],
) -> None:
    names, horizon, config = drawn
    complete = listed_paths(names, horizon, config)
    prefixes = {path[:depth] for path in complete for depth in range(horizon + 1)}
    paths = path_tree(names, horizon, config)
    assert {tuple(names[model] for model in path) for _, path in paths.paths()} == prefixes
    assert all(number == tree.node_of(path, len(names)) for number, path in paths.paths())
    assert paths.n_nodes == paths.count().total() == len(prefixes) - 1
    for length in range(horizon + 1):
        for path in product(range(len(names)), repeat=length):
            assert paths.has(path) == (tuple(names[model] for model in path) in prefixes)
    unused = set(names) - {model for path in complete for model in path}
    assert any("On no path" in notice for notice in ruled_out(names, horizon, config)) == bool(unused)


@given(st.integers(1, 4), st.integers(1, 3), st.data())
@settings(max_examples=100, deadline=None)
def test_a_tree_without_paths_is_refused(n_models: int, horizon: int, data: st.DataObject) -> None:
    names = NAMES[:n_models]
    pools = st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True).map(tuple)
    config = TreeConfig(repeat=False, hops=data.draw(st.dictionaries(st.integers(1, horizon).map(str), pools)))
    assert (tree_mistake(names, horizon, config) is None) == bool(listed_paths(names, horizon, config))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('first = ["aa"]', "4: tree.first: first names 'aa', which is no model; did you mean 'a'"),
        ('first = ["a"]\nhops = { 1 = ["b"] }', "4: tree.first: the models of hop 1 are named twice, in first and in hops"),
        ('hops = { 1 = ["aa"] }', "4: tree.hops: hop 1 names 'aa', which is no model; did you mean 'a'"),
        ('hops = { 3 = ["a"] }', "4: tree.hops: there is no hop '3'; the suite has hops 1 to 2"),
        ("hops = { 2 = [] }", "4: tree.hops: hop 2 has no models"),
        ('hops = { 2 = ["a", "a"] }', "4: tree.hops: hop 2 names a model twice"),
        ("paths = []", "4: tree.paths: there is no path"),
        ('paths = [["a", "x"]]', "4: tree.paths: a path names 'x', which is no model"),
        ('paths = [["a"]]', "4: tree.paths: the path a has 1 models, and the suite has 2 hops"),
        ('paths = [["a", "b", "a"]]', "4: tree.paths: the path a > b > a has 3 models, and the suite has 2 hops"),
        ('paths = [["a", "b"], ["a", "b"]]', "4: tree.paths: a path is listed twice"),
        ('repeat = false\nhops = { 1 = ["a"], 2 = ["a"] }', "4: tree.repeat: no path is left"),
        ('repeat = false\npaths = [["a", "a"]]', "5: tree.paths: no path is left"),
        ('hops = { 1 = "a" }', "4: tree.hops.1: should be a list"),
    ],
)
def test_a_mistake_in_a_tree_is_named_with_its_line(written: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("horizon = 2\n", f"horizon = 2\n[tree]\n{written}\n", 1))
    with pytest.raises(SuiteError) as error:
        load_config(path)
    assert message in str(error.value)


def pool(size: int) -> list[dict[str, Any]]:
    [model, _] = suite_config().model_dump()["models"]
    return [{**model, "name": f"m{n}"} for n in range(size)]


def test_the_limit_of_generations_counts_the_tree_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"120 models over 3 hops are 1,742,520 generations per question, more than 1,000,000"):
        suite_config(models=pool(120), horizon=3)
    narrow = {"hops": {"2": ("m0", "m1"), "3": ("m0",)}}
    assert suite_config(models=pool(120), horizon=3, tree=narrow).path_tree().n_nodes == 120 + 240 + 240
    with pytest.raises(ValueError, match=r"have 27,090,300 paths, with \[tree\] or without"):
        suite_config(models=pool(300), horizon=3, tree=narrow)
    monkeypatch.setattr(suites_config, "MAX_NODES", 1000)
    assert suite_config(models=pool(10), horizon=3, tree={"repeat": False}).path_tree().n_nodes == 10 + 90 + 720
    with pytest.raises(ValueError, match=r"with this \[tree\] too many generations per question, more than 1,000"):
        suite_config(models=pool(20), horizon=3, tree={"repeat": False})


@pytest.mark.parametrize(("size", "nodes"), [(3, (39, 15, 15, 3)), (8, (584, 400, 40, 18)), (20, (8420, 7240, 100, 54))])
def test_the_page_about_trees_counts_right(size: int, nodes: tuple[int, ...]) -> None:
    names = [f"m{n}" for n in range(size)]
    hops = {"2": ("m0", "m1"), "3": ("m0",)}
    configs = [TreeConfig(), TreeConfig(repeat=False), TreeConfig(hops=hops), TreeConfig(repeat=False, hops=hops)]
    columns = []
    for config in configs:
        counts = path_tree(names, 3, config).count()
        tokens = sum((150 + 200 * depth) * count for (depth, _), count in counts.items()) * 1000 / 1e6
        columns.append(f"{counts.total():,} nodes, {tokens:,.0f} M")
    assert tuple(path_tree(names, 3, config).n_nodes for config in configs) == nodes
    assert f"| {size} | {' | '.join(columns)} |" in Path("docs/guides/trees.md").read_text()


def test_a_suite_is_another_one_with_other_paths_however_they_are_written(tmp_path: Path) -> None:
    def key(**fields: Any) -> str:
        return str(resolve_config(suite_config(tree=fields), tmp_path).key)

    whole = str(resolve_config(suite_config(), tmp_path).key)
    assert whole == key(repeat=True) == key(hops={"1": ("words", "sums")})
    assert whole != key(repeat=False) != key(hops={"1": ("sums",)}) == key(first=("sums",)) != whole
    assert key(repeat=False) == key(paths=(("words", "sums"), ("sums", "words")))


def test_a_recorded_suite_keeps_its_tree_and_an_older_one_has_the_complete_tree() -> None:
    narrow = suite_config(tree={"hops": {"2": ("sums",)}})
    assert recorded_config(narrow.model_dump_json()).tree == narrow.tree
    older = SuiteConfig.model_dump_json(suite_config(), exclude={"tree"})
    assert recorded_config(older).path_tree().numbers is None
