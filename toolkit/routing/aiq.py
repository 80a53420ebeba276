"""AIQ: the average improvement in quality of a router over a range of costs, as in RouterBench (pure)."""

from collections.abc import Sequence

import numpy as np

from toolkit.replay.exact import Curve, Outcome, fixed_paths
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.baselines import registered_baselines
from toolkit.store import SweepPoint


def fixed_range(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> tuple[Outcome, float]:
    """Return the outcome of the cheapest fixed path, `(1,)`, and the cost of the most expensive one; means over benchmarks."""
    quality, cost = fixed_paths(table, rows, allow_stop)
    cheapest = np.lexsort((-quality, cost))[:1]
    return Outcome(quality[cheapest], cost[cheapest]), float(cost.max())


def areas(
    points: Sequence[SweepPoint], oracle: Curve, cheapest: Outcome, high: float, router: str = "router"
) -> dict[str, float]:
    """Return AIQ of the oracle, of the routers of a sweep, and of the baselines that see the question alone.

    Every router can mix in the cheapest fixed path, by choosing it at random on some of the questions, so it is a point of
    every router too. There is no AIQ if all costs are equal.

    Args:
        points: The scores of every policy at every alpha.
        oracle: The oracle's curve on the same split.
        cheapest: The cheapest fixed path, `(1,)`, whose cost begins the range.
        high: The highest cost of the range.
        router: Name of the learned policy among the points.
    """
    low = float(cheapest.cost[0])
    if high <= low:
        return {}
    result = {"oracle": aiq(oracle.outcome.cost, oracle.outcome.quality, low, high)}
    for policy in (router, *(baseline.name for baseline in registered_baselines() if baseline.question_only)):
        line = [point for point in points if point.policy == policy]
        if line:
            cost = np.append(cheapest.cost, [point.cost for point in line])
            quality = np.append(cheapest.quality, [point.quality for point in line])
            result[policy] = aiq(cost, quality, low, high)
    return result


def aiq(cost: Floats, quality: Floats, low: float, high: float) -> float:
    """Return the average improvement in quality of a router: the mean height of its non-decreasing convex hull over costs.

    RouterBench (Hu et al. 2024, arXiv 2403.12031) defines it as the integral of the hull from the lowest to the highest cost,
    divided by their difference. Above its most expensive point a router keeps that point's quality; below its cheapest point it
    has that one's. The code published with the paper instead divides by the highest cost, and counts nothing below a router's
    cheapest point: its figures depend on where costs begin, and are not comparable with the formula's.

    Args:
        cost: Mean cost of each point of the router, `(points,)`.
        quality: Mean quality of each, `(points,)`.
        low: Lowest cost of the range.
        high: Highest cost of the range; above `low`.
    """
    corners = hull(Outcome(quality=quality, cost=cost))
    inside = corners.cost[(corners.cost > low) & (corners.cost < high)]
    grid = np.unique(np.concatenate([[low, high], inside]))
    return float(np.trapezoid(np.interp(grid, corners.cost, corners.quality), grid) / (high - low))


def hull(points: Outcome) -> Outcome:
    """Return the corners of the non-decreasing convex hull of points, in ascending order of cost, `(corners,)`.

    Between two corners lies what a router reaches that chooses between them at random on each question.
    """
    order = np.lexsort((-points.quality, points.cost))
    corners: list[tuple[float, float]] = []
    for x, y in zip(points.cost[order].tolist(), points.quality[order].tolist(), strict=True):
        if corners and y <= corners[-1][1]:
            continue
        while len(corners) > 1 and _below(corners[-2], corners[-1], (x, y)):
            corners.pop()
        corners.append((x, y))
    costs, qualities = np.array(corners).T
    return Outcome(quality=qualities, cost=costs)


def _below(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    return (middle[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (middle[0] - left[0])
