from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from tests.synthetic import synthetic_table
from toolkit.routing.dense import Dense, FlatGradient, node_segments
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig


def layers(*sizes: int) -> list[nn.Module]:
    chain: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        chain += [nn.Linear(inputs, outputs), nn.Tanh()]
    return chain[:-1]


@pytest.mark.parametrize("sizes", [(5, 2), (7, 6, 3), (4, 8, 5, 1)])
def test_both_passes_equal_autograd(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(*layers(*sizes))
    features, output_gradient = torch.randn(11, sizes[0]), torch.randn(11, sizes[-1])
    outputs = chain(features)
    expected = torch.autograd.grad(outputs, list(chain.parameters()), output_gradient)
    dense = Dense(chain)
    flat_gradient = FlatGradient(dense)
    copied = features.clone()
    torch.testing.assert_close(dense.forward(features), outputs)
    dense.backward(output_gradient)
    torch.testing.assert_close([p.grad for p in chain.parameters()], list(expected))
    assert torch.equal(features, copied)
    norm = torch.cat([gradient.flatten() for gradient in expected]).norm()
    for limit in (0.5 * float(norm), 10 * float(norm)):  # the second is above the norm and changes nothing
        flat_gradient.clip(limit)
        halved = [gradient * 0.5 for gradient in expected]
        torch.testing.assert_close([p.grad for p in chain.parameters()], halved, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sizes", [(5, 2), (4, 8, 1)])
def test_groups_have_weights_of_their_own_on_their_own_rows(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    groups, n = torch.tensor([0, 1, 1, 2]), 11
    chain = nn.Sequential(*layers(sizes[0] * 4, *sizes[1:]))
    nodes = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2])  # the last node is nowhere
    features, output_gradient = torch.randn(n, sizes[0]), torch.randn(n, sizes[-1])
    repeated = torch.zeros(n, 4, sizes[0])
    repeated[:, 0] = features
    repeated[torch.arange(n), 1 + groups[nodes]] = features
    outputs = chain(repeated.flatten(1))
    expected = torch.autograd.grad(outputs, list(chain.parameters()), output_gradient)
    dense = Dense(chain)
    FlatGradient(dense).vector.fill_(7)  # what was there before is overwritten
    torch.testing.assert_close(dense.forward(features, node_segments(groups, nodes)), outputs)
    dense.backward(output_gradient)
    torch.testing.assert_close([p.grad for p in chain.parameters()], list(expected))


def test_another_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="tanh"):
        Dense([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)])
    with pytest.raises(ValueError, match="tanh"):
        Dense([nn.Linear(2, 2), nn.Tanh()])


@pytest.mark.parametrize("algorithm", ["ppo", "exact"])
def test_learning_works_with_one_hop_where_no_response_is_observed(algorithm: str) -> None:
    table = synthetic_table(rows=40, horizon=1, dimensions=16)
    model = fit_router(
        table, TrainConfig(algorithm=algorithm, timesteps=64, n_envs=8, ppo={"batch_size": 16}, exact={"n_epochs": 2}), 0
    )
    assert all(torch.isfinite(value).all() for value in model.policy.state_dict().values())
