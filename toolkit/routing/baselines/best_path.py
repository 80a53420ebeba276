"""The fixed path with the highest mean reward on the training split: overall, and of each benchmark.

Where it is not available, the next best one is taken.
"""

from toolkit.replay.exact import first_available, first_available_per_benchmark, rank_paths, rows_by_benchmark
from toolkit.replay.table import Ints, TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split


def choose_overall(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the best available fixed path of each question."""
    return first_available(table, table.rows(split), rank_paths(table, table.rows("train"), alpha, allow_stop))


def choose_per_benchmark(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the best available fixed path of each question's benchmark."""
    rankings = [rank_paths(table, group, alpha, allow_stop) for group in rows_by_benchmark(table, table.rows("train"))]
    return first_available_per_benchmark(table, table.rows(split), rankings)


OVERALL = Baseline("best fixed path", choose_overall, order=30)
PER_BENCHMARK = Baseline("best path per benchmark", choose_per_benchmark, order=50)
