from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.replay.exact import Curve, Outcome
from toolkit.routing.aiq import aiq, areas
from toolkit.store import SweepPoint


def test_aiq_by_hand() -> None:
    cost, quality = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5])
    assert aiq(cost, quality, 1, 3) == pytest.approx((0.5 + 1.0) / 2)  # up to 1 at cost 2, and 1 beyond it
    assert aiq(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.1, 1.0]), 1, 3) == pytest.approx(0.5)  # the middle is below the hull


def test_a_router_is_not_given_its_quality_below_its_cost() -> None:
    """Between abstaining, which costs nothing, and its only point at cost 2, a router is a mixture of both."""
    zero, oracle = np.zeros(1), Curve(np.array([0.0, 1.0]), Outcome(np.array([0.9, 0.0]), np.array([1.0, 0.0])))
    points = [
        SweepPoint(
            policy="router",
            alpha=0.0,
            seeds=1,
            quality=0.75,
            quality_low=0.7,
            quality_high=0.8,
            cost=2.0,
            reward=0.75,
            reward_spread=0.0,
            regret=0.0,
        )
    ]
    area = areas(points, oracle, Outcome(zero, zero), 4.0)
    assert area == pytest.approx({"router": (0.75 / 2 * 2 + 0.75 * 2) / 4, "oracle": (0.9 / 2 + 0.9 * 3) / 4})


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_aiq_lies_between_the_worst_and_the_best_quality(points: list[tuple[float, float]]) -> None:
    cost, quality = np.array(points).T
    area = aiq(cost, quality, 0, 1)
    assert quality.min() - 1e-9 <= area <= quality.max() + 1e-9


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=7))
def test_aiq_is_the_mean_height_over_all_mixtures_of_two_points(grid_points: list[tuple[int, int]]) -> None:
    """RouterBench's hull is the best quality at a cost of any affordable point, or mixture of a cheaper and a dearer one."""
    points = [(x / 20, y / 20) for x, y in grid_points]
    cheapest = max(points, key=lambda point: (-point[0], point[1]))[1]

    def height(at: float) -> float:
        affordable = [y for x, y in points if x <= at]
        mixed = [y + (v - y) * (at - x) / (u - x) for x, y in points for u, v in points if x <= at < u]
        return max(affordable + mixed, default=cheapest)

    edges = np.linspace(0, 1, 201)
    middles = (edges[1:] + edges[:-1]) / 2  # bends are at multiples of 1/20, so the height is linear between edges
    cost, quality = np.array(points).T
    assert aiq(cost, quality, 0, 1) == pytest.approx(np.mean([height(at) for at in middles]), abs=1e-9)
