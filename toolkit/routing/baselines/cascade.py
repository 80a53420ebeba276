"""Cascade: models respond in a fixed order, until a scorer accepts the newest response (FrugalGPT).

Where the next model of the order is not available, the newest response is the last; where the first model is not, the best
available fixed path is taken.

The scorer of a node is a ridge regression of the quality of its response on what a policy observes there: the embeddings of the
question and of the response. The order of the models and the thresholds are those with the highest reward on questions on which
no scorer was fitted: the validation split or, if it is too small, the training split in cross-validation.
"""

from typing import Any, NamedTuple

import numpy as np

from toolkit.core import tree
from toolkit.replay.exact import benchmark_weights, first_available, node_outcome, rank_paths
from toolkit.replay.table import Floats, Ints, TransitionTable, cached_on_table
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import MIN_VALIDATION_QUESTIONS, Features, fitting_rows, folds, lacks_embeddings
from toolkit.suites.suite import Split

PENALTY = 3.0
"""Ridge penalty of the scorers."""
MAX_FITTED_RESPONSES = 100_000
"""Responses that all scorers together are fitted on, about; each node has its share."""
MAX_SELECTING_QUESTIONS = 2000
"""Questions that the order and the thresholds are selected on, at most."""
MAX_PATHS = 1000
"""Orders of models that are compared: those with the highest mean reward if all models respond."""


class Cascade(NamedTuple):
    """An order of models and when to stop.

    Attributes:
        nodes: The nodes along the path, from the first response to the last; none to abstain.
        thresholds: Scores from which the response of each node is accepted, but for the last, which always is.
    """

    nodes: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()

    def ends(self, scores: Floats) -> Ints:
        """Return the node of the first accepted response on each row, given the score of every decision node, `(rows, D)`."""
        if not self.nodes:
            return np.zeros(len(scores), dtype=np.int64)
        reached = np.full(len(scores), self.nodes[-1], dtype=np.int64)
        for node, threshold in zip(self.nodes[-2::-1], self.thresholds[::-1], strict=True):
            reached[scores[:, node] >= threshold] = node
        return reached


class Scorers:
    """Scores the responses of every decision node; fitted on the responses to some training questions.

    Args:
        table: The table.
        rows: The rows of those questions.
    """

    def __init__(self, table: TransitionTable, rows: Ints) -> None:
        from sklearn.linear_model import Ridge

        self.table = table
        self.models: list[Any] = []
        for node in range(1, table.n_decision_nodes):
            own = rows if table.available is None else rows[table.available[rows, node]]
            self.models.append(Ridge(PENALTY).fit(self._observed(own, node), table.quality[own, node]) if len(own) else None)

    def scores(self, rows: Ints) -> Floats:
        """Return the predicted quality of the response of every decision node, `(rows, D)`; 0 if there is no scorer."""
        scores = np.zeros((len(rows), self.table.n_decision_nodes))
        for node, model in enumerate(self.models, start=1):
            if model is not None:
                scores[:, node] = model.predict(self._observed(rows, node))
        return scores

    def _observed(self, rows: Ints, node: int) -> Features:
        embeddings: Features = self.table.vectors[self.table.texts[rows, node]]
        return embeddings.reshape(len(rows), -1)


