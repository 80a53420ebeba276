from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.toy import known_table
from toolkit.core.errors import SuiteError
from toolkit.replay.table import TransitionTable
from toolkit.routing.router import load_router
from toolkit.routing.train import fit_router, train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite


@pytest.mark.parametrize("algorithm", ["DQN", "A2C", "stable_baselines3.ppo.PPO"])
def test_any_algorithm_of_stable_baselines3_trains_saves_and_decides(
    algorithm: str, cache: Cache, suite: Suite, tmp_path: Path, table: TransitionTable
) -> None:
    arguments: dict[str, int] = {"learning_starts": 100} if algorithm == "DQN" else {}
    config = TrainConfig(algorithm=algorithm, timesteps=600, n_envs=8, sb3=arguments)
    trained = train(suite, cache, config, 0, tmp_path)
    probabilities = load_router(trained.path).probabilities(table, table.rows("test"))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-12)
    assert cache.arrow("SELECT algorithm FROM runs").to_pylist() == [{"algorithm": algorithm}]


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(SuiteError, match=r"no algorithm 'PPPO'.*exact, ppo"):
        fit_router(known_table(), TrainConfig(algorithm="PPPO"), 0)


def test_a_wrong_argument_is_reported_with_its_table() -> None:
    with pytest.raises(SuiteError, match=r"train\.ppo"):
        fit_router(known_table(), TrainConfig(ppo={"lerning_rate": 1}), 0)
