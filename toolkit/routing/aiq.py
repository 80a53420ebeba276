"""AIQ: the average improvement in quality of a router over a range of costs, as in RouterBench (pure).

Points are `(points,)`, or `(points, resamples)`: what follows from them is then computed for each resample.
"""

import numpy as np

from toolkit.replay.exact import Curve, Outcome, ends, first_available, fixed_paths, node_means, node_outcome
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.statistics import evenly_spread

ZERO_ROUTER_MODELS, ZERO_ROUTER_PATHS = "zero router (models)", "zero router (fixed paths)"
"""The zero router of single models, and that of all fixed paths."""
ORACLE_ALPHAS = 200
"""Alphas at which the oracle's curve, which bends at one alpha or more for every question, is resampled."""


def fixed_range(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> Ints:
    """Return the ends of the cheapest and the most expensive fixed path, `(2, rows)`, whose mean costs bound the range of AIQ.

    Where a path is not available, the next one in the order of costs takes its place, so that both have all questions.
    """
    quality, cost = fixed_paths(table, rows, allow_stop)
    cheapest = np.lexsort((-quality, np.where(np.isfinite(quality), cost, np.inf)))
    rankings = np.stack([cheapest, np.argsort(-cost, kind="stable")])
    return first_available(table, rows, ends(table, allow_stop).start + rankings)


def zero_routers(table: TransitionTable, fitted: Ints, rows: Ints, allow_stop: bool = False) -> dict[str, Ints]:
    """Return the choices between which each zero router chooses at random, as the ends of some rows, `(choices, rows)`.

    RouterBench's zero router mixes single models. Fixed paths of several hops are choices without any routing too, so that they
    have a zero router of their own; with one hop and no stopping it is the same, and left out. Its choices are the corners of
    the hull of all. Where one is not available, the best of the others takes its place, at an alpha at which it is the best.

    Args:
        table: The table.
        fitted: The rows on which the hull is.
        rows: The rows whose ends are returned.
        allow_stop: Whether paths may end before the last hop.
    """
    choices = {ZERO_ROUTER_MODELS: np.arange(1, 1 + table.n_models)}
    if allow_stop or table.horizon > 1:
        at = ends(table, allow_stop)
        choices[ZERO_ROUTER_PATHS] = np.arange(at.start, at.stop)
    routers = {}
    for name, nodes in choices.items():
        quality, cost = node_outcome(table, fitted[:, None], nodes)
        means = Outcome(
            quality=node_means(table, fitted, nodes, quality), cost=node_means(table, fitted, nodes, cost, missing=0.0)
        )
        routers[name] = first_available(table, rows, nodes[_rank_by_corner(means)])
    return routers


def _rank_by_corner(means: Outcome) -> Ints:
    """Return the choices for each corner of their hull, the corner itself first, `(corners, choices)`.

    The others follow by their reward at an alpha at which the corner's is the highest.

    Args:
        means: Mean quality, -inf if it is unknown, and cost of each choice, `(choices,)`.
    """
    known = np.flatnonzero(np.isfinite(means.quality))
    corners = known[hull_indices(means.cost[known], means.quality[known])]  # in ascending order of cost
    slopes = np.diff(means.quality[corners]) / np.diff(means.cost[corners])
    alphas = (np.append(slopes, 0) + np.insert(slopes, 0, 2 * slopes[:1].sum())) / 2
    rewards = means.reward(alphas[:, None])
    rewards[np.arange(len(corners)), corners] = np.inf
    ranking: Ints = np.argsort(-rewards, axis=1, kind="stable")[np.argsort(corners)]
    return ranking


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
    steps = np.diff(x, axis=0)
    is_wide = steps >= np.finfo(np.float64).tiny  # over a narrower one, a slope would overflow
    slope = np.divide(np.diff(y, axis=0), steps, out=np.zeros_like(x[1:]), where=is_wide)
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
