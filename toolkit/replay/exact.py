"""Exact values over a table, by enumeration of its ends: no rollouts, no sampling, no grid of alphas (pure).

An *end* is a node at which an episode may end: one of the M ** L leaves or, with `allow_stop`, any node, the root included
(Q = C = 0: abstained). With `allow_stop`, every decision node has one more action, the last. Arrays are `(rows, ends)`, or
`(rows, D, actions)` over decision nodes; their number of columns determines whether stopping is allowed.

Where responses are missing or paths do not exist (`TransitionTable.available`), only available ends are chosen, and what is
fixed for all rows is a ranking, of which each row takes the first end that it has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from toolkit.core import tree
from toolkit.replay.table import Floats, Ints, TransitionTable

CHUNK_ROWS = 4096
"""Rows whose frontiers are computed together: few enough for the processor's cache."""


class Outcome(NamedTuple):
    """What a policy is expected to reach; arrays of one shape, mostly `(rows,)`.

    Attributes:
        quality: Expected quality Q, in [0, 1].
        cost: Expected cost C, in cost units.
    """

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
    """The oracle's mean over benchmarks as a step function of alpha.

    Attributes:
        alphas: Where each step begins, ascending from 0, `(steps,)`.
        outcome: Mean quality and cost from there on, `(steps,)` each.
    """

    alphas: Floats
    outcome: Outcome

    def at(self, alpha: float | Floats) -> Outcome:
        """Return mean quality and cost of the oracle: scalars, or `(alphas,)` for several alphas."""
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


def allowed_actions(table: TransitionTable, rows: Ints, n_actions: int) -> npt.NDArray[np.bool_]:
    """Return which actions may be taken at every decision node, `(rows, D, actions)`; stopping always may."""
    allowed = table.allowed[rows]
    stop = np.ones((*allowed.shape[:-1], n_actions - table.n_models), dtype=np.bool_)
    return np.concatenate([allowed, stop], axis=-1)


def on_allowed(table: TransitionTable, rows: Ints, probabilities: Floats) -> Floats:
    """Return action probabilities with those of unavailable models shared among the other actions, in proportion.

    Args:
        table: The table.
        rows: The rows.
        probabilities: Of every action at every decision node, `(rows, D, actions)`. Where all available actions have
            probability 0, they become equally probable.
    """
    if table.available is None:
        return probabilities
    allowed = allowed_actions(table, rows, probabilities.shape[-1])
    masked = probabilities * allowed
    masked = np.where(masked.any(-1, keepdims=True), masked, allowed)
    shared: Floats = masked / masked.sum(-1, keepdims=True)
    return shared


def most_probable(probabilities: Floats) -> Floats:
    """Put all probability on the most probable action, like a greedy router."""
    greedy: Floats = np.eye(probabilities.shape[-1])[probabilities.argmax(-1)]
    return greedy


def outcome(table: TransitionTable, rows: Ints, shares: Floats) -> Outcome:
    """Return the expected outcome of a policy on each row, `(rows,)`, given the probability of each end, `(rows, ends)`."""
    at = ends(table, allow_stop=shares.shape[1] == table.quality.shape[1])
    return Outcome(np.einsum("re,re->r", shares, table.quality[rows, at]), np.einsum("re,re->r", shares, table.cost[rows, at]))


def node_outcome(table: TransitionTable, rows: Ints, nodes: int | Ints) -> Outcome:
    """Return the outcome of ending at given nodes: one node for all rows, or one per row, `(..., rows)`.

    Quality and cost are 0 at a node that is not available.
    """
    return Outcome(table.quality[rows, nodes], table.cost[rows, nodes])


def frontier(table: TransitionTable, rows: Ints, allow_stop: bool = False, predicted: Outcome | None = None) -> Frontier:
    """Return the best end of each row for all alphas, exactly: the oracle's or, by predicted outcomes, a predictor's.

    An end that is not available is never the best.

    Args:
        table: The table.
        rows: Rows of the table, `(rows,)`.
        allow_stop: Whether paths may end before the last hop.
        predicted: The outcome of every end by which ends are compared, `(rows, ends)`; None for the true one.
    """
    at = ends(table, allow_stop)
    chunks = [slice(start, start + CHUNK_ROWS) for start in range(0, len(rows), CHUNK_ROWS)]
    if predicted:
        outcomes = (Outcome(predicted.quality[chunk], predicted.cost[chunk]) for chunk in chunks)
    else:
        outcomes = (Outcome(table.quality[rows[chunk], at], table.cost[rows[chunk], at]) for chunk in chunks)
    if table.available is not None:
        masks = (table.available[rows[chunk], at] for chunk in chunks)
        outcomes = (_never_best(values, ~mask) for values, mask in zip(outcomes, masks, strict=True))
    parts = [_envelopes(*values) for values in outcomes]
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


def _never_best(outcomes: Outcome, unavailable: npt.NDArray[np.bool_]) -> Outcome:
    """Return outcomes, `(rows, ends)`, in which unavailable ends are worse and dearer than all others of their row."""
    quality, cost = outcomes
    worst, dearest = quality.min(1, keepdims=True) - 1, cost.max(1, keepdims=True) + 1
    return Outcome(np.where(unavailable, worst, quality), np.where(unavailable, dearest, cost))


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
    """Return the oracle's mean over benchmarks as a function of alpha, exactly: one step wherever a row changes path.

    Args:
        table: The table.
        rows: Rows of the table, `(rows,)`.
        oracle_frontier: Their frontier.
    """
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


