"""The exact policy gradient over the whole tree, as an algorithm of stable-baselines3.

All children of every node are cached, so the value of a policy on a question is a polynomial of its action probabilities. One
forward pass computes them at every decision node, they are backed up the tree, and the exact gradient is carried down. There is
no sampling, no critic and no advantage. With hundreds of questions, generalisation is the bottleneck: projection, weight decay,
dropout on the texts' features and the choice of the best pass on the validation split (`toolkit.routing.selection`) are part of
the method.
"""

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
from toolkit.routing.algorithms import Algorithm
from toolkit.routing.dense import Dense, FlatGradient, tree_segments
from toolkit.routing.masked_policy import mask_logits
from toolkit.routing.networks import RouterFeatures, all_node_features, node_groups

MAX_GRADIENT_NORM = 0.5


class ValueAndGradient(NamedTuple):
    """A policy's exact value at each question's root, `(questions,)`, and its gradient with respect to the logits."""

    value: torch.Tensor
    gradient: torch.Tensor


@torch.no_grad()
def back_up(
    rewards: torch.Tensor, logits: torch.Tensor, n_models: int, horizon: int, ent_coef: float = 0.0
) -> ValueAndGradient:
    """Back a policy's value up the tree, and carry its gradient down (faster than autograd: `toolkit.routing.dense`).

    With p the action probabilities at a node that is reached with probability r, and q the values of its actions, its value is
    v = p * q and the gradient is r * p * (q - v). An entropy bonus, as -log p in q, does not change that, because probabilities
    sum to 1.

    Args:
        rewards: Q - alpha * C at each end, `(questions, ends)`: of all nodes if the policy may stop, else of the leaves.
        logits: Of every action at every decision node, `(questions, D, actions)`.
        n_models: Size of the pool.
        horizon: Number of hops.
        ent_coef: Value of a nat of entropy at every decision node that the policy reaches.
    """
    log_probabilities = torch.log_softmax(logits, -1)
    probabilities = log_probabilities.exp()
    action_values = log_probabilities * -ent_coef
    values = torch.empty_like(action_values[..., 0])
    value = rewards[:, -(n_models**horizon) :]
    for depth in range(horizon - 1, -1, -1):
        level = tree.level(n_models, depth)
        action_values[:, level, :n_models] += value.reshape(len(value), -1, n_models)
        if logits.shape[-1] > n_models:
            action_values[:, level, n_models] += rewards[:, level]
        value = values[:, level] = (probabilities[:, level] * action_values[:, level]).sum(-1)
    gradient = action_values.sub_(values[..., None]).mul_(probabilities)
    reached = torch.ones_like(value)
    for depth in range(1, horizon):
        parents, children = tree.level(n_models, depth - 1), tree.level(n_models, depth)
        reached = (reached[..., None] * probabilities[:, parents, :n_models]).flatten(1)
        gradient[:, children] *= reached[..., None]
    return ValueAndGradient(value[:, 0], gradient)


class MovingAverage:
    """A moving average of parameters, which can be swapped with them.

    Args:
        parameters: The parameters; the average starts at their current values.
        decay: Share of the average that a step keeps; smaller at first, so that the random initial values fade quickly.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], decay: float) -> None:
        self.parameters, self.decay, self.steps = list(parameters), decay, 0
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    def update(self) -> None:
        """Move towards the current parameters."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter.detach(), share)

    def swap(self) -> None:
        """Exchange the average and the parameters."""
        for n, parameter in enumerate(self.parameters):
            parameter.data, self.values[n] = self.values[n], parameter.data


