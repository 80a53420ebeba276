"""Learning with the whole tree: gradient ascent on the policy's exact value, as an algorithm of stable-baselines3.

All children of every node are known, so the value of a policy on a question is a polynomial of its action probabilities: they
are computed at every decision node in one forward pass and backed up the tree, and the exact gradient is carried down. No
sampling, no critic, no advantages. With hundreds of questions generalisation is the bottleneck: projection, weight decay,
dropout on the features and early stopping on the validation split are part of the method.
"""

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import MaybeCallback

from toolkit.core import tree
from toolkit.replay.environments import RoutingVecEnv
from toolkit.replay.exact import benchmark_weights, ends
from toolkit.replay.table import Ints
from toolkit.routing.dense import Dense, Gradients
from toolkit.routing.networks import Conditioned, of_table

CHUNK = 1024
"""Questions whose logits are computed together where no gradient is needed."""
SPACING = 4
"""Of a conditioned policy's alphas, every so manieth is looked at on each validation question."""


class Backed(NamedTuple):
    """A policy's exact value at the root of each question, `(questions,)`, and its gradient in the logits, of their shape."""

    value: torch.Tensor
    slopes: torch.Tensor


@torch.no_grad()
def backed_up(rewards: torch.Tensor, logits: torch.Tensor, n_models: int, horizon: int, ent_coef: float = 0.0) -> Backed:
    """Back a policy's value up the tree, and carry its gradient down.

    With p the chances at a node, reached with probability r, and q what its actions are worth, its value is v = p * q, and the
    gradient r * p * (q - v): entropy, as -log p in q, changes nothing about that, because chances sum to 1.

    Args:
        rewards: Q - alpha * C at each end, `(questions, ends)`: all nodes where the policy may stop, else the leaves.
        logits: Of every action at every decision node, `(questions, D, actions)`.
        n_models: Size of the pool.
        horizon: Number of hops.
        ent_coef: Worth of a nat of entropy, wherever the policy gets to.
    """
    log_chances = torch.log_softmax(logits, -1)
    chances = log_chances.exp()
    worth = log_chances * -ent_coef
    values = torch.empty_like(worth[..., 0])
    value = rewards[:, -(n_models**horizon) :]
    for depth in range(horizon - 1, -1, -1):
        here = tree.level(n_models, depth)
        worth[:, here, :n_models] += value.reshape(len(value), -1, n_models)
        if logits.shape[-1] > n_models:
            worth[:, here, n_models] += rewards[:, here]
        value = values[:, here] = (chances[:, here] * worth[:, here]).sum(-1)
    slopes = worth.sub_(values[..., None]).mul_(chances)
    reached = torch.ones_like(value)
    for depth in range(1, horizon):
        above, here = tree.level(n_models, depth - 1), tree.level(n_models, depth)
        reached = (reached[..., None] * chances[:, above, :n_models]).flatten(1)
        slopes[:, here] *= reached[..., None]
    return Backed(value[:, 0], slopes)


