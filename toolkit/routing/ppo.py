"""PPO of stable-baselines3, adapted to a table: rollouts are node numbers, and features are computed once.

The algorithm, its hyperparameters, its callbacks and its file are SB3's. Only the collection of rollouts and the assembly of
minibatches differ: the features of all decision nodes are computed once, if the extractor has nothing to learn, and a minibatch
is one gather. Over any other environment it is SB3's PPO unchanged. The gradients of the loss are written out, because autograd
is slower (measured in `toolkit.routing.dense`).
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
from toolkit.routing.algorithms import Algorithm
from toolkit.routing.dense import Dense, FlatGradient, node_segments
from toolkit.routing.masked_policy import mask_logits
from toolkit.routing.networks import RouterFeatures, all_node_features, group_size, node_groups

MAX_FEATURE_BYTES = 2**31
"""Size of the features that are kept in memory; above it, SB3 observes nodes as it replays them."""


class Rollout(NamedTuple):
    """A rollout, one entry per hop, `(steps * n_envs,)`; `indices` are rows of the features, and `alphas` the episodes' own."""

    indices: torch.Tensor
    alphas: torch.Tensor
    actions: torch.Tensor
    values: torch.Tensor
    log_probs: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    rewards: torch.Tensor
    dones: torch.Tensor

    def shuffled(self, batch_size: int) -> Iterator["Rollout"]:
        """Split the rollout into random minibatches, each in ascending order of indices, so that nodes are together."""
        for part in torch.split(torch.randperm(len(self.indices)), batch_size):
            order = part[self.indices[part].argsort()]
            yield Rollout(*(column[order] for column in self))


class LossTerms(NamedTuple):
    """The terms of PPO's loss for each decision, `(n,)`: the policy compared with the one that collected the rollout."""

    gain: torch.Tensor
    clipped_gain: torch.Tensor
    value_error: torch.Tensor
    negative_entropy: torch.Tensor
    ratio: torch.Tensor
    log_ratio: torch.Tensor

    @property
    def kl(self) -> torch.Tensor:
        """The divergence of the policy from the one that collected the rollout, as SB3 approximates it."""
        return (self.ratio - 1 - self.log_ratio).mean()


