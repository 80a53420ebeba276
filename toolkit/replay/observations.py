"""What a policy observes at a decision node. Knows nothing of episodes."""

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from toolkit.replay.table import Floats, Ints, TransitionTable

Observations = npt.NDArray[np.float32]


class Observer:
    """Turns (row, decision node) into observations, `(n, features)`: embeddings, hop one-hot, cost so far, and maybe alpha.

    Args:
        table: The table.
        with_alpha: Whether alpha is observed too, as the last feature.
    """

    def __init__(self, table: TransitionTable, with_alpha: bool = False) -> None:
        self.table = table
        self.with_alpha = with_alpha
        hop = np.repeat(np.arange(table.horizon), [table.n_models**depth for depth in range(table.horizon)])
        self.one_hot = np.eye(table.horizon, dtype=np.float32)[hop]
        self.cost = table.cost[:, : table.n_decision_nodes].astype(np.float32)
        self.width = table.texts.shape[2] * table.vectors.shape[1]
        self.size = self.width + table.horizon + 1 + with_alpha

    @property
    def space(self) -> "spaces.Box[np.floating[Any]]":
        """The observation space."""
        return spaces.Box(-np.inf, np.inf, (self.size,), np.float32)

    def __call__(self, rows: Ints, nodes: Ints, alpha: Floats | float = 0.0) -> Observations:
        """Observe decision nodes, each at an alpha, `(n,)`, or all at one; a node past the last hop gives zeros."""
        ended = np.flatnonzero(nodes >= self.table.n_decision_nodes)
        if len(ended):
            nodes = nodes.copy()
            nodes[ended] = 0
        observations: Observations = np.empty((len(rows), self.size), dtype=np.float32)
        dimensions, texts = self.table.vectors.shape[1], self.table.texts[rows, nodes]
        for part in range(texts.shape[1]):
            embedding = observations[:, part * dimensions : (part + 1) * dimensions]
            np.take(self.table.vectors, texts[:, part], axis=0, out=embedding, mode="clip")  # other modes copy once more
        hops = self.width + self.table.horizon
        observations[:, self.width : hops] = self.one_hot[nodes]
        observations[:, hops] = self.cost[rows, nodes]
        if self.with_alpha:
            observations[:, -1] = alpha
        observations[ended] = 0
        return observations

    def all_nodes(self, rows: Ints, alpha: float = 0.0) -> Observations:
        """Observe every decision node of some rows at an alpha, `(rows * D, features)`."""
        nodes = np.arange(self.table.n_decision_nodes)
        return self(np.repeat(rows, len(nodes)), np.tile(nodes, len(rows)), alpha)
