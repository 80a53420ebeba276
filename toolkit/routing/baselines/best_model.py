"""The model with the highest mean reward on the training split after one hop: overall, and of each benchmark."""

from toolkit.replay.exact import best_model, best_model_per_benchmark
from toolkit.replay.table import Ints, TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split


def choose_overall(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> int:
    """Return the best model."""
    return best_model(table, table.rows("train"), alpha)


def choose_per_benchmark(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the best model of each question's benchmark."""
    nodes: Ints = best_model_per_benchmark(table, table.rows("train"), alpha)[table.benchmark[table.rows(split)]]
    return nodes


OVERALL = Baseline("best model", choose_overall, order=20)
PER_BENCHMARK = Baseline("best model per benchmark", choose_per_benchmark, order=40)
