"""The guard of a trained router: on the validation split, is it better than the best fixed path?

A router that is not has learned nothing that pays; the path is cheaper to run and easier to explain.
"""

from typing import NamedTuple

import numpy as np

from toolkit.core import tree
from toolkit.replay.exact import first_available, most_probable, node_outcome, outcome, path_shares, rank_paths
from toolkit.replay.table import Floats, TransitionTable
from toolkit.routing.statistics import Estimate, estimates_of, macro_average, resample


class Guard(NamedTuple):
    """What the validation split says.

    Attributes:
        node: The fixed path that is best on the training split, as a node.
        path: Its name.
        lead: The greedy router's reward minus that path's, with its 95% interval; the mean over benchmarks. A question that
            lacks the path takes the best one that it has.
        questions: Number of validation questions.
    """

    node: int
    path: str
    lead: Estimate
    questions: int

    @property
    def is_better(self) -> bool:
        """Whether the router is significantly better than the path; False if there are too few questions to say."""
        return self.lead.low > 0


def compare_with_best_path(table: TransitionTable, probabilities: Floats, alpha: float) -> Guard | None:
    """Compare a router with the best fixed path; None without validation questions.

    Args:
        table: The table.
        probabilities: The router's action probabilities on the validation split, `(rows, D, actions)`.
        alpha: Price of cost.
    """
    rows, allow_stop = table.rows("validation"), probabilities.shape[-1] > table.n_models
    if not len(rows):
        return None
    ranking = rank_paths(table, table.rows("train"), alpha, allow_stop)
    node, nodes = int(ranking[0]), first_available(table, rows, ranking)
    router = outcome(table, rows, path_shares(table, most_probable(probabilities)))
    lead = router.reward(alpha) - node_outcome(table, rows, nodes).reward(alpha)
    benchmarks = [lead[None, table.benchmark[rows] == benchmark] for benchmark in np.unique(table.benchmark[rows])]
    average = macro_average(benchmarks, [resample(values, seed) for seed, values in enumerate(benchmarks)])
    return Guard(node, table.path_name(node), estimates_of(average)[0], len(rows))


def along_path(table: TransitionTable, path: tuple[int, ...], n_actions: int) -> Floats:
    """Return the action probabilities of a fixed path at every decision node, `(D, actions)`; where it ends, it stops."""
    probabilities = np.full((table.n_decision_nodes, n_actions), 1 / n_actions)
    for depth in range(min(len(path) + 1, table.horizon)):
        action = path[depth] if depth < len(path) else table.n_models
        probabilities[tree.node_of(path[:depth], table.n_models)] = np.eye(n_actions)[action]
    return probabilities
