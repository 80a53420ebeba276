"""Every fixed path of several models and, with stopping, the empty one; without those that no question of a split has."""

from toolkit.core import tree
from toolkit.replay.exact import ends
from toolkit.replay.table import TransitionTable
from toolkit.routing.baselines.base import Baseline, is_available
from toolkit.suites.suite import Split


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> dict[str, int]:
    """Return each fixed path by its name, except those of one model (`toolkit.routing.baselines.models`)."""
    at = ends(table, allow_stop)
    nodes = [node for node in range(at.start, at.stop) if len(set(tree.path_of(node, table.n_models))) != 1]
    return {table.path_name(node): node for node in nodes if is_available(table, split, node)}


BASELINE = Baseline("fixed paths", choose, order=1000, always=False)
