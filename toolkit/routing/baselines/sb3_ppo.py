"""SB3 PPO: stable-baselines3's PPO as it comes, on raw embeddings; the paper's set-up, nearest."""

from typing import TYPE_CHECKING

import numpy as np

from toolkit.replay.observations import Observer
from toolkit.replay.table import Ints, TransitionTable, cached_on_table
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split

if TYPE_CHECKING:
    from stable_baselines3 import PPO

TIMESTEPS = 50_000
"""Steps of the environment, the only setting that PPO has no default for."""
CHUNK_ROWS = 256
"""Rows whose decision nodes are observed together."""


@cached_on_table
def trained(table: TransitionTable, alpha: float, allow_stop: bool) -> "PPO":
    """Train a policy with PPO's defaults, one episode at a time."""
    import torch
    from stable_baselines3 import PPO

    from toolkit.replay.environments import RoutingVecEnv

    env = RoutingVecEnv(table, 1, alpha, "train", allow_stop=allow_stop)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a step is too little work to share
    try:
        return PPO("MlpPolicy", env, seed=0, device="cpu").learn(TIMESTEPS)
    finally:
        torch.set_num_threads(threads)


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the ends that the greedy policy reaches."""
    model, observer, rows = trained(table, alpha, allow_stop), Observer(table), table.rows(split)
    starts = range(0, len(rows), CHUNK_ROWS)
    parts = [model.predict(observer.all_nodes(rows[n : n + CHUNK_ROWS]), deterministic=True)[0] for n in starts]
    actions = np.concatenate([part.reshape(table.n_decision_nodes, -1) for part in parts], axis=1)
    return _follow(actions.T, table)


def _follow(actions: Ints, table: TransitionTable) -> Ints:
    """Return the ends of episodes, given the action at every decision node, `(rows, D)`."""
    nodes, moving = np.zeros(len(actions), dtype=np.int64), np.arange(len(actions))
    for _ in range(table.horizon):
        chosen = actions[moving, nodes[moving]]
        moving, chosen = moving[chosen < table.n_models], chosen[chosen < table.n_models]
        nodes[moving] = nodes[moving] * table.n_models + 1 + chosen
    return nodes


BASELINE = Baseline("SB3 PPO", choose, order=78, reads_responses=True, fitted=True, always=False, slow=True)
