"""Random: every action has the same probability at every decision node."""

import numpy as np

from toolkit.replay.table import Floats, TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Floats:
    """Return equal probabilities."""
    actions = table.n_models + allow_stop
    return np.broadcast_to(1 / actions, (len(table.rows(split)), table.n_decision_nodes, actions))


BASELINE = Baseline("random", choose, order=80)
