"""Exact values over a table, by enumeration of its ends: no rollouts, no sampling, no grid of alphas (pure).

An *end* is a node at which an episode may end: one of the M ** L leaves or, with `allow_stop`, any node, the root included
(Q = C = 0: abstained). With `allow_stop`, every decision node has one more action, the last. Arrays are `(rows, ends)`, or
`(rows, D, actions)` over decision nodes; their number of columns determines whether stopping is allowed.
"""

from typing import NamedTuple

import numpy as np

from toolkit.core import tree
from toolkit.replay.table import Floats, Ints, TransitionTable

CHUNK_ROWS = 4096
"""Rows whose frontiers are computed together: few enough for the processor's cache."""


class Outcome(NamedTuple):
    """Expected quality, and expected cost in cost units; arrays of one shape, mostly `(rows,)`."""

    quality: Floats
    cost: Floats

    def reward(self, alpha: float | Floats) -> Floats:
        """Return R = Q - alpha * C; several alphas broadcast, e.g. `(alphas, 1)` against `(rows,)`."""
        return self.quality - alpha * self.cost

    def charged(self, cost: float | Floats) -> "Outcome":
        """Return the outcome with an additional cost."""
        return Outcome(self.quality, self.cost + cost)


class Frontier(NamedTuple):
    """The oracle of every row for all alphas at once: each end is a line Q - alpha * C, and the oracle is their upper envelope.

    Attributes:
        alphas: Where each segment begins, ascending from 0, `(rows, segments)`; inf past a row's last.
        nodes: The best end from there on, `(rows, segments)`.
    """

    alphas: Floats
    nodes: Ints

    def at(self, alpha: float | Floats) -> Ints:
        """Return the oracle's end on each row, `(rows,)`, or `(alphas, rows)` for an array of alphas.

        Of equally good ends it chooses the cheapest, and of those the first in the order of nodes.
        """
        alphas = np.asarray(alpha, dtype=np.float64)[..., None]
        chosen = np.broadcast_to(self.nodes[:, 0], (*alphas.shape[:-1], len(self.nodes))).copy()
        for starts, nodes in zip(self.alphas.T[1:], self.nodes.T[1:], strict=True):
            np.copyto(chosen, nodes, where=starts <= alphas)
        return chosen


class Curve(NamedTuple):
    """Mean quality and cost of the oracle as step functions of alpha: entry n holds from `alphas[n]` on, `(segments,)`."""

    alphas: Floats
    outcome: Outcome

    def at(self, alpha: float | Floats) -> Outcome:
        """Return mean quality and cost of the oracle at one or more alphas."""
        segment = np.searchsorted(self.alphas, alpha, side="right") - 1
        return Outcome(self.outcome.quality[segment], self.outcome.cost[segment])


def ends(table: TransitionTable, allow_stop: bool = False) -> slice:
    """Return the nodes at which an episode may end."""
    return slice(0, table.quality.shape[1]) if allow_stop else tree.level(table.n_models, table.horizon)


def path_shares(table: TransitionTable, probabilities: Floats) -> Floats:
    """Return the probability of ending at each end, `(rows, ends)`.

    Args:
        table: The table, of which only the shape is used.
        probabilities: Of every action at every decision node, `(rows, D, M)`, or `(rows, D, M + 1)` with stopping.
    """
    rows, models = len(probabilities), table.n_models
    stop_actions = probabilities.shape[-1] - models
    reached, stopped = np.ones((rows, 1)), []
    for depth in range(table.horizon):
        shares = reached[:, :, None] * probabilities[:, tree.level(models, depth)]
        stopped.append(shares[:, :, models:].reshape(rows, models**depth * stop_actions))
        reached = shares[:, :, :models].reshape(rows, models ** (depth + 1))
    return np.concatenate([*stopped, reached], axis=1)


def most_probable(probabilities: Floats) -> Floats:
    """Put all probability on the most probable action, like a greedy router."""
    greedy: Floats = np.eye(probabilities.shape[-1])[probabilities.argmax(-1)]
    return greedy


def outcome(table: TransitionTable, rows: Ints, shares: Floats) -> Outcome:
    """Return the expected outcome of a policy on each row, `(rows,)`, given the probability of each end, `(rows, ends)`."""
    at = ends(table, allow_stop=shares.shape[1] == table.quality.shape[1])
    return Outcome(np.einsum("re,re->r", shares, table.quality[rows, at]), np.einsum("re,re->r", shares, table.cost[rows, at]))


def node_outcome(table: TransitionTable, rows: Ints, nodes: int | Ints) -> Outcome:
    """Return the outcome of ending at given nodes: one node for all rows, or one per row, `(..., rows)`."""
    return Outcome(table.quality[rows, nodes], table.cost[rows, nodes])


def frontier(table: TransitionTable, rows: Ints, allow_stop: bool = False, predicted: Outcome | None = None) -> Frontier:
    """Return the best end of each row for all alphas, exactly: the oracle's or, by predicted outcomes, a predictor's.

    Args:
        table: The table.
        rows: The rows.
        allow_stop: Whether paths may end before the last hop.
        predicted: The outcome of every end by which ends are compared, `(rows, ends)`; None for the true one.
    """
    at = ends(table, allow_stop)
    chunks = [slice(start, start + CHUNK_ROWS) for start in range(0, len(rows), CHUNK_ROWS)]
    if predicted:
        parts = [_envelopes(predicted.quality[chunk], predicted.cost[chunk]) for chunk in chunks]
    else:
        parts = [_envelopes(table.quality[rows[chunk], at], table.cost[rows[chunk], at]) for chunk in chunks]
    segments = max((starts.shape[1] for starts, _ in parts), default=1)
    alphas = np.full((len(rows), segments), np.inf)
    nodes = np.zeros((len(rows), segments), dtype=np.int64)
    done = 0
    for starts, chosen in parts:
        chunk_rows = slice(done, done + len(starts))
        alphas[chunk_rows, : starts.shape[1]] = starts
        nodes[chunk_rows, : starts.shape[1]] = chosen + at.start
        done += len(starts)
    return Frontier(alphas, nodes)


