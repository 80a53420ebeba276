"""AIQ: the average improvement in quality of a router over a range of costs, as in RouterBench (pure).

Points are `(points,)`, or `(points, resamples)`: what follows from them is then computed for each resample.
"""

import numpy as np

from toolkit.replay.exact import Curve, Outcome, benchmark_weights, ends, fixed_paths
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.statistics import evenly_spread

ZERO_ROUTER_MODELS, ZERO_ROUTER_PATHS = "zero router (models)", "zero router (fixed paths)"
"""The zero router of single models, and that of all fixed paths."""
ORACLE_ALPHAS = 200
"""Alphas at which the oracle's curve, which bends at one alpha or more for every question, is resampled."""


def fixed_range(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> Ints:
    """Return the nodes of the cheapest and of the most expensive fixed path, whose mean costs bound the range of AIQ."""
    quality, cost = fixed_paths(table, rows, allow_stop)
    nodes: Ints = ends(table, allow_stop).start + np.array([np.lexsort((-quality, cost))[0], cost.argmax()])
    return nodes


def zero_routers(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> dict[str, Ints]:
    """Return the nodes between which each zero router chooses at random: the corners of the hull of its choices on the rows.

    RouterBench's zero router mixes single models. Fixed paths of several hops are choices without any routing too, so that they
    have a zero router of their own; with one hop and no stopping it is the same, and left out.
    """
    choices = {ZERO_ROUTER_MODELS: np.arange(1, 1 + table.n_models)}
    if allow_stop or table.horizon > 1:
        at = ends(table, allow_stop)
        choices[ZERO_ROUTER_PATHS] = np.arange(at.start, at.stop)
    weights = benchmark_weights(table, rows)
    corners = {}
    for name, nodes in choices.items():
        cost, quality = weights @ table.cost[rows][:, nodes], weights @ table.quality[rows][:, nodes]
        corners[name] = nodes[np.unique(hull_indices(cost, quality))]
    return corners


def oracle_alphas(curve: Curve) -> Floats:
    """Return the alphas at which the oracle is resampled: even steps through those at which its curve bends."""
    return np.unique(evenly_spread(curve.alphas, ORACLE_ALPHAS))


def aiq(cost: Floats, quality: Floats, low: float | Floats, high: float | Floats) -> Floats:
    """Return the average improvement in quality of a router: the mean height of its non-decreasing convex hull over costs.

    RouterBench (Hu et al. 2024, arXiv 2403.12031) defines it as the integral of the hull from the lowest to the highest cost,
    divided by their difference. Above its most expensive point a router keeps that point's quality; below its cheapest point it
    has that one's. The code published with the paper instead divides by the highest cost, and counts nothing below a router's
    cheapest point: its figures depend on where costs begin, and are not comparable with the formula's.

    Args:
        cost: Mean cost of each point of the router, `(points, ...)`.
        quality: Mean quality of each.
        low: Lowest cost of the range, a number or `(...)`.
        high: Highest cost of the range; above `low`, or the result is nan.

    Returns:
        The mean height, `(...)`.
    """
    x, y = hull(Outcome(quality=quality, cost=cost))[::-1]
    left, right = np.clip(x[:-1], low, high), np.clip(x[1:], low, high)
    slope = np.divide(np.diff(y, axis=0), np.diff(x, axis=0), out=np.zeros_like(x[1:]), where=np.diff(x, axis=0) > 0)
    area = ((right - left) * (y[:-1] + slope * ((left + right) / 2 - x[:-1]))).sum(0)
    area += (np.clip(x[0], low, high) - low) * y[0] + (high - np.clip(x[-1], low, high)) * y[-1]
    width = np.asarray(high - low, dtype=np.float64)
    height: Floats = np.divide(area, width, out=np.full(np.broadcast(area, width).shape, np.nan), where=width > 0)
    return height


def hull(points: Outcome) -> Outcome:
    """Return the corners of the non-decreasing convex hull of points, in ascending order of cost, `(corners, ...)`.

    Between two corners lies what a router reaches that chooses between them at random on each question. Where several hulls are
    computed together, those with fewer corners repeat their last one.
    """
    corners = hull_indices(points.cost, points.quality)
    return Outcome(*(np.take_along_axis(values, corners, axis=0) for values in points))


def hull_indices(cost: Floats, quality: Floats) -> Ints:
    """Return the places of the corners of the hull among points, `(points, ...)`, as `(corners, ...)`.

    Starting at the cheapest point, the next corner is that in the steepest upward direction; of several, the farthest.
    """
    cheapest = cost.min(axis=0)
    corner = np.where(cost == cheapest, quality, -np.inf).argmax(axis=0)[None]
    corners = [corner]
    while True:
        right, up = (values - np.take_along_axis(values, corner, axis=0) for values in (cost, quality))
        ahead = (right > 0) & (up > 0)
        with np.errstate(over="ignore"):
            slope = np.divide(up, right, out=np.full(right.shape, -np.inf), where=ahead)
        steepest = slope.max(axis=0)
        following = np.where(ahead & (slope == steepest), right, -np.inf).argmax(axis=0)[None]
        if not ahead.any():
            return np.concatenate(corners)
        corner = np.where(ahead.any(axis=0), following, corner)
        corners.append(corner)
