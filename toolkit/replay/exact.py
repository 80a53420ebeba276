"""Exact answers over a table: no rollout, no sampling, no grid of alphas; a few vector operations a level (pure).

Arrays are `(rows, ends)` over the nodes at which an episode may end, or `(rows, D, actions)` over decision nodes. Episodes end
at the M ** L leaves; with `allow_stop` at every node, the root included (Q = C = 0: abstained), and every decision node has one
more action, the last. The number of columns tells which of the two is meant.
"""

from typing import NamedTuple

import numpy as np

from toolkit.core import tree
from toolkit.replay.table import Floats, Ints, TransitionTable

CHUNK = 4096
"""Rows whose frontiers are worked out together: few enough for the processor's cache."""


class Outcome(NamedTuple):
    """Expected quality, and expected cost in cost units; arrays of one shape, mostly `(rows,)`."""

    quality: Floats
    cost: Floats

    def reward(self, alpha: float | Floats) -> Floats:
        """Return R = Q - alpha * C; several alphas broadcast, e.g. `(alphas, 1)` against `(rows,)`."""
        return self.quality - alpha * self.cost

    def charged(self, cost: float | Floats) -> "Outcome":
        """Return the same at so much more cost."""
        return Outcome(self.quality, self.cost + cost)


class Frontier(NamedTuple):
    """The oracle of every row for all alphas at once: each end is a line Q - alpha * C, the best of them an upper envelope.

    Attributes:
        alphas: Where each segment begins, ascending from 0, `(rows, segments)`; inf past a row's last.
        nodes: The end that is best from there on, `(rows, segments)`.
    """

    alphas: Floats
    nodes: Ints

    def at(self, alpha: float | Floats) -> Ints:
        """Return the oracle's end on each row, `(rows,)`, or `(alphas, rows)` for an array of alphas.

        Of equally good ends the cheapest is taken, and of those the first in the order of nodes.
        """
        wanted = np.asarray(alpha, dtype=np.float64)[..., None]
        found = np.broadcast_to(self.nodes[:, 0], (*wanted.shape[:-1], len(self.nodes))).copy()
        for starts, nodes in zip(self.alphas.T[1:], self.nodes.T[1:], strict=True):
            np.copyto(found, nodes, where=starts <= wanted)
        return found


class Curve(NamedTuple):
    """Mean quality and cost of the oracle as step functions of alpha: entry n holds from `alphas[n]` on, `(segments,)`."""

    alphas: Floats
    outcome: Outcome

    def at(self, alpha: float | Floats) -> Outcome:
        """Return mean quality and cost of the oracle at some alphas."""
        place = np.searchsorted(self.alphas, alpha, side="right") - 1
        return Outcome(self.outcome.quality[place], self.outcome.cost[place])


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
    stopping = probabilities.shape[-1] - models
    mass, stopped = np.ones((rows, 1)), []
    for depth in range(table.horizon):
        chances = mass[:, :, None] * probabilities[:, tree.level(models, depth)]
        stopped.append(chances[:, :, models:].reshape(rows, models**depth * stopping))
        mass = chances[:, :, :models].reshape(rows, models ** (depth + 1))
    return np.concatenate([*stopped, mass], axis=1)


def outcome(table: TransitionTable, rows: Ints, shares: Floats) -> Outcome:
    """Return what a policy is worth on some rows, given the probability of each end, `(rows, ends)`."""
    at = ends(table, allow_stop=shares.shape[1] == table.quality.shape[1])
    return Outcome(np.einsum("re,re->r", shares, table.quality[rows, at]), np.einsum("re,re->r", shares, table.cost[rows, at]))


def node_outcome(table: TransitionTable, rows: Ints, nodes: int | Ints) -> Outcome:
    """Return what ending at given nodes is worth: one node for all rows, or one a row, `(..., rows)`."""
    return Outcome(table.quality[rows, nodes], table.cost[rows, nodes])