def _envelopes(quality: Floats, cost: Floats) -> tuple[Floats, Ints]:
    """Follow the upper envelopes of the lines `quality - alpha * cost`, all rows at once, from alpha 0 to the cheapest end.

    Args:
        quality: Quality of each end, `(rows, ends)`.
        cost: Cost of each end, `(rows, ends)`.

    Returns:
        Where each segment begins, and its end, `(rows, segments)` each.
    """
    best = np.where(quality == quality.max(1, keepdims=True), cost, np.inf).argmin(1)
    starts, chosen = [np.zeros(len(best))], [best]
    active = np.arange(len(best))
    while True:
        line = (np.arange(len(active)), best)
        saved = cost[line][:, None] - cost
        lost = quality[line][:, None] - quality
        with np.errstate(over="ignore"):  # a saving of almost nothing pays at no alpha
            crossing = np.divide(lost, saved, out=np.full(lost.shape, np.inf), where=saved > 0)
        best = crossing.argmin(1)
        alpha = crossing[line[0], best]
        moving = alpha < np.inf
        if not moving.any():
            return np.stack(starts, 1), np.stack(chosen, 1)
        active, best, quality, cost = active[moving], best[moving], quality[moving], cost[moving]
        start, node = np.full(len(chosen[0]), np.inf), np.zeros(len(chosen[0]), dtype=np.int64)
        start[active] = np.maximum(alpha[moving], starts[-1][active])  # rounding must not reverse the order
        node[active] = best
        starts.append(start)
        chosen.append(node)


def curve(table: TransitionTable, rows: Ints, oracle_frontier: Frontier) -> Curve:
    """Return the oracle's mean over benchmarks as a function of alpha, exactly: one step wherever a row changes path."""
    weights = benchmark_weights(table, rows)[:, None]
    later = np.isfinite(oracle_frontier.alphas[:, 1:])
    alphas = oracle_frontier.alphas[:, 1:][later]
    order = np.argsort(alphas, kind="stable")

    def cumulative(values: Floats) -> Floats:
        """Return the weighted mean at alpha 0 and after every step, from the value of each segment, `(rows, segments)`."""
        first = float((weights[:, 0] * values[:, 0]).sum())
        return np.cumsum(np.concatenate([[first], (weights * np.diff(values, axis=1))[later][order]]))

    quality, cost = node_outcome(table, rows[:, None], oracle_frontier.nodes)
    return Curve(np.concatenate([[0.0], alphas[order]]), Outcome(quality=cumulative(quality), cost=cumulative(cost)))


def oracle(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return the end that the oracle reaches on each row, `(rows,)`, or `(alphas, rows)` for an array of alphas."""
    return frontier(table, rows, allow_stop).at(alpha)


def benchmark_weights(table: TransitionTable, rows: Ints) -> Floats:
    """Return weights that turn a sum over rows into the unweighted mean of benchmark means, `(rows,)`."""
    _, index, counts = np.unique(table.benchmark[rows], return_inverse=True, return_counts=True)
    weights: Floats = 1 / (len(counts) * counts[index])
    return weights


def fixed_paths(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> Outcome:
    """Return the outcome of each fixed path, as a mean over benchmarks on the given rows, `(ends,)`."""
    at, weights = ends(table, allow_stop), benchmark_weights(table, rows)
    return Outcome(weights @ table.quality[rows, at], weights @ table.cost[rows, at])


def best_fixed_path(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return the end with the highest mean reward over benchmarks on the given rows: a scalar, or one for each alpha."""
    rewards = fixed_paths(table, rows, allow_stop).reward(np.asarray(alpha, dtype=np.float64)[..., None])
    best: Ints = ends(table, allow_stop).start + rewards.argmax(-1)
    return best


def best_fixed_path_per_benchmark(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return the best fixed path of every benchmark on the given rows, `(benchmarks,)` or `(alphas, benchmarks)`.

    A benchmark without any of the rows gets the path that is best overall.
    """
    return np.stack([best_fixed_path(table, group, alpha, allow_stop) for group in rows_by_benchmark(table, rows)], axis=-1)


def best_model(table: TransitionTable, rows: Ints, alpha: float) -> int:
    """Return the node of the model with the highest mean reward over benchmarks after one hop, on the given rows."""
    first_hop = np.arange(1, 1 + table.n_models)
    rewards = node_outcome(table, rows[:, None], first_hop).reward(alpha)
    return int(first_hop[(benchmark_weights(table, rows) @ rewards).argmax()])


def best_model_per_benchmark(table: TransitionTable, rows: Ints, alpha: float) -> Ints:
    """Return the node of the best model of every benchmark on the given rows, `(benchmarks,)`.

    A benchmark without any of the rows gets the model that is best overall.
    """
    return np.array([best_model(table, group, alpha) for group in rows_by_benchmark(table, rows)])


def rows_by_benchmark(table: TransitionTable, rows: Ints) -> list[Ints]:
    """Return those of the rows that belong to each benchmark; all of them for a benchmark that has none."""
    groups = [rows[table.benchmark[rows] == benchmark] for benchmark in range(len(table.benchmarks))]
    return [group if len(group) else rows for group in groups]
