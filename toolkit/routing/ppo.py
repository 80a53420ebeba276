"""PPO of stable-baselines3 at the speed of arithmetic: replays a table by indices, and gathers features once.

The algorithm, its hyperparameters, its callbacks and its file are SB3's. What differs is how rollouts are collected and how
minibatches are made: features of all decision nodes are extracted once, wherever the extractor has nothing to learn; episodes
are node numbers; a rollout keeps numbers, and a minibatch is one gather. Over any other environment it is SB3's PPO as it is.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from toolkit.replay.environments import RoutingVecEnv
from toolkit.replay.table import Ints
from toolkit.routing.dense import Dense, Gradients
from toolkit.routing.networks import of_table

LARGEST = 2**31
"""Bytes of features that are kept in memory; above, SB3's own collection gathers them as it goes."""


class Replayed(NamedTuple):
    """A rollout, one entry a hop, `(steps * n_envs,)`; `indices` are rows of the features."""

    indices: torch.Tensor
    actions: torch.Tensor
    values: torch.Tensor
    log_probs: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    rewards: torch.Tensor
    dones: torch.Tensor

    def shuffled(self, batch_size: int) -> Iterator["Replayed"]:
        """Cut the rollout into minibatches, in a new order."""
        order = torch.randperm(len(self.indices))
        columns = [torch.split(column.index_select(0, order), batch_size) for column in self]
        return map(Replayed, *columns)


class Compared(NamedTuple):
    """The policy beside the one that acted, one entry a decision: what is logged of the updates comes from it."""

    gain: torch.Tensor
    capped: torch.Tensor
    error: torch.Tensor
    negative_entropy: torch.Tensor
    ratio: torch.Tensor
    log_ratio: torch.Tensor

    @property
    def kl(self) -> torch.Tensor:
        """The divergence of the policy from the one that acted, as SB3 approximates it."""
        return (self.ratio - 1 - self.log_ratio).mean()


