from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.report.test_plots import random_table
from toolkit.replay.exact import Outcome, benchmark_weights, curve, frontier, node_outcome
from toolkit.routing.aiq import (
    ZERO_ROUTER_MODELS,
    ZERO_ROUTER_PATHS,
    aiq,
    fixed_range,
    hull,
    oracle_alphas,
    zero_routers,
)

Points = list[tuple[float, float]]


def height(points: Points, at: float) -> float:
    """Return the best quality at a cost of any affordable point, or mixture of a cheaper and a dearer one."""
    cheapest = max(points, key=lambda point: (-point[0], point[1]))[1]
    affordable = [y for x, y in points if x <= at]
    mixed = [y + (v - y) * (at - x) / (u - x) for x, y in points for u, v in points if x <= at < u]
    return max(affordable + mixed, default=cheapest)


def test_aiq_by_hand() -> None:
    cost, quality = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5])
    assert aiq(cost, quality, 1, 3) == pytest.approx((0.5 + 1.0) / 2)  # up to 1 at cost 2, and 1 beyond it
    assert aiq(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.1, 1.0]), 1, 3) == pytest.approx(0.5)  # the middle is below the hull


def test_a_router_is_not_given_its_quality_below_its_cost() -> None:
    """Between abstaining, which costs nothing, and its only point at cost 2, a router is a mixture of both."""
    assert aiq(np.array([0.0, 2.0]), np.array([0.0, 0.75]), 0, 4) == pytest.approx((0.75 / 2 * 2 + 0.75 * 2) / 4)


def test_a_range_may_begin_and_end_between_points() -> None:
    assert aiq(np.array([0.0, 4.0]), np.array([0.0, 1.0]), 1, 3) == pytest.approx(0.5)
    assert aiq(np.array([2.0]), np.array([0.5]), 0, 1) == pytest.approx(0.5)
    assert aiq(np.array([2.0]), np.array([0.5]), 3, 4) == pytest.approx(0.5)


def test_a_range_without_width_has_no_aiq() -> None:
    assert np.isnan(aiq(np.array([1.0, 2.0]), np.array([0.0, 1.0]), 2, 2))


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
@example([(0.0, 0.0), (2.225073858507e-311, 1.0)])
def test_aiq_lies_between_the_worst_and_the_best_quality(points: Points) -> None:
    cost, quality = np.array(points).T
    area = aiq(cost, quality, 0, 1)
    assert quality.min() - 1e-9 <= area <= quality.max() + 1e-9


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=7))
def test_aiq_is_the_mean_height_over_all_mixtures_of_two_points(grid_points: list[tuple[int, int]]) -> None:
    """RouterBench's hull is the best quality at a cost of any affordable point, or mixture of a cheaper and a dearer one."""
    points = [(x / 20, y / 20) for x, y in grid_points]
    edges = np.linspace(0, 1, 201)
    middles = (edges[1:] + edges[:-1]) / 2  # bends are at multiples of 1/20, so the height is linear between edges
    cost, quality = np.array(points).T
    assert aiq(cost, quality, 0, 1) == pytest.approx(np.mean([height(points, at) for at in middles]), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=7))
def test_corners_are_points_on_the_hull_and_bend_it(grid_points: list[tuple[int, int]]) -> None:
    points: Points = [(float(x), float(y)) for x, y in grid_points]
    cost, quality = np.array(points).T
    corners = hull(Outcome(quality=quality, cost=cost))
    assert set(zip(corners.cost.tolist(), corners.quality.tolist(), strict=True)) <= set(points)
    for x, y in zip(corners.cost, corners.quality, strict=True):
        assert y == pytest.approx(height(points, x))
    slopes = np.diff(corners.quality) / np.diff(corners.cost)
    assert (slopes > 0).all()
    assert (np.diff(slopes) < 0).all()


def test_resamples_are_computed_together_as_they_are_one_by_one() -> None:
    rng = np.random.default_rng(0)
    cost, quality = rng.random((9, 300)), rng.integers(0, 4, (9, 300)) / 4
    low, high = rng.random(300) * 0.3, 0.5 + rng.random(300)
    together = aiq(cost, quality, low, high)
    alone = [aiq(cost[:, n], quality[:, n], low[n], high[n]) for n in range(300)]
    np.testing.assert_allclose(together, alone)
    assert together.shape == (300,)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("allow_stop", [False, True])
def test_zero_routers_mix_the_fixed_choices_of_their_hull(seed: int, allow_stop: bool) -> None:
    table = random_table(seed)
    rows = table.rows("train")
    weights = benchmark_weights(table, rows)
    first = 0 if allow_stop else 4
    fixed = {ZERO_ROUTER_MODELS: [1, 2, 3], ZERO_ROUTER_PATHS: list(range(first, 13))}
    zero = zero_routers(table, rows, rows, allow_stop)
    assert list(zero) == list(fixed)
    for name, nodes in zero.items():
        assert (nodes == nodes[:, :1]).all()
        points = [(float(weights @ table.cost[rows, node]), float(weights @ table.quality[rows, node])) for node in fixed[name]]
        chosen = [points[fixed[name].index(node)] for node in nodes[:, 0].tolist()]
        for at in np.linspace(0, 3, 31):
            if at >= min(x for x, _ in points):
                assert height(chosen, at) == pytest.approx(height(points, at))
    cheapest, dearest = fixed_range(table, rows, allow_stop)[:, 0]
    costs = weights @ table.cost[rows][:, first:13]
    assert (cheapest - first, dearest - first) == (costs.argmin(), costs.argmax())


def test_with_one_hop_the_zero_router_of_paths_is_that_of_models() -> None:
    table = random_table(1, horizon=1)
    assert list(zero_routers(table, table.rows("train"), table.rows("test"))) == [ZERO_ROUTER_MODELS]


def test_the_oracle_is_resampled_at_enough_alphas() -> None:
    table = random_table(2)
    rows = table.rows("train")
    exact, weights = curve(table, rows, frontier(table, rows)), benchmark_weights(table, rows)
    ends = frontier(table, rows).at(oracle_alphas(exact))
    quality, cost = (values @ weights for values in node_outcome(table, rows, ends))
    low, high = float(exact.outcome.cost.min()), float(exact.outcome.cost.max())
    assert aiq(cost, quality, low, high) == pytest.approx(
        float(aiq(exact.outcome.cost, exact.outcome.quality, low, high)), abs=1e-4
    )
