"""Every fixed path of several models and, with stopping, the empty one."""

import numpy as np

from toolkit.core import tree
from toolkit.replay.exact import ends, fixed_paths
from toolkit.replay.table import TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split

MAX_PATHS = 250
"""Paths in the results; of more, those with the highest mean reward on the training split."""


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> dict[str, int]:
    """Return each fixed path by its name, except those of one model (`toolkit.routing.baselines.models`)."""
    at = ends(table, allow_stop)
    nodes = np.array([n for n in range(at.start, at.stop) if len(set(tree.path_of(n, table.n_models))) != 1], dtype=np.int64)
    if len(nodes) > MAX_PATHS:
        reward = fixed_paths(table, table.rows("train"), allow_stop).reward(alpha)[nodes - at.start]
        nodes = np.sort(nodes[np.argsort(-reward, kind="stable")[:MAX_PATHS]])
    return {table.path_name(node): node for node in nodes.tolist()}


BASELINE = Baseline("fixed paths", choose, order=1000, always=False)
