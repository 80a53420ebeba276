from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from tests.synthetic import synthetic_table
from toolkit.routing.dense import Dense, Gradients
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig


def layers(*sizes: int) -> list[nn.Module]:
    made: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        made += [nn.Linear(before, after), nn.Tanh()]
    return made[:-1]


@pytest.mark.parametrize("sizes", [(5, 2), (7, 6, 3), (4, 8, 5, 1)])
def test_both_passes_are_autograd_s(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(*layers(*sizes))
    features, slopes = torch.randn(11, sizes[0]), torch.randn(11, sizes[-1])
    expected = chain(features)
    wanted = torch.autograd.grad(expected, list(chain.parameters()), slopes)
    dense = Dense(chain)
    gradients = Gradients(dense)
    kept = features.clone()
    torch.testing.assert_close(dense.forward(features), expected)
    dense.backward(slopes)
    torch.testing.assert_close([p.grad for p in chain.parameters()], list(wanted))
    assert torch.equal(features, kept)
    norm = torch.cat([w.flatten() for w in wanted]).norm()
    gradients.clip(0.5 * float(norm))
    torch.testing.assert_close([p.grad for p in chain.parameters()], [w * 0.5 for w in wanted], rtol=1e-4, atol=1e-6)
    gradients.clip(10 * float(norm))
    torch.testing.assert_close([p.grad for p in chain.parameters()], [w * 0.5 for w in wanted], rtol=1e-4, atol=1e-6)


def test_another_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="tanh"):
        Dense([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)])
    with pytest.raises(ValueError, match="tanh"):
        Dense([nn.Linear(2, 2), nn.Tanh()])


@pytest.mark.parametrize("algorithm", ["ppo", "exact"])
def test_with_one_hop_no_answer_is_observed_and_learning_still_works(algorithm: str) -> None:
    table = synthetic_table(rows=40, horizon=1, dimensions=16)
    model = fit_router(
        table, TrainConfig(algorithm=algorithm, timesteps=64, n_envs=8, ppo={"batch_size": 16}, exact={"n_epochs": 2}), 0
    )
    assert all(torch.isfinite(value).all() for value in model.policy.state_dict().values())
