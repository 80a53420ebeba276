"""Exact results against enumeration, one path or one policy at a time."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toy import make_table
from toolkit import tree
from toolkit.exact import best_fixed_path, node_outcome, oracle_shares, outcome, path_shares
from toolkit.table import TransitionTable


@st.composite
def tables(draw: st.DrawFn) -> TransitionTable:
    n_models, horizon, rows = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (rows, tree.n_nodes(n_models, horizon))
    quality, cost = rng.integers(0, 5, shape) / 4, rng.random(shape)
    quality[:, 0] = cost[:, 0] = 0
    return make_table(quality, cost, horizon, [f"m{n}" for n in range(n_models)])


def worth(table: TransitionTable, row: int, path: tree.Path, alpha: float) -> float:
    """R of one complete path, hop by hop."""
    nodes = [tree.node_of(path[:depth], table.n_models) for depth in range(1, len(path) + 1)]
    return float(table.quality[row, nodes[-1]]) - alpha * sum(float(table.hop_cost[row, node]) for node in nodes)


def complete_paths(table: TransitionTable) -> list[tree.Path]:
    return list(product(range(table.n_models), repeat=table.horizon))


@settings(deadline=None)
@given(tables(), st.sampled_from([0.0, 0.1, 1.0, 10.0]))
def test_the_oracle_is_the_best_of_all_paths(table: TransitionTable, alpha: float) -> None:
    rows = np.arange(len(table.quality))
    reward = outcome(table, rows, oracle_shares(table, rows, alpha)).reward(alpha)
    for row in rows:
        assert np.isclose(reward[row], max(worth(table, int(row), path, alpha) for path in complete_paths(table)), atol=1e-12)


@settings(deadline=None)
@given(tables(), st.integers(0, 2**32))
def test_a_stochastic_policy_is_worth_its_paths_weighted_by_their_probability(table: TransitionTable, seed: int) -> None:
    rows = np.arange(len(table.quality))
    weights = np.random.default_rng(seed).random((len(rows), table.n_decision_nodes, table.n_models)) + 0.01
    probabilities = weights / weights.sum(-1, keepdims=True)
    reward = outcome(table, rows, path_shares(table, probabilities)).reward(0.3)
    for row in rows:
        expected = 0.0
        for path in complete_paths(table):
            chance = np.prod([probabilities[row, tree.node_of(path[:d], table.n_models), a] for d, a in enumerate(path)])
            expected += float(chance) * worth(table, int(row), path, 0.3)
        assert np.isclose(reward[row], expected, atol=1e-12)


@settings(deadline=None)
@given(tables(), st.sampled_from([0.0, 0.2, 5.0]))
def test_the_best_fixed_path_is_the_best_of_all_on_average(table: TransitionTable, alpha: float) -> None:
    rows = np.arange(len(table.quality))
    means = [np.mean([worth(table, int(row), path, alpha) for row in rows]) for path in complete_paths(table)]
    node = best_fixed_path(table, rows, alpha)
    assert np.isclose(np.mean(node_outcome(table, rows, node).reward(alpha)), max(means), atol=1e-12)
    assert len(tree.path_of(node, table.n_models)) == table.horizon or table.n_models == 1


def test_costs_add_up_along_a_path() -> None:
    costs = np.array([[0.0, 1.0, 2.0, 10.0, 20.0, 30.0, 40.0]])
    table = make_table(np.zeros((1, 7)), costs, 2, ["a", "b"])
    assert table.cost.tolist() == [[0, 1, 2, 11, 21, 32, 42]]