class ExactGradient(BaseAlgorithm):
    """Follows the gradient of the policy's exact value over the training split of a `RoutingVecEnv`'s table.

    Args:
        policy: A policy class of stable-baselines3, or its alias `MlpPolicy`.
        env: The environment, of which only the table, alphas and `allow_stop` are used; it is never stepped. None to load a
            policy and predict.
        learning_rate: Step size of AdamW.
        batch_size: Questions per step; a step uses their whole trees.
        n_epochs: Largest number of passes over the training split.
        ent_coef: Final value of a nat of entropy in the objective.
        ent_start: Its initial value. Without it, a policy becomes deterministic before it has found the better actions, and
            its gradient vanishes.
        ent_epochs: Passes over which it falls linearly from `ent_start` to `ent_coef`; 0 for `ent_coef` from the start.
        weight_decay: Weight decay of AdamW.
        dropout: Share of the features of texts that a training step sets to zero.
        averaging: Decay per step of the moving average of the weights; the policy is that average. 0 turns averaging off.
        policy_kwargs: Arguments of the policy class.
        tensorboard_log: Folder of the TensorBoard log.
        verbose: 1 prints the log.
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
        n_epochs: int = 60,
        ent_coef: float = 0.01,
        ent_start: float = 0.3,
        ent_epochs: int = 15,
        weight_decay: float = 0.1,
        dropout: float = 0.3,
        averaging: float = 0.99,
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
        if not (0 <= dropout < 1 and 0 <= averaging < 1):
            raise ValueError(f"dropout and averaging are shares from 0 to below 1; these are {dropout} and {averaging}")
        self.batch_size = batch_size
        self.n_epochs = n_epochs
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
        """Train for `n_epochs` passes over the training split.

        Args:
            total_timesteps: Largest number of decisions, summed over questions, nodes and passes; 0 for `n_epochs` passes.
            callback: Called after each pass, with the averaged weights in place; may end the training.
            log_interval: Passes between two entries of the log.
            tb_log_name: Name of the log.
            reset_num_timesteps: Whether to count decisions from 0.
            progress_bar: Whether to show SB3's progress bar.
        """
        assert isinstance(self.env, RoutingVecEnv), "ExactGradient learns over a RoutingVecEnv"
        steps_per_pass = len(self.env.rows) * self.env.table.n_decision_nodes
        total, callback = self._setup_learn(
            total_timesteps or steps_per_pass * self.n_epochs, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        questions = _Questions(self, self.env.rows)
        average = MovingAverage(questions.actor.parameters, self.averaging) if self.averaging else None
        for epoch in range(1, self.n_epochs + 1):
            self.logger.record("train/value", self._pass(questions, average))
            self.num_timesteps += steps_per_pass
            self._update_current_progress_remaining(self.num_timesteps, total)
            if average:
                average.swap()
            proceed = callback.on_step() and self.num_timesteps < total
            if epoch % log_interval == 0:
                self.logger.dump(self.num_timesteps)
            if not proceed:
                break
            if average and epoch < self.n_epochs:
                average.swap()
        callback.on_training_end()
        return self

    def _pass(self, questions: "_Questions", average: MovingAverage | None) -> float:
        """Take one step per minibatch, over all questions; return the mean value, entropy bonus included."""
        self._update_learning_rate(self.policy.optimizer)
        self.policy.set_training_mode(True)
        remaining = max(0.0, 1 - self._n_updates / self.ent_epochs) if self.ent_epochs else 0.0
        ent_coef = self.ent_coef + (self.ent_start - self.ent_coef) * remaining
        order = torch.randperm(len(questions.quality))
        flat_gradient = FlatGradient(questions.actor)
        total = 0.0
        for batch in torch.split(order, self.batch_size):
            features = questions.features[:, batch]
            if self.dropout:  # torch's own Bernoulli sampling takes several times as long
                texts = features[..., : questions.text_size]
                texts *= (torch.rand_like(texts) >= self.dropout) / (1 - self.dropout)
            alphas = questions.sample_alphas(len(batch))
            logits = questions.logits(batch, features, alphas)
            value, gradient = back_up(questions.rewards(batch, alphas), logits, questions.n_models, questions.horizon, ent_coef)
            weights = questions.weights[batch]
            value, gradient = value * weights, gradient * weights[:, None, None]
            if questions.conditioned:  # otherwise the largest alphas dominate
                gradient = gradient / (1 + alphas[:, None, None])
            questions.actor.backward(gradient.transpose(0, 1).flatten(0, 1).div_(-len(batch)))
            flat_gradient.clip(MAX_GRADIENT_NORM)
            self.policy.optimizer.step()
            if average:
                average.update()
            total += value.sum().item()
        self.policy.set_training_mode(False)
        self._n_updates += 1
        return total / len(order)


class _Questions:
    """The training questions, as the learner needs them.

    Attributes:
        features: Base features of all decision nodes, `(D, questions, features)`.
        text_size: Number of those features that come from texts, the first ones.
        quality: Q of all ends, `(questions, ends)`.
        cost: C of all ends, `(questions, ends)`.
        weights: Weights of the questions, `(questions,)`, whose mean is 1: all benchmarks weigh the same.
        allowed: Which models may be chosen, `(questions, D, M)`; None if all may.
        alphas: The alphas that the policy is trained for, `(alphas,)`.
        actor: The policy's network.
        conditioned: The features of a policy that observes alpha, else None.
    """

    def __init__(self, learner: ExactGradient, rows: Ints) -> None:
        env, device = learner.env, learner.device
        assert isinstance(env, RoutingVecEnv)
        table, at = env.table, ends(env.table, env.allow_stop)
        extractor = learner.policy.pi_features_extractor
        self.conditioned = extractor if isinstance(extractor, RouterFeatures) and len(extractor.knots) else None
        self.actor, self.groups = Dense.actor(learner.policy), node_groups(extractor, env.observer)
        self.n_models, self.horizon = table.n_models, table.horizon
        self.alphas = torch.from_numpy(env.alphas if len(env.alphas) else np.array([env.alpha])).float().to(device)
        self.features = all_node_features(extractor, env.observer, rows, device)
        self.text_size = extractor.text_size if isinstance(extractor, RouterFeatures) else self.features.shape[2]
        self.quality = torch.from_numpy(table.quality[rows, at]).float().to(device)
        self.cost = torch.from_numpy(table.cost[rows, at]).float().to(device)
        self.weights = torch.from_numpy(benchmark_weights(table, rows) * len(rows)).float().to(device)
        self.allowed = None if table.available is None else torch.from_numpy(table.allowed[rows]).to(device)
        if self.conditioned:  # all knots get equally many questions, though an end knot has alphas on one side only
            weights = self.conditioned.knot_weights(self.alphas)
            self._cumulative = (weights / weights.sum(0)).sum(1).cumsum(0) / weights.shape[1]

    def sample_alphas(self, n: int) -> torch.Tensor:
        """Sample an alpha for each of `n` questions, spread as evenly as possible; every knot gets the same weight."""
        if not self.conditioned:
            return self.alphas.expand(n)
        places = (torch.randperm(n, device=self.alphas.device) + torch.rand(n, device=self.alphas.device)) / n
        return self.alphas[torch.searchsorted(self._cumulative, places).clamp(max=len(self.alphas) - 1)]

    def rewards(self, questions: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Return Q - alpha * C at all ends of some questions, `(questions, ends)`, given an alpha for each."""
        return self.quality[questions] - alphas[:, None] * self.cost[questions]

    def logits(self, questions: torch.Tensor, features: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Return the logits at some questions' decision nodes, `(questions, D, actions)`, from their features and alphas."""
        if self.conditioned:
            features = self.conditioned.at(features, alphas)
        logits = self.actor.forward(features.flatten(0, 1), tree_segments(self.groups, len(questions)))
        logits = logits.view(len(features), len(questions), -1).transpose(0, 1)
        return logits if self.allowed is None else mask_logits(logits, self.allowed[questions])


ALGORITHM = Algorithm(
    name="exact",
    model=ExactGradient,
    help="the gradient of the policy's exact value over the whole tree",
    net_arch=lambda hidden: {"pi": list(hidden), "vf": []},
    uses_timesteps=False,
    patience=8,
)
"""The defaults are those of `ExactGradient`, chosen in docs/design/learning.md."""
