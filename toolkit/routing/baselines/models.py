"""Each model of the pool alone, and repeated at later hops.

A model has an outcome on the questions that it was asked; one that was asked none of a split is left out there.
"""

from toolkit.core import tree
from toolkit.replay.table import TransitionTable
from toolkit.routing.baselines.base import Baseline, is_available
from toolkit.suites.suite import Split


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> dict[str, int]:
    """Return each model after 1 to L hops: `model`, `model x2` ...; alone it ends after one hop, stopping or not."""
    nodes = {
        model + (f" x{hops}" if hops > 1 else ""): tree.node_of((action,) * hops, table.n_models)
        for action, model in enumerate(table.models)
        for hops in range(1, table.horizon + 1)
    }
    return {name: node for name, node in nodes.items() if is_available(table, split, node)}


BASELINE = Baseline("models", choose, order=10)
