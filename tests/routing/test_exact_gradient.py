"""The value whose gradient `exact` follows, against enumeration of all paths."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replay.test_exact import all_paths, make, worth
from toolkit.core import tree
from toolkit.replay.exact import ends
from toolkit.replay.table import TransitionTable
from toolkit.routing.exact_gradient import Average, backed_up


def enumerated(table: TransitionTable, logits: torch.Tensor, alpha: float, ent_coef: float, allow_stop: bool) -> torch.Tensor:
    """Sum over all paths: the chance of each times what it is worth, entropies along the way included."""
    chances = torch.softmax(logits, -1)
    entropy = -(chances * chances.log()).sum(-1)
    totals = []
    for row in range(len(logits)):
        total = torch.zeros((), dtype=torch.float64)
        for path in all_paths(table, allow_stop):
            visited = [tree.node_of(path[:depth], table.n_models) for depth in range(min(len(path) + 1, table.horizon))]
            actions = [*path, table.n_models][: len(visited)]
            chance = torch.stack([chances[row, node, action] for node, action in zip(visited, actions, strict=True)]).prod()
            total = total + chance * (worth(table, row, path, alpha) + ent_coef * entropy[row, visited].sum())
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
    value, slopes = backed_up(rewards, logits, n_models, horizon, ent_coef)
    expected = enumerated(table, logits, alpha, ent_coef, allow_stop)
    torch.testing.assert_close(value, expected)
    (expected_slopes,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(slopes, expected_slopes)


def test_an_average_of_parameters_changes_places_with_them() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    average, expected = Average([parameter], 0.9), 0.0
    for step in range(1, 101):
        parameter.data.fill_(step)
        average.update()
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    average.swap()
    torch.testing.assert_close(parameter.data, torch.full((2,), expected))
    average.swap()
    torch.testing.assert_close(parameter.data, torch.full((2,), 100.0))
