"""Chooses the policy of a training run: the one whose greedy router does best on the validation split."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from toolkit.replay.exact import benchmark_weights, most_probable, outcome, path_shares
from toolkit.replay.observations import Observer
from toolkit.replay.table import Ints
from toolkit.routing.decide import action_probabilities
from toolkit.routing.statistics import evenly_spread

EVALUATIONS = 40
"""Times that a run's policy is evaluated on the validation split, at even steps."""
MAX_ROWS = 4096
"""Validation questions that are used, evenly spread."""
MAX_ALPHAS = 5
"""Alphas at which a conditioned policy is evaluated, evenly spread."""


class BestPolicy(BaseCallback):
    """Evaluates the greedy router on the validation split, exactly, and at the end restores the best policy.

    Without validation questions, the last policy stays. What is best is the mean reward over benchmarks; for a conditioned
    policy, the mean over some of its alphas of R / (1 + alpha), so that the largest alphas do not dominate.

    Args:
        observer: What the policy observes.
        alphas: The alphas that it is trained for; a single one, unless it is conditioned.
        patience: Evaluations without a better policy after which training stops; 0 for never.

    Attributes:
        best: The best reward; -inf if there was no evaluation.
    """

    def __init__(self, observer: Observer, alphas: Sequence[float], patience: int = 0) -> None:
        super().__init__()
        rows = observer.table.rows("validation")
        self.observer = observer
        self.rows: Ints = rows[:: max(1, -(-len(rows) // MAX_ROWS))]
        self.alphas = evenly_spread(sorted(alphas), MAX_ALPHAS).tolist()
        self.patience = patience
        self.best = -np.inf
        self._state: dict[str, Any] | None = None
        self._evaluations = self._since_best = self._evaluated_at = 0

    def _on_step(self) -> bool:
        if self.num_timesteps * EVALUATIONS >= self.model._total_timesteps * (self._evaluations + 1):
            self._evaluate()
        return not self.patience or self._since_best < self.patience

    def _on_training_end(self) -> None:
        if self._evaluated_at < self.num_timesteps:
            self._evaluate()
        if self._state is not None:
            self.model.policy.load_state_dict(self._state)

    def _evaluate(self) -> None:
        """Evaluate the policy once, and keep it if it is the best."""
        self._evaluations = max(self._evaluations + 1, self.num_timesteps * EVALUATIONS // self.model._total_timesteps)
        self._evaluated_at = self.num_timesteps
        if not len(self.rows):
            return
        reward = float(np.mean([self._reward(alpha) / (1 + alpha * (len(self.alphas) > 1)) for alpha in self.alphas]))
        self.logger.record("validation/reward", reward)
        self._since_best += 1
        if reward > self.best:
            self.best, self._since_best = reward, 0
            self._state = copy.deepcopy(self.model.policy.state_dict())

    def _reward(self, alpha: float) -> float:
        """Return the greedy router's reward at an alpha: the mean over benchmarks."""
        table = self.observer.table
        shares = path_shares(table, most_probable(action_probabilities(self.model, self.observer, self.rows, alpha)))
        return float(benchmark_weights(table, self.rows) @ outcome(table, self.rows, shares).reward(alpha))
