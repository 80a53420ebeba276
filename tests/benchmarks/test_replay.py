"""Compare the steps per second of the replay environments (`just bench`). Times are reported, not asserted."""

from __future__ import annotations  # pytest keeps fixtures, with their annotations, alive longer than DuckDB

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.toy import make_table
from toolkit.core import tree
from toolkit.replay.environments import RoutingEnv, RoutingVecEnv
from toolkit.replay.table import TransitionTable

STEPS = 4096


@pytest.fixture(scope="module")
def table() -> TransitionTable:
    """Make a table of 2,000 questions, three models, three hops and 384 features."""
    rng = np.random.default_rng(0)
    shape = (2000, tree.n_nodes(3, 3))
    quality, cost = rng.random(shape), rng.random(shape)
    quality[:, 0] = cost[:, 0] = 0
    return make_table(quality, cost, 3, ["a", "b", "c"], rng.normal(size=(2000, 384)).astype(np.float32))


def plain(table: TransitionTable) -> Callable[[], None]:
    env, actions = RoutingEnv(table), np.random.default_rng(0).integers(0, 3, STEPS)

    def run() -> None:
        env.reset(seed=0)
        for action in actions:
            if env.step(action)[2]:
                env.reset()

    return run


def vectorised(table: TransitionTable, n_envs: int) -> Callable[[], None]:
    env, actions = RoutingVecEnv(table, n_envs), np.random.default_rng(0).integers(0, 3, (STEPS // n_envs, n_envs))

    def run() -> None:
        env.reset()
        for step_actions in actions:
            env.step(step_actions)

    return run


@pytest.mark.parametrize("kind", ["RoutingEnv", "RoutingVecEnv(64)", "RoutingVecEnv(2048)"])
def test_steps(kind: str, table: TransitionTable, benchmark: Any) -> None:
    run = plain(table) if kind == "RoutingEnv" else vectorised(table, int(kind[14:-1]))
    benchmark.extra_info["steps"] = STEPS
    benchmark(run)
    assert benchmark.stats["rounds"] > 0