def node_means(table: TransitionTable, rows: Ints, nodes: slice | Ints, values: Floats, missing: float = -np.inf) -> Floats:
    """Return the mean of each node's values over benchmarks on the given rows, `(nodes,)`, fair where responses are missing.

    A node that was only asked easy questions must not look good. So where responses are missing, every value is a question's
    level plus the node's own effect, and the effects are those of least squares, as in incomplete block designs: nodes are
    compared on the questions that they share, directly or through others. One further question, on which all nodes are equal,
    steadies those that were rarely asked. The mean is what is to be expected if the node were available on all rows.

    Args:
        table: The table.
        rows: The rows.
        nodes: The nodes.
        values: Their values, `(rows, nodes)`: quality, cost or reward.
        missing: Mean of a node that is available on none of the rows.
    """
    weights = benchmark_weights(table, rows)
    if table.available is None:
        return weights @ values
    available = table.available[rows][:, nodes]
    known = np.flatnonzero(available.any(0))
    means = np.full(available.shape[1], missing)
    if available[:, known].all():
        means[known] = weights @ values[:, known]
        return means
    means[known] = _fair_means(weights, available[:, known].astype(np.float64), values[:, known])
    return means


def _fair_means(weights: Floats, available: Floats, values: Floats) -> Floats:
    """Return the means of nodes of which each is available on some row; see `node_means`.

    Args:
        weights: Weight of each row in the mean, `(rows,)`.
        available: 1 where a node is available, else 0, `(rows, nodes)`.
        values: Their values, `(rows, nodes)`.
    """
    shares = available / np.maximum(available.sum(1, keepdims=True), 1)
    levels = (shares * values).sum(1, keepdims=True)
    weighted = weights[:, None] * available
    normal = np.diag(weighted.sum(0)) - weighted.T @ shares + np.eye(available.shape[1]) / max(len(weights), 1)
    effects: Floats = np.linalg.solve(normal, (weighted * (values - levels)).sum(0))
    means: Floats = weights @ (levels[:, 0] - shares @ effects) + effects
    return means


def fixed_paths(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> Outcome:
    """Return the outcome of each fixed path, as a mean over benchmarks on the given rows, `(ends,)`.

    Where responses are missing, the means are those that are to be expected on all rows, so that a path that was only asked
    easy questions does not look good (`node_means`). A path that is available on none of the rows has quality -inf and cost 0.
    """
    at = ends(table, allow_stop)
    return Outcome(
        quality=node_means(table, rows, at, table.quality[rows, at]),
        cost=node_means(table, rows, at, table.cost[rows, at], missing=0.0),
    )


def rank_paths(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return all ends, that with the highest mean reward over benchmarks on the given rows first, `(ends,)`.

    Returns `(alphas, ends)` for an array of alphas.
    """
    rewards = fixed_paths(table, rows, allow_stop).reward(np.asarray(alpha, dtype=np.float64)[..., None])
    ranked: Ints = ends(table, allow_stop).start + np.argsort(-rewards, axis=-1, kind="stable")
    return ranked


def best_fixed_path(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return the end with the highest mean reward over benchmarks on the given rows: a scalar, or `(alphas,)`."""
    best: Ints = rank_paths(table, rows, alpha, allow_stop)[..., 0]
    return best


def best_fixed_path_per_benchmark(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return the best fixed path of every benchmark on the given rows, `(benchmarks,)` or `(alphas, benchmarks)`.

    A benchmark without any of the rows gets the path that is best overall.
    """
    return np.stack([best_fixed_path(table, group, alpha, allow_stop) for group in rows_by_benchmark(table, rows)], axis=-1)


def rank_models(table: TransitionTable, rows: Ints, alpha: float) -> Ints:
    """Return the nodes of the models, that with the highest mean reward over benchmarks after one hop first, `(M,)`."""
    first_hop = np.arange(1, 1 + table.n_models)
    means = node_means(table, rows, first_hop, node_outcome(table, rows[:, None], first_hop).reward(alpha))
    return first_hop[np.argsort(-means, kind="stable")]


def best_model(table: TransitionTable, rows: Ints, alpha: float) -> int:
    """Return the node of the model with the highest mean reward over benchmarks after one hop, on the given rows."""
    return int(rank_models(table, rows, alpha)[0])


def first_available(table: TransitionTable, rows: Ints, ranking: Ints) -> Ints:
    """Return the first node of a ranking that is available on each row, `(rows,)`, or `(..., rows)` for several rankings.

    Args:
        table: The table.
        rows: The rows, each with at least one of the nodes.
        ranking: Nodes, the best first, `(nodes,)` or `(..., nodes)`.
    """
    chosen = np.repeat(ranking[..., :1], len(rows), axis=-1)
    if table.available is None:
        return chosen
    for nodes in np.moveaxis(ranking, -1, 0)[1:]:
        missing = ~table.available[rows, chosen]
        if not missing.any():
            break
        np.copyto(chosen, nodes[..., None], where=missing)
    return chosen


def first_available_per_benchmark(table: TransitionTable, rows: Ints, rankings: Sequence[Ints]) -> Ints:
    """Return the same for rows of which each follows the ranking of its benchmark, `(..., rows)`.

    Args:
        table: The table.
        rows: The rows.
        rankings: The ranking of each benchmark, e.g. `rank_paths` of each of `rows_by_benchmark`.
    """
    chosen = np.empty((*rankings[0].shape[:-1], len(rows)), dtype=np.int64)
    for benchmark, ranking in enumerate(rankings):
        own = np.flatnonzero(table.benchmark[rows] == benchmark)
        chosen[..., own] = first_available(table, rows[own], ranking)
    return chosen


def rows_by_benchmark(table: TransitionTable, rows: Ints) -> list[Ints]:
    """Return those of the rows that belong to each benchmark; all of them for a benchmark that has none."""
    groups = [rows[table.benchmark[rows] == benchmark] for benchmark in range(len(table.benchmarks))]
    return [group if len(group) else rows for group in groups]