class ReplayPPO(PPO):
    """SB3's PPO, faster over a `RoutingVecEnv`; `save`, `load`, `predict` and all other arguments are SB3's.

    Args:
        *args: As in stable-baselines3.
        ent_start: `ent_coef` when training begins, from which it falls linearly to the one named; None for that one throughout.
            Where cost is dear a policy otherwise learns to stop before it has seen what a second hop is worth.
        **kwargs: As in stable-baselines3.
    """

    policy: ActorCriticPolicy
    _features: torch.Tensor | None = None

    def __init__(self, *args: Any, ent_start: float | None = None, **kwargs: Any) -> None:
        self.ent_start = ent_start
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        fused: dict[str, Any] = {"optimizer_kwargs": {"eps": 1e-5, "fused": True}}  # SB3's Adam, all parameters in one call
        self.policy_kwargs = fused | self.policy_kwargs
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_features", "_place", "_replayed", "_actor", "_critic"]

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._setup_learn(*args, **kwargs)
        self._features = self._extract()
        return found

    def _extract(self) -> torch.Tensor | None:
        """Return the features of the training rows' decision nodes, `(rows * D, features)`, where once is enough."""
        env, policy = self.env, self.policy
        if not isinstance(env, RoutingVecEnv) or len(env.alphas) or self.use_sde or self.clip_range_vf is not None:
            return None
        extractor = policy.features_extractor
        fixed = policy.share_features_extractor and not any(True for _ in extractor.parameters())
        count = len(env.rows) * env.table.n_decision_nodes
        try:
            self._actor, self._critic = Dense.actor(policy), Dense.critic(policy)
        except ValueError:
            return None
        if not fixed or count * policy.features_dim * 4 > LARGEST:
            return None
        self._place: Ints = np.full(len(env.table.split), -1, dtype=np.int64)
        self._place[env.rows] = np.arange(len(env.rows))
        return of_table(extractor, env.observer, env.rows, self.device).flatten(0, 1)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Replay `n_rollout_steps` hops of every episode; see stable-baselines3."""
        if self._features is None:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert isinstance(env, RoutingVecEnv)
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        shape = (n_rollout_steps, env.num_envs)
        indices = np.empty(shape, dtype=np.int64)
        rewards = np.empty(shape, dtype=np.float32)
        dones = np.zeros(shape, dtype=bool)
        actions, values, log_probs = (torch.empty(shape, dtype=d) for d in (torch.int64, torch.float32, torch.float32))
        with torch.inference_mode():
            for step in range(n_rollout_steps):
                indices[step] = self._place[env.row] * env.table.n_decision_nodes + env.node
                logits, values[step] = self._forward(self._features[torch.from_numpy(indices[step])])
                log_chances = torch.log_softmax(logits, -1)
                noise = torch.empty_like(logits).exponential_()
                actions[step] = (log_chances.exp() / noise).argmax(-1)  # a draw from the categorical, by exponential races
                log_probs[step] = log_chances.gather(-1, actions[step][:, None])[:, 0]
                rewards[step], dones[step] = env.advance(actions[step].numpy())
                self.num_timesteps += env.num_envs
                callback.update_locals(locals())
                if not callback.on_step():
                    return False
            here = torch.from_numpy(self._place[env.row] * env.table.n_decision_nodes + env.node)
            last = self._forward(self._features[here])[1]
            self._last_episode_starts = dones[-1]
            advantages, returns = self._advantages(torch.from_numpy(rewards), torch.from_numpy(dones), values, last)
            self._replayed = Replayed(
                *(torch.from_numpy(indices).flatten(), actions.flatten(), values.flatten(), log_probs.flatten()),
                *(advantages.flatten(), returns.flatten()),
                *(torch.from_numpy(rewards).flatten(), torch.from_numpy(dones).flatten()),
            )
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, `(n, actions)`, and values, `(n,)`."""
        return self._actor.forward(features), self._critic.forward(features)[:, 0]

    def _advantages(
        self, rewards: torch.Tensor, dones: torch.Tensor, values: torch.Tensor, last: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return advantages (GAE) and returns, `(steps, n_envs)`; as in stable-baselines3's `RolloutBuffer`."""
        going, advantages = (~dones).float(), torch.empty_like(rewards)
        later, following = torch.zeros_like(last), last
        for step in range(len(rewards) - 1, -1, -1):
            delta = rewards[step] + self.gamma * following * going[step] - values[step]
            later = delta + self.gamma * self.gae_lambda * going[step] * later
            advantages[step], following = later, values[step]
        return advantages, advantages + values

    def train(self) -> None:
        """Update the policy from the last rollout; see stable-baselines3, whose loss this is."""
        last = self.ent_coef
        if self.ent_start is not None:
            self.ent_coef += (self.ent_start - last) * self._current_progress_remaining
        try:
            if self._features is None:
                super().train()
            else:
                self._update(self._features)
        finally:
            self.ent_coef = last

    def _update(self, features: torch.Tensor) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range: float = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        optimizer, gradients = self.policy.optimizer, Gradients(self._actor, self._critic)
        seen: list[Compared] = []
        for _ in range(self.n_epochs):
            diverged = False
            for batch in self._replayed.shuffled(self.batch_size):
                logits, values = self._forward(features.index_select(0, batch.indices))
                in_logits, in_values, compared = self._slopes(batch, logits, values, clip_range)
                seen.append(compared)
                diverged = self.target_kl is not None and compared.kl.item() > 1.5 * self.target_kl
                if diverged:
                    break
                self._actor.backward(in_logits)
                self._critic.backward(in_values[:, None])
                gradients.clip(self.max_grad_norm)
                optimizer.step()
            self._n_updates += 1
            if diverged:
                break
        self._log(Compared(*map(torch.cat, zip(*seen, strict=True))), clip_range)

    def _log(self, compared: Compared, clip_range: float) -> None:
        """Log what SB3 does of a rollout's updates, under its names."""
        data = self._replayed
        policy_loss = -torch.min(compared.gain, compared.capped).mean()
        value_loss, entropy_loss = compared.error.square().mean(), compared.negative_entropy.mean()
        measures = {
            "loss": policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": entropy_loss,
            "clip_fraction": ((compared.ratio - 1).abs() > clip_range).float().mean(),
            "approx_kl": compared.kl,
        }
        for name, value in measures.items():
            self.logger.record(f"train/{name}", value.item())
        explained = 1 - (data.returns - data.values).var() / data.returns.var()
        self.logger.record("train/explained_variance", explained.item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)

    @torch.no_grad()
    def _slopes(
        self, batch: Replayed, logits: torch.Tensor, values: torch.Tensor, clip_range: float
    ) -> tuple[torch.Tensor, torch.Tensor, Compared]:
        """Return the gradients of PPO's loss in logits and values, and what they come from."""
        actions, n = batch.actions[:, None], len(values)
        log_chances = torch.log_softmax(logits, -1)
        chances = log_chances.exp()
        log_ratio = log_chances.gather(-1, actions)[:, 0] - batch.log_probs
        ratio, advantages = log_ratio.exp(), batch.advantages
        if self.normalize_advantage and n > 1:
            spread, mean = torch.std_mean(advantages)
            advantages = (advantages - mean) / (spread + 1e-8)
        gain, capped = advantages * ratio, advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
        negative_entropy = (chances * log_chances).sum(-1, keepdim=True)
        error = values - batch.returns
        uncapped = torch.where(gain <= capped, gain, 0.0)[:, None]  # beyond the cap the loss does not depend on the policy
        in_logits = chances * (uncapped + self.ent_coef * (log_chances - negative_entropy))
        in_logits.scatter_add_(1, actions, -uncapped).div_(n)
        in_values = error * (2 * self.vf_coef / n)
        return in_logits, in_values, Compared(gain, capped, error, negative_entropy, ratio, log_ratio)
