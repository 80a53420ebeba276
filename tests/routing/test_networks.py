from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.synthetic import synthetic_table
from toolkit.replay.observations import Observer
from toolkit.routing.exact_gradient import ExactGradient
from toolkit.routing.networks import Conditioned, PerHop, node_features
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig


def test_features_are_interpolated_between_knots() -> None:
    space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    conditioned = Conditioned(space, [0.0, 1.0, 3.0])
    alphas = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0, 3.0, 9.0])
    observations = torch.cat([torch.tensor([[5.0, 7.0]]).expand(7, 2), alphas[:, None]], 1)
    weights = torch.tensor([[1, 0, 0], [1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1], [0, 0, 1]])
    expected = (weights[:, :, None] * torch.tensor([5.0, 7.0])).flatten(1)
    torch.testing.assert_close(conditioned(observations), expected)
    torch.testing.assert_close(conditioned.at(observations[:, None, :2], alphas), expected[:, None])
    torch.testing.assert_close(Conditioned(space, [0.5])(observations), observations[:, :2])


def test_features_are_repeated_for_each_hop_and_are_zero_at_other_hops() -> None:
    space = spaces.Box(-np.inf, np.inf, (5,), np.float32)
    observations = torch.tensor([[5.0, 7.0, 1.0, 0.0, 0.5], [5.0, 7.0, 0.0, 1.0, 0.5]])
    zeros = torch.zeros(5)
    expected = torch.stack([torch.cat([observations[0], zeros]), torch.cat([zeros, observations[1]])])
    torch.testing.assert_close(PerHop(space, 2)(observations), expected)


@pytest.mark.parametrize("projection", [0, 3])
@pytest.mark.parametrize("per_hop", [False, True])
@pytest.mark.parametrize("alphas", [(), (0.0, 0.2)], ids=["one alpha", "conditioned"])
@pytest.mark.parametrize("parts", [1, 2], ids=["whole context", "question and response"])
def test_features_of_all_nodes_are_those_of_their_observations(
    projection: int, per_hop: bool, alphas: tuple[float, ...], parts: int
) -> None:
    whole = synthetic_table(90, dimensions=8)
    table = replace(whole, texts=np.ascontiguousarray(whole.texts[:, :, 2 - parts :]))
    config = TrainConfig(algorithm="exact", projection=projection, per_hop=per_hop, alphas=alphas, exact={"n_epochs": 1})
    learner = fit_router(table, config, 0)
    assert isinstance(learner, ExactGradient)
    extractor, observer = learner.policy.pi_features_extractor, Observer(table, with_alpha=bool(alphas))
    rows, nodes = np.array([3, 0, 80, 41]), np.arange(table.n_decision_nodes)
    observations = observer(np.repeat(rows, len(nodes)), np.tile(nodes, len(rows)), 0.1)
    expected = extractor(torch.from_numpy(observations)).view(len(rows), len(nodes), -1)
    torch.testing.assert_close(node_features(extractor, observer, rows, 0.1), expected, atol=1e-5, rtol=1e-5)