def frontier(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> Frontier:
    """Return the oracle of each row for all alphas, exactly."""
    at = ends(table, allow_stop)
    parts = [_envelopes(table.quality[part, at], table.cost[part, at]) for part in _chunks(rows)]
    segments = max((starts.shape[1] for starts, _ in parts), default=1)
    alphas = np.full((len(rows), segments), np.inf)
    nodes = np.zeros((len(rows), segments), dtype=np.int64)
    done = 0
    for starts, chosen in parts:
        here = slice(done, done + len(starts))
        alphas[here, : starts.shape[1]] = starts
        nodes[here, : starts.shape[1]] = chosen + at.start
        done += len(starts)
    return Frontier(alphas, nodes)


def _chunks(rows: Ints) -> list[Ints]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def _envelopes(quality: Floats, cost: Floats) -> tuple[Floats, Ints]:
    """Walk along the upper envelopes of lines `quality - alpha * cost`, all rows at once, from alpha 0 to the cheapest end."""
    best = np.where(quality == quality.max(1, keepdims=True), cost, np.inf).argmin(1)
    starts, chosen = [np.zeros(len(best))], [best]
    live = np.arange(len(best))
    while True:
        line = (np.arange(len(live)), best)
        saved = cost[line][:, None] - cost
        lost = quality[line][:, None] - quality
        crossing = np.divide(lost, saved, out=np.full(lost.shape, np.inf), where=saved > 0)
        best = crossing.argmin(1)
        alpha = crossing[line[0], best]
        moving = alpha < np.inf
        if not moving.any():
            return np.stack(starts, 1), np.stack(chosen, 1)
        live, best, quality, cost = live[moving], best[moving], quality[moving], cost[moving]
        start, node = np.full(len(chosen[0]), np.inf), np.zeros(len(chosen[0]), dtype=np.int64)
        start[live] = np.maximum(alpha[moving], starts[-1][live])  # rounding must not turn the order round
        node[live] = best
        starts.append(start)
        chosen.append(node)


def curve(table: TransitionTable, rows: Ints, found: Frontier) -> Curve:
    """Return the oracle's mean over benchmarks as a function of alpha, exactly: one step wherever a row changes path."""
    weights = benchmark_weights(table, rows)[:, None]
    value = node_outcome(table, rows[:, None], found.nodes)
    later = np.isfinite(found.alphas[:, 1:])
    alphas = found.alphas[:, 1:][later]
    order = np.argsort(alphas, kind="stable")
    sums = [
        np.cumsum(np.concatenate([[float((weights[:, 0] * v[:, 0]).sum())], (weights * np.diff(v, axis=1))[later][order]]))
        for v in value
    ]
    return Curve(np.concatenate([[0.0], alphas[order]]), Outcome(*sums))


def oracle(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return the end that the oracle reaches on each row, `(rows,)`, or `(alphas, rows)` for an array of alphas."""
    return frontier(table, rows, allow_stop).at(alpha)


def benchmark_weights(table: TransitionTable, rows: Ints) -> Floats:
    """Return weights that turn a sum over rows into the unweighted mean of benchmark means, `(rows,)`."""
    _, place, counts = np.unique(table.benchmark[rows], return_inverse=True, return_counts=True)
    weights: Floats = 1 / (len(counts) * counts[place])
    return weights


def fixed_paths(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> Outcome:
    """Return what each fixed path is worth, the mean over benchmarks on the given rows, `(ends,)`."""
    at, weights = ends(table, allow_stop), benchmark_weights(table, rows)
    return Outcome(weights @ table.quality[rows, at], weights @ table.cost[rows, at])


def best_fixed_path(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return the end with the highest mean reward over benchmarks, selected on the given rows: one for each alpha."""
    worth = fixed_paths(table, rows, allow_stop)
    best: Ints = ends(table, allow_stop).start + worth.reward(np.asarray(alpha, dtype=np.float64)[..., None]).argmax(-1)
    return best


def best_fixed_path_per_benchmark(table: TransitionTable, rows: Ints, alpha: float | Floats, allow_stop: bool = False) -> Ints:
    """Return the best fixed path of every benchmark, `(benchmarks,)` or `(alphas, benchmarks)`, selected on the given rows.

    A benchmark without rows there gets the path that is best overall.
    """
    return np.stack([best_fixed_path(table, here, alpha, allow_stop) for here in rows_by_benchmark(table, rows)], axis=-1)


def rows_by_benchmark(table: TransitionTable, rows: Ints) -> list[Ints]:
    """Return those of the rows that belong to each benchmark; all of them for one that has none."""
    groups = [rows[table.benchmark[rows] == benchmark] for benchmark in range(len(table.benchmarks))]
    return [here if len(here) else rows for here in groups]
