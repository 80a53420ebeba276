"""Random: every available action has the same probability at every decision node."""

import numpy as np

from toolkit.replay.exact import allowed_actions
from toolkit.replay.table import Floats, TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Floats:
    """Return equal probabilities."""
    rows, actions = table.rows(split), table.n_models + allow_stop
    if table.available is None:
        return np.broadcast_to(1 / actions, (len(rows), table.n_decision_nodes, actions))
    allowed = allowed_actions(table, rows, actions)
    probabilities: Floats = allowed / allowed.sum(-1, keepdims=True)
    return probabilities


BASELINE = Baseline("random", choose, order=80)