class Average:
    """A running average of parameters, which can take their place.

    Args:
        parameters: The parameters; what they are now is where it begins.
        keep: Share of itself that it keeps at a step; less at first, so that it does not begin with what was drawn at random.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], keep: float) -> None:
        self.parameters, self.keep, self.steps = list(parameters), keep, 0
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    def update(self) -> None:
        """Move towards the parameters as they are."""
        self.steps += 1
        share = 1 - min(self.keep, (1 + self.steps) / (10 + self.steps))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter.detach(), share)

    def swap(self) -> None:
        """Change places with the parameters."""
        for n, parameter in enumerate(self.parameters):
            parameter.data, self.values[n] = self.values[n], parameter.data


class ExactGradient(BaseAlgorithm):
    """Follows the gradient of the policy's exact value over the training split of a `RoutingVecEnv`'s table.

    Args:
        policy: As in stable-baselines3; `MlpPolicy`.
        env: The environment, of which table, alpha and `allow_stop` are used; it is not stepped. None to load and predict.
        learning_rate: Step size of AdamW.
        batch_size: Questions whose trees make a step.
        n_epochs: Passes over the training split at most.
        patience: Passes without a better validation reward after which training ends; the best policy is kept.
        ent_coef: Worth of a nat of entropy in the value that is followed.
        ent_start: The same in the first pass; without it a policy settles before it has seen what is better, and its gradient
            vanishes.
        ent_epochs: Passes over which it falls to `ent_coef`.
        weight_decay: Of AdamW.
        dropout: Share of features that are hidden in a pass.
        averaging: Share of itself that the running average of the weights keeps at a step; the policy is that average. 0: none.
        policy_kwargs: As in stable-baselines3.
        tensorboard_log: Folder of the log.
        verbose: As in stable-baselines3.
        seed: Seed of weights, order and dropout.
        device: Device of the network.
    """

    policy_aliases = PPO.policy_aliases
    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: RoutingVecEnv | None,
        learning_rate: float = 3e-3,
        batch_size: int = 64,
        n_epochs: int = 40,
        patience: int = 6,
        ent_coef: float = 0.01,
        ent_start: float = 0.1,
        ent_epochs: int = 10,
        weight_decay: float = 0.1,
        dropout: float = 0.1,
        averaging: float = 0.0,
        policy_kwargs: dict[str, Any] | None = None,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate,
            policy_kwargs=policy_kwargs,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            seed=seed,
            device=device,
            support_multi_env=True,
        )
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.patience = patience
        self.ent_coef = ent_coef
        self.ent_start = ent_start
        self.ent_epochs = ent_epochs
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.averaging = averaging
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        settings: dict[str, Any] = {
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": self.weight_decay, "eps": 1e-5, "fused": True},
        }
        policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **settings | self.policy_kwargs)
        assert isinstance(policy, ActorCriticPolicy), "ExactGradient needs a policy with action probabilities"
        self.policy = policy.to(self.device)

    def learn(
        self,
        total_timesteps: int = 0,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "exact",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train until validation stops improving, at most `n_epochs` passes.

        Args:
            total_timesteps: Decisions at most, over all questions and nodes; 0 leaves it to `n_epochs`.
            callback: Called after each pass.
            log_interval: Passes from one entry of the log to the next.
            tb_log_name: Name of the log.
            reset_num_timesteps: Whether to count from 0.
            progress_bar: As in stable-baselines3.
        """
        assert isinstance(self.env, RoutingVecEnv), "ExactGradient learns over a RoutingVecEnv"
        env, table = self.env, self.env.table
        rows, validation = env.rows, table.rows("validation")
        steps = len(rows) * table.n_decision_nodes
        total, callback = self._setup_learn(
            total_timesteps or steps * self.n_epochs, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        data = _Data(self, rows)
        held_out = _Data(self, validation) if len(validation) else None
        weights = torch.from_numpy(benchmark_weights(table, validation)) if held_out else None
        average = Average(data.actor.parameters, self.averaging) if self.averaging else None
        best, kept, since = -np.inf, None, 0
        for epoch in range(1, self.n_epochs + 1):
            value = self._pass(data, average)
            self.num_timesteps += steps
            self._update_current_progress_remaining(self.num_timesteps, total)
            self.logger.record("train/value", value)
            if average:
                average.swap()
            if held_out is not None and weights is not None:
                reward = float((weights * held_out.value()).sum())
                self.logger.record("validation/reward", reward)
                since += 1
                if reward > best:
                    best, since, kept = reward, 0, copy.deepcopy(self.policy.state_dict())
            if epoch % log_interval == 0:
                self.logger.dump(self.num_timesteps)
            if not callback.on_step() or since >= self.patience or self.num_timesteps >= total:
                break
            if average and epoch < self.n_epochs:
                average.swap()
        if kept is not None:
            self.policy.load_state_dict(kept)
        callback.on_training_end()
        return self

    def _pass(self, data: "_Data", average: Average | None) -> float:
        """Follow the gradient once over all questions; return the mean value, entropy bonus included."""
        self._update_learning_rate(self.policy.optimizer)
        self.policy.set_training_mode(True)
        ent_coef = self.ent_coef + (self.ent_start - self.ent_coef) * max(0.0, 1 - self._n_updates / self.ent_epochs)
        order = torch.randperm(len(data.quality))
        gradients = Gradients(data.actor)
        total = 0.0
        for batch in torch.split(order, self.batch_size):
            features = data.features[batch]
            if self.dropout:  # torch's own draws from a Bernoulli distribution, at several times the price
                features = features * (torch.rand_like(features) >= self.dropout) / (1 - self.dropout)
            prices = data.prices(len(batch))
            logits = data.logits(features, prices)
            value, slopes = backed_up(data.rewards(batch, prices), logits, data.n_models, data.horizon, ent_coef)
            if data.conditioned:  # else the dearest alphas pull hardest
                slopes = slopes / (1 + prices[:, None, None])
            data.actor.backward(slopes.flatten(0, 1).div_(-len(batch)))
            gradients.clip(0.5)
            self.policy.optimizer.step()
            if average:
                average.update()
            total += value.sum().item()
        self.policy.set_training_mode(False)
        self._n_updates += 1
        return total / len(order)


class _Data:
    """Features of all decision nodes, `(questions, D, features)`, Q and C of all ends, `(questions, ends)`, and the actor."""

    def __init__(self, learner: ExactGradient, rows: Ints) -> None:
        env = learner.env
        assert isinstance(env, RoutingVecEnv)
        table = env.table
        self.actor = Dense.actor(learner.policy)
        self.n_models, self.horizon = table.n_models, table.horizon
        found = learner.policy.pi_features_extractor
        self.conditioned = found if isinstance(found, Conditioned) else None
        extract = found.base if isinstance(found, Conditioned) else found
        self.alphas = torch.from_numpy(env.alphas if len(env.alphas) else np.array([env.alpha])).float().to(learner.device)
        if self.conditioned:  # an end knot has alphas on one side only, and would learn from fewer questions
            nearness = self.conditioned.nearness(self.alphas)
            self.upto = (nearness / nearness.sum(0)).sum(1).cumsum(0) / nearness.shape[1]
        at = ends(table, env.allow_stop)
        self.features = of_table(extract, env.observer, rows, learner.device)
        self.quality, self.cost = (
            torch.from_numpy(values[rows, at]).float().to(learner.device) for values in (table.quality, table.cost)
        )

    def prices(self, n: int) -> torch.Tensor:
        """Draw an alpha for each of `n` questions, spread as evenly as so few draws can be; every knot counts alike."""
        if not self.conditioned:
            return self.alphas.expand(n)
        places = (torch.randperm(n, device=self.alphas.device) + torch.rand(n, device=self.alphas.device)) / n
        return self.alphas[torch.searchsorted(self.upto, places).clamp(max=len(self.alphas) - 1)]

    def rewards(self, questions: torch.Tensor, prices: torch.Tensor) -> torch.Tensor:
        """Return Q - alpha * C at all ends of some questions, `(questions, ends)`, at an alpha each."""
        return self.quality[questions] - prices[:, None] * self.cost[questions]

    def logits(self, features: torch.Tensor, prices: torch.Tensor) -> torch.Tensor:
        """Return the logits at some questions' decision nodes, `(questions, D, actions)`, from their features and alphas."""
        if self.conditioned:
            features = self.conditioned.at(features, prices)
        return self.actor.forward(features.flatten(0, 1)).view(*features.shape[:2], -1)

    def value(self) -> torch.Tensor:
        """Return the policy's exact value on each question, `(questions,)`: the mean over some of its alphas.

        All alphas count alike: of A alphas question n is asked at number n, n + 4, n + 8 ... modulo A.
        """
        everyone = torch.arange(len(self.quality), device=self.alphas.device)
        return (
            torch.stack(
                [
                    torch.cat([self._value(part, first) for part in torch.split(everyone, CHUNK)])
                    for first in range(0, len(self.alphas), SPACING)
                ]
            )
            .mean(0)
            .cpu()
        )

    def _value(self, questions: torch.Tensor, first: int) -> torch.Tensor:
        prices = self.alphas[(questions + first) % len(self.alphas)]
        logits = self.logits(self.features[questions], prices)
        return backed_up(self.rewards(questions, prices), logits, self.n_models, self.horizon).value
