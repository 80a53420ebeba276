"""The model with the highest mean reward on the training split after one hop: overall, and of each benchmark.

Where it is not available, the next best one responds.
"""

from toolkit.replay.exact import first_available, first_available_per_benchmark, rank_models, rows_by_benchmark
from toolkit.replay.table import Ints, TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split


def choose_overall(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the best available model of each question."""
    return first_available(table, table.rows(split), rank_models(table, table.rows("train"), alpha))


def choose_per_benchmark(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the best available model of each question's benchmark."""
    rankings = [rank_models(table, group, alpha) for group in rows_by_benchmark(table, table.rows("train"))]
    return first_available_per_benchmark(table, table.rows(split), rankings)


OVERALL = Baseline("best model", choose_overall, order=20)
PER_BENCHMARK = Baseline("best model per benchmark", choose_per_benchmark, order=40)
