"""Exact results equal those of enumeration, one path or one policy at a time."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toy import make_table
from toolkit.core import tree
from toolkit.replay.exact import (
    best_fixed_path,
    best_fixed_path_per_benchmark,
    curve,
    frontier,
    node_outcome,
    oracle,
    outcome,
    path_shares,
)
from toolkit.replay.table import TransitionTable

ALPHAS = [0.0, 0.1, 1.0, 10.0]
SIZES = tuple(product(range(1, 6), range(1, 5)))
"""Models and hops."""
each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def make(n_models: int, horizon: int, rows: int, seed: int, n_benchmarks: int = 1) -> TransitionTable:
    rng = np.random.default_rng(seed)
    shape = (rows, tree.n_nodes(n_models, horizon))
    quality, cost = rng.integers(0, 5, shape) / 4, rng.integers(0, 4, shape) / 2 if seed % 2 else rng.random(shape)
    quality[:, 0] = cost[:, 0] = 0
    benchmark = rng.permutation(np.arange(rows) % n_benchmarks)
    return make_table(quality, cost, horizon, [f"m{n}" for n in range(n_models)], benchmark=benchmark)


@st.composite
def tables(draw: st.DrawFn, sizes: tuple[tuple[int, int], ...] = SIZES) -> TransitionTable:
    n_models, horizon = draw(st.sampled_from(sizes))
    rows = draw(st.integers(1, 3))
    return make(n_models, horizon, rows, draw(st.integers(0, 2**32)), draw(st.integers(1, rows)))


def path_reward(table: TransitionTable, row: int, path: tree.Path, alpha: float) -> float:
    """Return R of one path, hop by hop."""
    nodes = [tree.node_of(path[:depth], table.n_models) for depth in range(1, len(path) + 1)]
    quality = float(table.quality[row, nodes[-1]]) if nodes else 0.0
    return quality - alpha * sum(float(table.hop_cost[row, node]) for node in nodes)


def all_paths(table: TransitionTable, allow_stop: bool) -> list[tree.Path]:
    """Return every path that an episode can take, shorter ones first; if it may stop, they include the empty one."""
    lengths = range(0 if allow_stop else table.horizon, table.horizon + 1)
    return [path for length in lengths for path in product(range(table.n_models), repeat=length)]


@each_size
@settings(deadline=None, max_examples=10)
@given(data=st.data(), allow_stop=st.booleans())
def test_the_oracle_is_the_best_of_all_paths(size: tuple[int, int], data: st.DataObject, allow_stop: bool) -> None:
    table = data.draw(tables((size,)))
    rows, paths = np.arange(len(table.quality)), all_paths(table, allow_stop)
    together = oracle(table, rows, np.array(ALPHAS), allow_stop)
    for alpha, nodes in zip(ALPHAS, together, strict=True):
        np.testing.assert_array_equal(nodes, oracle(table, rows, alpha, allow_stop))
        reward = node_outcome(table, rows, nodes).reward(alpha)
        for row in rows:
            values = [path_reward(table, int(row), path, alpha) for path in paths]
            assert np.isclose(reward[row], max(values), atol=1e-12)
            assert tree.path_of(int(nodes[row]), table.n_models) in paths


@settings(deadline=None)
@given(tables(), st.booleans(), st.floats(0, 20))
def test_the_frontier_is_the_oracle_at_any_alpha_and_bends_where_two_paths_are_equal(
    table: TransitionTable, allow_stop: bool, alpha: float
) -> None:
    rows, paths = np.arange(len(table.quality)), all_paths(table, allow_stop)
    exact_frontier = frontier(table, rows, allow_stop)
    reward = node_outcome(table, rows, exact_frontier.at(alpha)).reward(alpha)
    for row in rows:
        assert np.isclose(reward[row], max(path_reward(table, int(row), path, alpha) for path in paths), atol=1e-12)
        bends = exact_frontier.alphas[row][np.isfinite(exact_frontier.alphas[row])]
        assert bends[0] == 0
        assert (np.diff(bends) >= 0).all()
        for n, bend in enumerate(bends[1:], 1):
            before, after = (
                path_reward(table, int(row), tree.path_of(int(exact_frontier.nodes[row, k]), table.n_models), bend)
                for k in (n - 1, n)
            )
            assert np.isclose(before, after, atol=1e-9 * (1 + bend))


def test_the_oracle_takes_the_cheapest_of_equally_good_paths_and_then_the_first() -> None:
    quality = np.array([[0, 0.5, 0.5, 0.5, 0.2]])
    costs = np.array([[0, 2.0, 1.0, 1.0, 0.5]])
    table = make_table(quality, costs, 1, ["a", "b", "c", "d"])
    assert [int(oracle(table, np.array([0]), alpha)[0]) for alpha in (0.0, 0.1, 0.6, 0.61)] == [2, 2, 4, 4]


@settings(deadline=None)
@given(tables(), st.booleans(), st.sampled_from(ALPHAS))
def test_the_curve_is_the_oracle_s_mean_over_benchmarks(table: TransitionTable, allow_stop: bool, alpha: float) -> None:
    rows = np.arange(len(table.quality))
    exact_frontier = frontier(table, rows, allow_stop)
    mean = curve(table, rows, exact_frontier).at(alpha)
    value = node_outcome(table, rows, exact_frontier.at(alpha))
    for average, values in zip(mean, value, strict=True):
        per_benchmark = [values[table.benchmark == name].mean() for name in np.unique(table.benchmark)]
        assert np.isclose(average, np.mean(per_benchmark), atol=1e-12)


@each_size
@settings(deadline=None, max_examples=10)
@given(data=st.data(), seed=st.integers(0, 2**32), allow_stop=st.booleans())
def test_a_stochastic_policy_s_outcome_is_that_of_its_paths_weighted_by_their_probability(
    size: tuple[int, int], data: st.DataObject, seed: int, allow_stop: bool
) -> None:
    table = data.draw(tables((size,)))
    rows = np.arange(len(table.quality))
    shape = (len(rows), table.n_decision_nodes, table.n_models + allow_stop)
    weights = np.random.default_rng(seed).random(shape) + 0.01
    probabilities = weights / weights.sum(-1, keepdims=True)
    shares = path_shares(table, probabilities)
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-12)
    reward = outcome(table, rows, shares).reward(0.3)
    for row in rows:
        expected = 0.0
        for path in all_paths(table, allow_stop):
            steps = [probabilities[row, tree.node_of(path[:d], table.n_models), a] for d, a in enumerate(path)]
            if len(path) < table.horizon:
                steps.append(probabilities[row, tree.node_of(path, table.n_models), table.n_models])
            expected += float(np.prod(steps)) * path_reward(table, int(row), path, 0.3)
        assert np.isclose(reward[row], expected, atol=1e-12)


SMALL = [
    (m, h, stop)
    for m, h, stop in product(range(1, 6), range(1, 5), (False, True))
    if (m + stop) ** tree.n_decision_nodes(m, h) <= 10_000
]


@pytest.mark.parametrize(("n_models", "horizon", "allow_stop"), SMALL)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32), alpha=st.floats(0, 10))
def test_the_oracle_is_the_best_of_all_policies_and_each_policy_s_reward_is_that_of_its_path(
    n_models: int, horizon: int, allow_stop: bool, seed: int, alpha: float
) -> None:
    table = make(n_models, horizon, 1, seed)
    policies = np.array(list(product(range(n_models + allow_stop), repeat=table.n_decision_nodes)))
    # every policy is a row of its own: the table's only row, over and over
    shares = path_shares(table, np.eye(n_models + allow_stop)[policies])
    rewards = outcome(table, np.zeros(len(policies), np.int64), shares).reward(alpha)
    path_rewards = {path: path_reward(table, 0, path, alpha) for path in all_paths(table, allow_stop)}

    def path_of(policy: list[int]) -> tree.Path:
        path: tree.Path = ()
        while len(path) < horizon and (action := policy[tree.node_of(path, n_models)]) < n_models:
            path = (*path, action)
        return path

    np.testing.assert_allclose(rewards, [path_rewards[path_of(policy)] for policy in policies.tolist()], atol=1e-12)
    best = node_outcome(table, np.zeros(1, np.int64), oracle(table, np.zeros(1, np.int64), alpha, allow_stop)).reward(alpha)[0]
    assert np.isclose(best, rewards.max(), atol=1e-12)


@each_size
@settings(deadline=None, max_examples=10)
@given(data=st.data(), allow_stop=st.booleans())
def test_the_best_fixed_path_is_the_best_of_all_on_average(
    size: tuple[int, int], data: st.DataObject, allow_stop: bool
) -> None:
    table = data.draw(tables((size,)))
    rows, paths = np.arange(len(table.quality)), all_paths(table, allow_stop)
    together = best_fixed_path(table, rows, np.array(ALPHAS), allow_stop)
    per_benchmark = best_fixed_path_per_benchmark(table, rows, np.array(ALPHAS), allow_stop)

    def mean(path: tree.Path, alpha: float, benchmark: int) -> float:
        return float(np.mean([path_reward(table, int(row), path, alpha) for row in rows if table.benchmark[row] == benchmark]))

    for n, alpha in enumerate(ALPHAS):
        means = {path: [mean(path, alpha, b) for b in range(len(table.benchmarks))] for path in paths}
        chosen = tree.path_of(int(together[n]), table.n_models)
        assert together[n] == best_fixed_path(table, rows, alpha, allow_stop)
        assert np.isclose(np.mean(means[chosen]), max(np.mean(value) for value in means.values()), atol=1e-12)
        for benchmark, node in enumerate(per_benchmark[n]):
            rewards = {path: value[benchmark] for path, value in means.items()}
            assert np.isclose(rewards[tree.path_of(int(node), table.n_models)], max(rewards.values()), atol=1e-12)


def test_costs_add_up_along_a_path() -> None:
    costs = np.array([[0.0, 1.0, 2.0, 10.0, 20.0, 30.0, 40.0]])
    table = make_table(np.zeros((1, 7)), costs, 2, ["a", "b"])
    assert table.cost.tolist() == [[0, 1, 2, 11, 21, 32, 42]]
