"""The value whose gradient `exact` follows equals a sum over all paths."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replay.test_exact import all_paths, make, path_reward
from tests.toy import known_table
from toolkit.core import tree
from toolkit.replay.exact import ends
from toolkit.replay.table import TransitionTable
from toolkit.routing.exact_gradient import ExactGradient, MovingAverage, _Questions, back_up
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig


def enumerated(table: TransitionTable, logits: torch.Tensor, alpha: float, ent_coef: float, allow_stop: bool) -> torch.Tensor:
    """Sum over all paths: the probability of each times its reward and the entropy bonuses along it."""
    probabilities = torch.softmax(logits, -1)
    entropy = -(probabilities * probabilities.log()).sum(-1)
    totals = []
    for row in range(len(logits)):
        total = torch.zeros((), dtype=torch.float64)
        for path in all_paths(table, allow_stop):
            visited = [tree.node_of(path[:depth], table.n_models) for depth in range(min(len(path) + 1, table.horizon))]
            actions = [*path, table.n_models][: len(visited)]
            steps = [probabilities[row, node, action] for node, action in zip(visited, actions, strict=True)]
            total = total + torch.stack(steps).prod() * (
                path_reward(table, row, path, alpha) + ent_coef * entropy[row, visited].sum()
            )
        totals.append(total)
    return torch.stack(totals)


@pytest.mark.parametrize(("n_models", "horizon"), list(product(range(1, 5), range(1, 4))))
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32), allow_stop=st.booleans(), ent_coef=st.sampled_from([0.0, 0.1]))
def test_the_value_and_its_gradient_are_those_of_all_paths(
    n_models: int, horizon: int, seed: int, allow_stop: bool, ent_coef: float
) -> None:
    table, alpha = make(n_models, horizon, 2, seed), 0.3
    shape = (2, table.n_decision_nodes, n_models + allow_stop)
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).requires_grad_()
    at = ends(table, allow_stop)
    rewards = torch.from_numpy(table.quality[:, at] - alpha * table.cost[:, at])
    value, gradient = back_up(rewards, logits, n_models, horizon, ent_coef)
    expected = enumerated(table, logits, alpha, ent_coef, allow_stop)
    torch.testing.assert_close(value, expected)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(gradient, expected_gradient)


def test_every_benchmark_weighs_the_same() -> None:
    table = replace(known_table(8), benchmark=np.array([0, 0, 0, 0, 0, 0, 1, 1]), benchmarks=("large", "small"))
    learner = fit_router(table, TrainConfig(algorithm="exact", exact={"n_epochs": 1}), 0)
    assert isinstance(learner, ExactGradient)
    rows = table.rows("train")
    weights, benchmark = _Questions(learner, rows).weights.numpy(), table.benchmark[rows]
    assert {0, 1} == set(benchmark.tolist())
    assert weights.mean() == pytest.approx(1)
    assert weights[benchmark == 0].sum() == pytest.approx(weights[benchmark == 1].sum())
    assert len(set(weights.tolist())) == 2


def test_a_moving_average_can_be_swapped_with_its_parameters() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    average, expected = MovingAverage([parameter], 0.9), 0.0
    for step in range(1, 101):
        parameter.data.fill_(step)
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    average.swap()
    torch.testing.assert_close(parameter.data, torch.full((2,), expected))
    average.swap()
    torch.testing.assert_close(parameter.data, torch.full((2,), 100.0))


def test_every_knot_of_a_conditioned_policy_learns_from_equally_many_questions() -> None:
    alphas = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 2.0, 5.0, 9.0)
    table = known_table()
    learner = fit_router(table, TrainConfig(algorithm="exact", alphas=alphas, exact={"n_epochs": 1}), 0)
    assert isinstance(learner, ExactGradient)
    questions = _Questions(learner, table.rows("train"))
    assert questions.conditioned
    knots = questions.conditioned.knots.tolist()
    sampled = questions.sample_alphas(12_000).tolist()
    assert set(sampled) == {float(np.float32(alpha)) for alpha in alphas}
    # an alpha at a share s between two knots is sampled (1 - s) times for the one and s times for the other
    weights = [questions.conditioned.knot_weights(torch.tensor(values)) for values in (alphas, sampled)]
    expected = (weights[0] / weights[0].sum(0)).sum(1) / len(knots)
    counted = [sampled.count(float(np.float32(alpha))) / len(sampled) for alpha in alphas]
    np.testing.assert_allclose(counted, expected, atol=2 / 12_000)
    assert weights[0].sum(0).min() < 0.7 * weights[0].sum(0).max()
    assert weights[1].sum(0).min() > 0.7 * weights[1].sum(0).max()