class ReplayPPO(PPO):
    """SB3's PPO, faster over a `RoutingVecEnv`; `save`, `load`, `predict` and all other arguments are SB3's.

    Args:
        *args: Passed to SB3's PPO.
        ent_start: Initial `ent_coef`, which falls linearly to `ent_coef` over the training; None keeps it constant. At a high
            price of cost, a policy otherwise learns to stop before it has seen what a second hop is good for.
        **kwargs: Passed to SB3's PPO.
    """

    policy: ActorCriticPolicy
    _features: torch.Tensor | None = None
    _allowed: torch.Tensor | None = None
    """Which models may be chosen at the nodes of `_features`, `(D * rows, M)`; None if all may."""

    def __init__(self, *args: Any, ent_start: float | None = None, **kwargs: Any) -> None:
        self.ent_start = ent_start
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        fused: dict[str, Any] = {"optimizer_kwargs": {"eps": 1e-5, "fused": True}}  # SB3's Adam, all parameters in one call
        self.policy_kwargs = fused | self.policy_kwargs
        super()._setup_model()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_features", "_allowed", "_index", "_groups", "_rollout", "_actor", "_critic"]

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._setup_learn(*args, **kwargs)
        self._features = self._node_features()
        return result

    def _node_features(self) -> torch.Tensor | None:
        """Return the base features of the training rows' nodes, `(D * rows, features)`; None if they cannot be reused."""
        env, policy = self.env, self.policy
        self._allowed = None
        if not isinstance(env, RoutingVecEnv) or self.use_sde or self.clip_range_vf is not None:
            return None
        extractor = policy.features_extractor
        fixed = policy.share_features_extractor and not any(True for _ in extractor.parameters())
        self._groups = node_groups(extractor, env.observer)
        count = len(env.rows) * env.table.n_decision_nodes
        try:
            self._actor, self._critic = Dense.actor(policy), Dense.critic(policy)
        except ValueError:
            return None
        if not fixed or count * group_size(extractor) * 4 > MAX_FEATURE_BYTES:
            return None
        self._index: Ints = np.full(len(env.table.split), -1, dtype=np.int64)
        self._index[env.rows] = np.arange(len(env.rows))
        if env.table.available is not None:
            allowed = env.table.allowed[env.rows].swapaxes(0, 1)  # the first node on all rows first, like the features
            self._allowed = torch.from_numpy(allowed.reshape(count, -1)).to(self.device)
        return all_node_features(extractor, env.observer, env.rows, self.device).flatten(0, 1)

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
        alphas = torch.empty(shape)
        indices, actions = torch.empty(shape, dtype=torch.int64), torch.empty(shape, dtype=torch.int64)
        values, log_probs, rewards = torch.empty(shape), torch.empty(shape), torch.empty(shape)
        dones = torch.zeros(shape, dtype=torch.bool)
        with torch.inference_mode():
            for step in range(n_rollout_steps):
                indices[step], alphas[step] = self._indices(env), torch.from_numpy(env.episode_alphas)
                logits, values[step] = self._forward_unsorted(indices[step], alphas[step])
                log_probabilities = torch.log_softmax(logits, -1)
                noise = torch.empty_like(logits).exponential_()
                actions[step] = (log_probabilities.exp() / noise).argmax(-1)  # samples the categorical distribution
                log_probs[step] = log_probabilities.gather(-1, actions[step][:, None])[:, 0]
                rewards[step], dones[step] = map(torch.from_numpy, env.advance(actions[step].numpy()))
                self.num_timesteps += env.num_envs
                callback.update_locals(locals())
                if not callback.on_step():
                    return False
            last_values = self._forward_unsorted(self._indices(env), torch.from_numpy(env.episode_alphas).float())[1]
            self._last_episode_starts = dones[-1].numpy()
            advantages = self._advantages(rewards, dones, values, last_values)
            self._rollout = Rollout(
                indices=indices.flatten(),
                alphas=alphas.flatten(),
                actions=actions.flatten(),
                values=values.flatten(),
                log_probs=log_probs.flatten(),
                advantages=advantages.flatten(),
                returns=(advantages + values).flatten(),
                rewards=rewards.flatten(),
                dones=dones.flatten(),
            )
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _indices(self, env: RoutingVecEnv) -> torch.Tensor:
        """Return the rows of the features that belong to the episodes' current nodes, `(n_envs,)`."""
        return torch.from_numpy(env.node * len(env.rows) + self._index[env.row])

    def _forward(self, indices: torch.Tensor, alphas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, `(n, actions)`, and values, `(n,)`, at rows of the features in ascending order."""
        assert self._features is not None
        assert isinstance(self.env, RoutingVecEnv)
        features, extractor = self._features.index_select(0, indices), self.policy.features_extractor
        if isinstance(extractor, RouterFeatures):
            features = extractor.at(features, alphas)
        segments = node_segments(self._groups, indices // len(self.env.rows))
        logits, values = self._actor.forward(features, segments), self._critic.forward(features, segments)[:, 0]
        return logits if self._allowed is None else mask_logits(logits, self._allowed[indices]), values

    def _forward_unsorted(self, indices: torch.Tensor, alphas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the same for rows of the features in any order."""
        order = indices.argsort()
        logits, values = self._forward(indices[order], alphas[order])
        back = order.argsort()
        return logits[back], values[back]

    def _advantages(
        self, rewards: torch.Tensor, dones: torch.Tensor, values: torch.Tensor, last_values: torch.Tensor
    ) -> torch.Tensor:
        """Return advantages (GAE), `(steps, n_envs)`, computed as in SB3's `RolloutBuffer`."""
        continues, advantages = (~dones).float(), torch.empty_like(rewards)
        advantage, next_values = torch.zeros_like(last_values), last_values
        for step in range(len(rewards) - 1, -1, -1):
            delta = rewards[step] + self.gamma * next_values * continues[step] - values[step]
            advantage = delta + self.gamma * self.gae_lambda * continues[step] * advantage
            advantages[step], next_values = advantage, values[step]
        return advantages

    def train(self) -> None:
        """Update the policy from the last rollout; the loss is SB3's."""
        final = self.ent_coef
        if self.ent_start is not None:
            self.ent_coef += (self.ent_start - final) * self._current_progress_remaining
        try:
            if self._features is None:
                super().train()
            else:
                self._update()
        finally:
            self.ent_coef = final

    def _update(self) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range: float = self.clip_range(self._current_progress_remaining)  # type: ignore[operator]
        optimizer, gradient = self.policy.optimizer, FlatGradient(self._actor, self._critic)
        batches: list[LossTerms] = []
        for _ in range(self.n_epochs):
            diverged = False
            for batch in self._rollout.shuffled(self.batch_size):
                logits, values = self._forward(batch.indices, batch.alphas)
                logit_gradients, value_gradients, terms = self._gradients(batch, logits, values, clip_range)
                batches.append(terms)
                diverged = self.target_kl is not None and terms.kl.item() > 1.5 * self.target_kl
                if diverged:
                    break
                self._actor.backward(logit_gradients)
                self._critic.backward(value_gradients[:, None])
                gradient.clip(self.max_grad_norm)
                optimizer.step()
            self._n_updates += 1
            if diverged:
                break
        self._log(LossTerms(*map(torch.cat, zip(*batches, strict=True))), clip_range)

    def _log(self, terms: LossTerms, clip_range: float) -> None:
        """Log what SB3 logs of a rollout's updates, under its names."""
        policy_loss = -torch.min(terms.gain, terms.clipped_gain).mean()
        value_loss, entropy_loss = terms.value_error.square().mean(), terms.negative_entropy.mean()
        measures = {
            "loss": policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": entropy_loss,
            "clip_fraction": ((terms.ratio - 1).abs() > clip_range).float().mean(),
            "approx_kl": terms.kl,
            "explained_variance": 1 - (self._rollout.returns - self._rollout.values).var() / self._rollout.returns.var(),
        }
        for name, value in measures.items():
            self.logger.record(f"train/{name}", value.item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)

    @torch.no_grad()
    def _gradients(
        self, batch: Rollout, logits: torch.Tensor, values: torch.Tensor, clip_range: float
    ) -> tuple[torch.Tensor, torch.Tensor, LossTerms]:
        """Return the gradients of PPO's loss with respect to logits and values, of their shapes, and the loss's terms."""
        actions, n = batch.actions[:, None], len(values)
        log_probabilities = torch.log_softmax(logits, -1)
        probabilities = log_probabilities.exp()
        log_ratio = log_probabilities.gather(-1, actions)[:, 0] - batch.log_probs
        ratio, advantages = log_ratio.exp(), batch.advantages
        if self.normalize_advantage and n > 1:
            std, mean = torch.std_mean(advantages)
            advantages = (advantages - mean) / (std + 1e-8)
        gain, clipped_gain = advantages * ratio, advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
        negative_entropy = (probabilities * log_probabilities).sum(-1, keepdim=True)
        value_error = values - batch.returns
        unclipped = torch.where(gain <= clipped_gain, gain, 0.0)[:, None]  # where it is clipped, the loss is constant
        logit_gradients = probabilities * (unclipped + self.ent_coef * (log_probabilities - negative_entropy))
        logit_gradients.scatter_add_(1, actions, -unclipped).div_(n)
        value_gradients = value_error * (2 * self.vf_coef / n)
        terms = LossTerms(
            gain=gain,
            clipped_gain=clipped_gain,
            value_error=value_error,
            negative_entropy=negative_entropy,
            ratio=ratio,
            log_ratio=log_ratio,
        )
        return logit_gradients, value_gradients, terms


ALGORITHM = Algorithm(
    name="ppo",
    model=ReplayPPO,
    help="PPO, the paper's algorithm",
    defaults={
        "n_epochs": 4,
        "batch_size": 256,
        "learning_rate": 3e-4,
        "gamma": 1.0,
        "gae_lambda": 1.0,
        "ent_coef": 0.001,
        "ent_start": 0.5,
    },
    table_defaults=lambda table: {"n_steps": table.horizon * 2},
)
"""An episode has at most L steps and an undiscounted return: hence gamma 1. The rest is chosen in docs/design/learning.md."""