@cached_on_table
def fitted_scorers(table: TransitionTable) -> tuple[Scorers, Ints, Floats]:
    """Return the scorers, the rows that select a cascade, and the scores on these, `(rows, D)`, by scorers without them."""
    train = fitting_rows(table, MAX_FITTED_RESPONSES // (table.n_decision_nodes - 1))
    scorers, validation = Scorers(table, train), table.rows("validation")[:MAX_SELECTING_QUESTIONS]
    if len(validation) >= MIN_VALIDATION_QUESTIONS:
        return scorers, validation, scorers.scores(validation)
    parts = folds(train[:MAX_SELECTING_QUESTIONS]) or [(train, train)]  # a single question cannot be left out
    scores = np.concatenate([Scorers(table, fitting).scores(selecting) for fitting, selecting in parts])
    return scorers, np.concatenate([selecting for _, selecting in parts]), scores


@cached_on_table
def best_cascade(table: TransitionTable, alpha: float) -> Cascade:
    """Return the cascade with the highest mean reward over benchmarks; abstaining has none."""
    _, rows, scores = fitted_scorers(table)
    weights = benchmark_weights(table, rows)
    reward = node_outcome(table, rows[:, None], reached_nodes(table, rows, alpha)).reward(alpha)
    leaves = tree.level(table.n_models, table.horizon)
    order = leaves.start + np.argsort(-(weights @ reward[:, leaves]), kind="stable")[:MAX_PATHS]
    best, highest = Cascade(), 0.0
    for leaf in order.tolist():
        cascade = _fit_thresholds(leaf, table, scores, reward, weights)
        mean = float(weights @ reward[np.arange(len(rows)), cascade.ends(scores)])
        if mean > highest:
            best, highest = cascade, mean
    return best


def _fit_thresholds(leaf: int, table: TransitionTable, scores: Floats, reward: Floats, weights: Floats) -> Cascade:
    """Return the cascade along a path; its thresholds are set from the last to the first, each given those that follow."""
    path = tree.path_of(leaf, table.n_models)
    nodes = [tree.node_of(path[:depth], table.n_models) for depth in range(1, len(path) + 1)]
    rewards, thresholds = reward[:, leaf], list[float]()
    for node in nodes[-2::-1]:
        threshold = best_threshold(scores[:, node], weights * (reward[:, node] - rewards))
        rewards = np.where(scores[:, node] >= threshold, reward[:, node], rewards)
        thresholds.insert(0, threshold)
    return Cascade(tuple(nodes), tuple(thresholds))


def best_threshold(scores: Floats, gains: Floats) -> float:
    """Return the threshold from which on scores have the highest sum of gains; inf if no score is high enough.

    Args:
        scores: The score of each row, `(rows,)`.
        gains: What is gained on each row if its response is accepted, `(rows,)`.
    """
    distinct, index = np.unique(-scores, return_inverse=True)
    sums = np.concatenate([[0.0], np.cumsum(np.bincount(index, gains, len(distinct)))])
    accepted = int(sums.argmax())
    if not accepted:
        return float("inf")
    if accepted == len(distinct):
        return float("-inf")
    return float(-(distinct[accepted - 1] + distinct[accepted]) / 2)


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return where the best cascade ends."""
    scorers, rows = fitted_scorers(table)[0], table.rows(split)
    ends = best_cascade(table, alpha).ends(scorers.scores(rows))
    return reached_nodes(table, rows, alpha)[np.arange(len(rows)), ends]


def reached_nodes(table: TransitionTable, rows: Ints, alpha: float) -> Ints:
    """Return where a cascade ends on each row if it stops at each node, `(rows, N)`.

    That is the last available node on the way there or, if no response is, the best available fixed path.
    """
    nodes: Ints = np.broadcast_to(np.arange(table.quality.shape[1]), (len(rows), table.quality.shape[1]))
    if table.available is None:
        return nodes
    available, reached = table.available[rows], nodes.copy()
    otherwise = first_available(table, rows, rank_paths(table, table.rows("train"), alpha, True))
    for node in range(1, nodes.shape[1]):
        parent = (node - 1) // table.n_models
        reached[:, node] = np.where(available[:, node], node, reached[:, parent] if parent else otherwise)
    return reached


def lacks(table: TransitionTable, allow_stop: bool) -> str:
    """Say that a path cannot end early, or that nothing is observed of the responses."""
    if table.horizon < 2:
        return "It reads responses before it chooses another model, which takes two hops or more."
    if not allow_stop:
        return "It stops as soon as a response is good enough, which takes --allow-stop."
    return lacks_embeddings(table, allow_stop)


BASELINE = Baseline("cascade", choose, order=76, reads_responses=True, fitted=True, always=False, lacks=lacks)
