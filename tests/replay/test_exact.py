"""Exact results equal those of enumeration, one path or one policy at a time."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toy import make_table, with_missing
from toolkit.core import tree
from toolkit.replay.exact import (
    Outcome,
    best_fixed_path,
    best_fixed_path_per_benchmark,
    best_model,
    curve,
    ends,
    first_available,
    first_available_per_benchmark,
    frontier,
    node_outcome,
    on_allowed,
    oracle,
    outcome,
    path_shares,
    rank_models,
    rank_paths,
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
def tables(draw: st.DrawFn, sizes: tuple[tuple[int, int], ...] = SIZES, missing: bool | None = False) -> TransitionTable:
    """Draw a table, with missing responses or without, or either (None)."""
    n_models, horizon = draw(st.sampled_from(sizes))
    rows, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**32))
    table = make(n_models, horizon, rows, seed, draw(st.integers(1, rows)))
    if draw(st.booleans()) if missing is None else missing:
        return with_missing(table, seed)
    return table


def path_reward(table: TransitionTable, row: int, path: tree.Path, alpha: float) -> float:
    """Return R of one path, hop by hop."""
    nodes = [tree.node_of(path[:depth], table.n_models) for depth in range(1, len(path) + 1)]
    quality = float(table.quality[row, nodes[-1]]) if nodes else 0.0
    return quality - alpha * sum(float(table.hop_cost[row, node]) for node in nodes)


def all_paths(table: TransitionTable, allow_stop: bool, row: int | np.integer | None = None) -> list[tree.Path]:
    """Return every path that an episode can take, shorter ones first; if it may stop, they include the empty one.

    On a given row, only those are returned that are available.
    """
    lengths = range(0 if allow_stop else table.horizon, table.horizon + 1)
    paths = [path for length in lengths for path in product(range(table.n_models), repeat=length)]
    if row is None or table.available is None:
        return paths
    return [path for path in paths if table.available[row, tree.node_of(path, table.n_models)]]


@each_size
@settings(deadline=None, max_examples=10)
@given(data=st.data(), allow_stop=st.booleans())
def test_the_oracle_is_the_best_of_all_paths(size: tuple[int, int], data: st.DataObject, allow_stop: bool) -> None:
    table = data.draw(tables((size,), missing=None))
    rows = np.arange(len(table.quality))
    together = oracle(table, rows, np.array(ALPHAS), allow_stop)
    for alpha, nodes in zip(ALPHAS, together, strict=True):
        np.testing.assert_array_equal(nodes, oracle(table, rows, alpha, allow_stop))
        reward = node_outcome(table, rows, nodes).reward(alpha)
        for row in rows:
            paths = all_paths(table, allow_stop, row)
            values = [path_reward(table, int(row), path, alpha) for path in paths]
            assert np.isclose(reward[row], max(values), atol=1e-12)
            assert tree.path_of(int(nodes[row]), table.n_models) in paths


@settings(deadline=None)
@given(tables(missing=None), st.booleans(), st.floats(0, 20))
def test_the_frontier_is_the_oracle_at_any_alpha_and_bends_where_two_paths_are_equal(
    table: TransitionTable, allow_stop: bool, alpha: float
) -> None:
    rows = np.arange(len(table.quality))
    exact_frontier = frontier(table, rows, allow_stop)
    reward = node_outcome(table, rows, exact_frontier.at(alpha)).reward(alpha)
    for row in rows:
        paths = all_paths(table, allow_stop, row)
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
@given(tables(missing=None), st.booleans(), st.sampled_from(ALPHAS))
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


@settings(deadline=None)
@given(tables(missing=True), st.booleans(), st.floats(0, 5), st.integers(0, 2**32))
def test_the_best_of_predicted_paths_is_available(table: TransitionTable, allow_stop: bool, alpha: float, seed: int) -> None:
    rows = np.arange(len(table.quality))
    paths = all_paths(table, allow_stop)
    predicted = Outcome(*np.random.default_rng(seed).normal(size=(2, len(rows), len(paths))))
    for row, node in enumerate(frontier(table, rows, allow_stop, predicted).at(alpha)):
        rewards = dict(zip(paths, predicted.reward(alpha)[row], strict=True))
        best = max(rewards[path] for path in all_paths(table, allow_stop, row))
        assert np.isclose(rewards[tree.path_of(int(node), table.n_models)], best, atol=1e-9)
        assert tree.path_of(int(node), table.n_models) in all_paths(table, allow_stop, row)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(ALPHAS), st.booleans())
def test_fixed_paths_are_ranked_by_the_effects_of_a_regression_where_responses_are_missing(
    seed: int, alpha: float, allow_stop: bool
) -> None:
    table = with_missing(make(2, 2, 8, seed, n_benchmarks=2), seed)
    assert table.available is not None
    rows, paths = np.arange(8), all_paths(table, allow_stop)
    nodes = [tree.node_of(path, 2) for path in paths]
    equations, values = [], []  # one for each response: the level of its question, and the effect of its path
    for row in rows.tolist():
        weight = 1 / (2 * np.sum(table.benchmark == table.benchmark[row]))
        for path in all_paths(table, allow_stop, row):
            unknowns = np.zeros(len(rows) + len(paths))
            unknowns[[row, len(rows) + paths.index(path)]] = 1
            equations.append(np.sqrt(weight) * unknowns)
            values.append(np.sqrt(weight) * path_reward(table, row, path, alpha))
    penalties = np.eye(len(rows) + len(paths))[len(rows) :] / np.sqrt(len(rows))
    solution = np.linalg.lstsq(np.vstack([*equations, penalties]), np.array([*values, *np.zeros(len(paths))]), rcond=None)[0]
    effects = np.where(table.available[:, nodes].any(0), solution[len(rows) :], -np.inf)
    ranked = rank_paths(table, rows, alpha, allow_stop)
    assert sorted(ranked.tolist()) == nodes
    ordered = effects[ranked - nodes[0]]
    assert (ordered[:-1] >= ordered[1:] - 1e-9).all()
    assert best_fixed_path(table, rows, alpha, allow_stop) == ranked[0]


def test_a_path_that_was_only_asked_easy_questions_is_not_the_best() -> None:
    quality = np.array([[0, 0.9, 1.0, 0]] * 4 + [[0, 0, 0.5, 0.4]] * 4)  # b is better than both, wherever it was asked
    available = np.array([[True, True, True, False]] * 4 + [[True, False, True, True]] * 4)
    table = replace(make_table(quality, np.zeros_like(quality), 1, ["a", "b", "c"]), available=available)
    rows = np.arange(8)
    assert rank_paths(table, rows, 0.0).tolist() == rank_models(table, rows, 0.0).tolist() == [2, 1, 3]
    assert int(best_fixed_path(table, rows, 0.0)) == best_model(table, rows, 0.0) == 2


@settings(deadline=None)
@given(tables(missing=None), st.integers(0, 2**32))
def test_each_row_takes_the_first_of_a_ranking_that_it_has(table: TransitionTable, seed: int) -> None:
    rows, n_nodes = np.arange(len(table.quality)), table.quality.shape[1]
    rankings = np.random.default_rng(seed).permuted(np.tile(np.arange(n_nodes), (3, 1)), axis=1)
    for ranking, nodes in zip(rankings, first_available(table, rows, rankings), strict=True):
        for row, node in enumerate(nodes):
            has = [other for other in ranking if table.available is None or table.available[row, other]]
            assert node == has[0]
    per_benchmark = first_available_per_benchmark(table, rows, list(rankings[: len(table.benchmarks)]))
    for own, benchmark in enumerate(table.benchmark):
        assert per_benchmark[own] == first_available(table, rows[[own]], rankings[benchmark])[0]


@settings(deadline=None)
@given(tables(missing=True), st.booleans(), st.integers(0, 2**32))
def test_what_is_not_allowed_has_no_probability_and_leads_nowhere(table: TransitionTable, allow_stop: bool, seed: int) -> None:
    assert table.available is not None
    rows = np.arange(len(table.quality))
    weights = np.random.default_rng(seed).random((len(rows), table.n_decision_nodes, table.n_models + allow_stop))
    weights[weights < 0.2] = 0
    kept = on_allowed(table, rows, weights)
    np.testing.assert_allclose(kept.sum(-1), 1)
    for row, node, action in product(rows, range(table.n_decision_nodes), range(table.n_models)):
        children = table.available[row, node * table.n_models + 1 :][: table.n_models]
        if children.any() and not children[action]:
            assert kept[row, node, action] == 0
    shares = path_shares(table, kept)
    at = ends(table, allow_stop)
    assert not shares[~table.available[:, at]].any()
    np.testing.assert_allclose(shares.sum(1), 1)


def test_costs_add_up_along_a_path() -> None:
    costs = np.array([[0.0, 1.0, 2.0, 10.0, 20.0, 30.0, 40.0]])
    table = make_table(np.zeros((1, 7)), costs, 2, ["a", "b"])
    assert table.cost.tolist() == [[0, 1, 2, 11, 21, 32, 42]]
