from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer

from tests.toy import known_table
from toolkit.replay.environments import RoutingVecEnv
from toolkit.routing.ppo import ReplayPPO
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig


@pytest.mark.parametrize("extracts", [True, False], ids=["replayed by index", "as SB3 does"])
def test_the_entropy_bonus_of_ppo_falls_to_its_final_value(
    extracts: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bonuses: list[float] = []
    kind, name = (ReplayPPO, "_update") if extracts else (PPO, "train")
    update = getattr(kind, name)

    def recorded(self: ReplayPPO) -> None:
        bonuses.append(self.ent_coef)
        update(self)

    monkeypatch.setattr(kind, name, recorded)
    if not extracts:
        monkeypatch.setattr(ReplayPPO, "_node_features", lambda self: None)
    config = TrainConfig(timesteps=4_000, n_envs=100, ppo={"ent_coef": 0.01, "ent_start": 0.5, "n_steps": 4, "batch_size": 100})
    model = fit_router(known_table(), config, 0)
    np.testing.assert_allclose(bonuses, 0.01 + 0.49 * (1 - np.arange(1, 11) / 10))
    model.save(tmp_path / "policy.zip")
    loaded = ReplayPPO.load(tmp_path / "policy.zip")
    assert (loaded.ent_coef, loaded.ent_start) == (0.01, 0.5)


@pytest.mark.parametrize("alphas", [(), (0.0, 0.1, 0.2)], ids=["one alpha", "conditioned"])
def test_ppo_over_indices_equals_stable_baselines3_s_ppo(alphas: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both make the same update of the same network from the same rollout."""
    table = known_table()
    arguments = {"n_steps": 4, "n_epochs": 3, "batch_size": 64, "learning_rate": 1e-2}
    config = TrainConfig(timesteps=64, n_envs=16, alphas=alphas, ppo=arguments)
    ours = fit_router(table, config, 0)
    theirs = fit_router(table, TrainConfig(**config.model_dump()), 0)
    assert isinstance(ours, ReplayPPO)
    assert isinstance(theirs, ReplayPPO)
    theirs.set_parameters(copy.deepcopy(ours.get_parameters()))  # type: ignore[arg-type]  # SB3 declares less than it takes
    _, callback = ours._setup_learn(64, None)
    ours.collect_rollouts(RoutingVecEnv(table, 16, alphas=alphas), callback, ours.rollout_buffer, 4)
    rollout = ours._rollout
    nodes, rows = np.divmod(rollout.indices.numpy(), len(table.split))
    observations = RoutingVecEnv(table, 16, alphas=alphas).observer(rows, nodes, rollout.alphas.numpy())
    buffer = theirs.rollout_buffer
    buffer.reset()
    shape = (4, 16)
    buffer.observations = observations.reshape(*shape, -1)
    buffer.actions = rollout.actions.numpy().reshape(*shape, 1)
    for name in ("values", "log_probs", "advantages", "returns"):
        setattr(buffer, name, getattr(rollout, name).numpy().reshape(shape))
    buffer.full = True
    rewards, dones = (column.numpy().reshape(shape) for column in (rollout.rewards, rollout.dones))
    last = torch.zeros(16)  # an episode is 2 hops and the rollout 4: nothing is bootstrapped
    check = RolloutBuffer(4, theirs.observation_space, theirs.action_space, "cpu", theirs.gae_lambda, theirs.gamma, 16)
    check.rewards, check.values = rewards, buffer.values
    check.episode_starts = np.concatenate([np.ones((1, 16)), dones[:-1]]).astype(np.float32)
    check.compute_returns_and_advantage(last, dones[-1])
    np.testing.assert_allclose(buffer.advantages, check.advantages, atol=1e-6)
    torch.manual_seed(0)
    ours.train()
    theirs._features = None  # without features, it is SB3's own
    monkeypatch.setattr(np.random, "permutation", lambda n: torch.randperm(n).numpy())
    torch.manual_seed(0)
    theirs.train()
    for left, right in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)
    for name in ("policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "explained_variance"):
        logged = (model.logger.name_to_value[f"train/{name}"] for model in (ours, theirs))
        assert next(logged) == pytest.approx(next(logged), abs=1e-5), name
