"""Exact values over a tree of which some paths do not exist equal those of enumeration, path by path."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.suites.test_tree import listed_paths, trees
from tests.toy import make_table
from toolkit.core import tree
from toolkit.replay.environments import RoutingEnv
from toolkit.replay.exact import best_fixed_path, ends, on_allowed, oracle, outcome, path_shares
from toolkit.replay.table import TransitionTable
from toolkit.suites.tree import TreeConfig, path_tree

Drawn = tuple[tuple[str, ...], int, TreeConfig]


def make(drawn: Drawn, rows: int, seed: int) -> TransitionTable:
    names, horizon, config = drawn
    rng = np.random.default_rng(seed)
    shape = (rows, tree.n_nodes(len(names), horizon))
    exists = np.zeros(shape[1], dtype=np.bool_)
    exists[[number for number, _ in path_tree(names, horizon, config).paths()]] = True
    quality, cost = (np.where(exists, rng.random(shape), 0) for _ in range(2))
    quality[:, 0] = cost[:, 0] = 0
    table = make_table(quality, cost, horizon, names)
    return replace(table, available=np.broadcast_to(exists, shape), exists=exists)


def paths_of(drawn: Drawn, allow_stop: bool) -> list[tuple[str, ...]]:
    """Return the paths that an episode can take, in the order of their nodes."""
    complete = listed_paths(*drawn)
    lengths = range(0 if allow_stop else drawn[1], drawn[1] + 1)
    prefixes = {path[:length] for path in complete for length in lengths}
    return [path for length in lengths for path in product(drawn[0], repeat=length) if path in prefixes]


def reward(table: TransitionTable, row: int, path: tuple[str, ...], alpha: float) -> float:
    numbers = [tree.node_of(tuple(map(table.models.index, path[: n + 1])), table.n_models) for n in range(len(path))]
    return float(table.quality[row, numbers[-1:]].sum() - alpha * table.hop_cost[row, numbers].sum())


@given(trees(), st.integers(1, 4), st.integers(0, 2**32), st.booleans(), st.sampled_from([0.0, 0.3, 3.0]))
@settings(max_examples=150, deadline=None)
def test_the_oracle_and_the_best_fixed_path_are_those_of_the_paths_that_exist(
    drawn: Drawn, rows: int, seed: int, allow_stop: bool, alpha: float
) -> None:
    table, paths = make(drawn, rows, seed), paths_of(drawn, allow_stop)
    rewards = np.array([[reward(table, row, path, alpha) for path in paths] for row in range(rows)])
    every = np.arange(rows)
    best = [paths[n] for n in rewards.argmax(1)]
    assert [table.path(node) for node in oracle(table, every, alpha, allow_stop).tolist()] == best
    assert table.path(int(best_fixed_path(table, every, alpha, allow_stop))) == paths[rewards.mean(0).argmax()]
    assert not table.lacks_responses


@given(trees(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_policy_is_worth_the_mean_of_the_paths_that_exist_by_its_probabilities(
    drawn: Drawn, seed: int, allow_stop: bool
) -> None:
    table = make(drawn, 2, seed)
    rows, actions = np.arange(2), table.n_models + allow_stop
    probabilities = on_allowed(table, rows, np.random.default_rng(seed).random((2, table.n_decision_nodes, actions)))
    expected = np.zeros(2)
    for row, path in product(rows.tolist(), paths_of(drawn, allow_stop)):
        positions = tuple(map(table.models.index, path))
        steps = [probabilities[row, tree.node_of(positions[:n], table.n_models), model] for n, model in enumerate(positions)]
        stops = [probabilities[row, tree.node_of(positions, table.n_models), -1]] if len(path) < table.horizon else []
        expected[row] += np.prod([*steps, *stops]) * reward(table, row, path, 0.5)
    shares = path_shares(table, probabilities)
    np.testing.assert_allclose(outcome(table, rows, shares).reward(0.5), expected)
    at = ends(table, allow_stop)
    assert table.exists is not None
    assert not shares[:, ~table.exists[at]].any()


@given(trees(), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_an_episode_takes_the_paths_that_exist(drawn: Drawn, seed: int) -> None:
    env = RoutingEnv(make(drawn, 1, seed))
    complete: set[tuple[str, ...]] = {()}
    for _ in range(drawn[1]):
        extended: set[tuple[str, ...]] = set()
        for path in complete:
            env.reset(options={"row": 0})
            for model in path:
                env.step(drawn[0].index(model))
            extended |= {(*path, drawn[0][model]) for model in np.flatnonzero(env.action_masks())}
        complete = extended
    assert complete == set(listed_paths(*drawn))
