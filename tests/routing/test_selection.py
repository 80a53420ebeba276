"""Which policy of a training run is kept."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback

from tests.synthetic import synthetic_table
from toolkit.replay.exact import benchmark_weights, node_outcome
from toolkit.replay.observations import Observer
from toolkit.replay.table import TransitionTable
from toolkit.routing.decide import action_probabilities
from toolkit.routing.selection import BestPolicy
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig

ALGORITHMS: dict[str, dict[str, object]] = {
    "exact": {"algorithm": "exact", "exact": {"n_epochs": 12, "learning_rate": 0.03}},
    "ppo": {"algorithm": "ppo", "timesteps": 12_000, "n_envs": 64, "ppo": {"learning_rate": 0.01}},
    "DQN": {"algorithm": "DQN", "timesteps": 2_000, "n_envs": 16},
}


class Recorder(BaseCallback):
    """Records the greedy reward on the validation split at every step, by walking down the tree."""

    def __init__(self, table: TransitionTable, alpha: float) -> None:
        super().__init__()
        self.table, self.alpha = table, alpha
        self.rewards: list[float] = []

    def _on_step(self) -> bool:
        self.rewards.append(greedy_reward(self.model, self.table, self.alpha))
        return True

    def _on_training_end(self) -> None:
        self._on_step()


def greedy_reward(model: object, table: TransitionTable, alpha: float) -> float:
    rows, nodes = table.rows("validation"), np.zeros(len(table.rows("validation")), dtype=int)
    decided = action_probabilities(model, Observer(table), rows, alpha).argmax(2)  # type: ignore[arg-type]
    for _ in range(table.horizon):
        nodes = nodes * table.n_models + 1 + decided[np.arange(len(rows)), np.minimum(nodes, table.n_decision_nodes - 1)]
    return float(benchmark_weights(table, rows) @ node_outcome(table, rows, nodes).reward(alpha))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_policy_that_does_best_on_validation_is_kept(name: str) -> None:
    table = synthetic_table(300, dimensions=8, horizon=2)
    recorder = Recorder(table, 0.05)
    config = TrainConfig.model_validate(ALGORITHMS[name] | {"patience": 0})
    model = fit_router(table, config, 0, callback=recorder)
    kept = greedy_reward(model, table, 0.05)
    assert kept >= recorder.rewards[0]
    assert min(recorder.rewards) < kept <= max(recorder.rewards) + 1e-9
    if name == "exact":  # which is evaluated after every pass
        assert kept == pytest.approx(max(recorder.rewards))


def test_training_stops_when_it_does_not_improve() -> None:
    table = synthetic_table(300, dimensions=8, horizon=2)
    passes = []
    for patience in (2, 0):
        recorder = Recorder(table, 0.05)
        settings = {"algorithm": "exact", "exact": {"n_epochs": 30, "learning_rate": 0.1}, "patience": patience}
        fit_router(table, TrainConfig.model_validate(settings), 0, callback=recorder)
        passes.append(len(recorder.rewards) - 1)
    assert passes[0] < passes[1] == 30


def test_without_validation_questions_the_last_policy_stays() -> None:
    table = synthetic_table(300, dimensions=8, horizon=2)
    split = np.where(table.split == "validation", "unused", table.split)
    from dataclasses import replace

    model = fit_router(
        replace(table, split=split),
        TrainConfig.model_validate({"algorithm": "exact", "exact": {"n_epochs": 3}, "patience": 1}),
        0,
    )
    assert model.num_timesteps == 3 * 210 * table.n_decision_nodes


def test_a_conditioned_policy_is_evaluated_at_some_of_its_alphas() -> None:
    table = synthetic_table(60, dimensions=8, horizon=2)
    alphas = tuple(np.linspace(0, 1, 21))
    assert BestPolicy(Observer(table, with_alpha=True), alphas).alphas == [0, 0.25, 0.5, 0.75, 1]
    assert BestPolicy(Observer(table), [0.3]).alphas == [0.3]
