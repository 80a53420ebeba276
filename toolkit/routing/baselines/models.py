"""Each model of the pool alone, and repeated at later hops."""

from toolkit.core import tree
from toolkit.replay.table import TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> dict[str, int]:
    """Return each model after 1 to L hops: `model`, `model x2` ...; alone it ends after one hop, stopping or not."""
    return {
        model + (f" x{hops}" if hops > 1 else ""): tree.node_of((action,) * hops, table.n_models)
        for action, model in enumerate(table.models)
        for hops in range(1, table.horizon + 1)
    }


BASELINE = Baseline("models", choose, order=10)
