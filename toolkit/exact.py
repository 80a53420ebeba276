"""Exact answers over a table: no rollout, no sampling, one vector operation a level (pure).

Arrays are `(rows, N)` over all nodes or `(rows, D, actions)` over decision nodes, as in `toolkit.table`.
"""

from typing import NamedTuple

import numpy as np

from toolkit import tree
from toolkit.table import Floats, Ints, TransitionTable


class Outcome(NamedTuple):
    """What a policy is worth on each row: expected quality, and expected cost in cost units, `(rows,)`."""

    quality: Floats
    cost: Floats

    def reward(self, alpha: float) -> Floats:
        """Return R = Q - alpha * C, `(rows,)`."""
        return self.quality - alpha * self.cost


def path_shares(table: TransitionTable, probabilities: Floats) -> Floats:
    """Return the probability of ending at each leaf, `(rows, M ** L)`.

    Args:
        table: The table, of which only the shape is used.
        probabilities: Of every action at every decision node, `(rows, D, M)`.
    """
    mass = np.ones((len(probabilities), 1))
    for depth in range(table.horizon):
        mass = (mass[:, :, None] * probabilities[:, tree.level(table.n_models, depth)]).reshape(len(mass), -1)
    return mass


def outcome(table: TransitionTable, rows: Ints, shares: Floats) -> Outcome:
    """Return what a policy is worth on some rows, given the probability of each leaf, `(rows, M ** L)`."""
    leaves = tree.level(table.n_models, table.horizon)
    return Outcome((shares * table.quality[rows, leaves]).sum(1), (shares * table.cost[rows, leaves]).sum(1))


def oracle_shares(table: TransitionTable, rows: Ints, alpha: float) -> Floats:
    """Return the leaf that the oracle reaches on each row, by backward induction, as `(rows, M ** L)` of 0 and 1.

    Of equally good paths the first in the order of the pool is taken.
    """
    models, horizon = table.n_models, table.horizon
    value = table.quality[rows, tree.level(models, horizon)]
    choices: list[Ints] = []
    for depth in range(horizon, 0, -1):
        gain = value - alpha * table.hop_cost[rows, tree.level(models, depth)]
        by_parent = gain.reshape(len(rows), -1, models)
        choices.append(by_parent.argmax(-1))
        value = by_parent.max(-1)
    leaf = np.zeros(len(rows), dtype=np.int64)
    for choice in reversed(choices):
        leaf = leaf * models + choice[np.arange(len(rows)), leaf]
    return np.eye(models**horizon)[leaf]


def node_outcome(table: TransitionTable, rows: Ints, node: int) -> Outcome:
    """Return what stopping at one and the same node is worth: a fixed path, complete or not."""
    return Outcome(table.quality[rows, node], table.cost[rows, node])


def benchmark_means(table: TransitionTable, rows: Ints, values: Floats) -> Floats:
    """Return the mean of per-row values for every benchmark that has rows, in the suite's order, `(benchmarks, ...)`."""
    benchmark = table.benchmark[rows]
    return np.stack([values[benchmark == name].mean(0) for name in np.unique(benchmark)])


def best_fixed_path(table: TransitionTable, rows: Ints, alpha: float) -> int:
    """Return the leaf of the complete path with the highest mean reward over benchmarks, selected on the given rows."""
    leaves = tree.level(table.n_models, table.horizon)
    reward = table.quality[rows, leaves] - alpha * table.cost[rows, leaves]
    means: Floats = benchmark_means(table, rows, reward).mean(0)
    return int(leaves.start + means.argmax())
