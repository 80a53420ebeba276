"""The fixed path with the highest mean reward on the training split: overall, and of each benchmark."""

from toolkit.replay.exact import best_fixed_path, best_fixed_path_per_benchmark
from toolkit.replay.table import Ints, TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.suites.suite import Split


def choose_overall(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> int:
    """Return the best fixed path."""
    return int(best_fixed_path(table, table.rows("train"), alpha, allow_stop))


def choose_per_benchmark(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the best fixed path of each question's benchmark."""
    best = best_fixed_path_per_benchmark(table, table.rows("train"), alpha, allow_stop)
    nodes: Ints = best[table.benchmark[table.rows(split)]]
    return nodes


OVERALL = Baseline("best fixed path", choose_overall, order=30)
PER_BENCHMARK = Baseline("best path per benchmark", choose_per_benchmark, order=50)
