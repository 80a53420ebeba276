from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toolkit.core import tree

POOLS = st.integers(1, 5)


@given(POOLS, st.lists(st.integers(0, 4), max_size=6))
def test_a_path_survives_numbering(n_models: int, actions: list[int]) -> None:
    path = tuple(action % n_models for action in actions)
    assert tree.path_of(tree.node_of(path, n_models), n_models) == path


@given(POOLS, st.integers(0, 4))
def test_levels_partition_the_nodes_by_depth(n_models: int, horizon: int) -> None:
    nodes = list(range(tree.n_nodes(n_models, horizon)))
    levels = [nodes[tree.level(n_models, depth)] for depth in range(horizon + 1)]
    assert [node for level in levels for node in level] == nodes
    if n_models > 1:
        assert [{len(tree.path_of(n, n_models)) for n in level} for level in levels] == [{d} for d in range(horizon + 1)]


def test_children_are_numbered_as_documented() -> None:
    for node, path in enumerate(tree.paths(3, 2)):
        for action in range(3):
            assert tree.node_of((*path, action), 3) == node * 3 + 1 + action


def test_counts() -> None:
    assert tree.n_nodes(3, 3) == 40
    assert tree.n_decision_nodes(3, 3) == 13
