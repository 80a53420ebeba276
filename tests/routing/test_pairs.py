"""RouteLLM's metrics of two models, by hand and against RouteLLM's own way of computing them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.routing.pairs import apgr, cpt, pgr


def test_metrics_by_hand() -> None:
    share, quality = np.array([0.5, 0.25]), np.array([0.7, 0.5])
    recovered = pgr(quality, 0.4, 0.8)
    assert recovered == pytest.approx([0.75, 0.25])
    # From (0, 0) over (0.25, 0.25) and (0.5, 0.75) to (1, 1).
    assert apgr(share, recovered) == pytest.approx(0.25 * 0.125 + 0.25 * 0.5 + 0.5 * 0.875)
    assert cpt(share, recovered, 0.5) == pytest.approx(0.375)
    assert cpt(share, recovered, 0.8) == pytest.approx(0.6)
    assert cpt(share, recovered, 0.25) == pytest.approx(0.25)


def test_a_router_without_points_of_its_own_is_random() -> None:
    none = np.zeros(0)
    assert apgr(none, none) == pytest.approx(0.5)
    assert cpt(none, none, 0.8) == pytest.approx(0.8)


def test_a_router_may_recover_more_than_the_gap_and_less_than_nothing() -> None:
    share, recovered = np.array([0.2, 0.4, 0.6]), np.array([-0.5, 1.5, 0.2])
    assert cpt(share, recovered, 1.0) == pytest.approx(0.35)  # the first time counts
    assert apgr(share, recovered) == pytest.approx(0.2 * -0.25 + 0.2 * 0.5 + 0.2 * 0.85 + 0.4 * 0.6)


def test_there_is_no_gap_where_the_strong_model_is_not_better() -> None:
    assert np.isnan(pgr(np.array([0.5, 0.6]), 0.7, 0.7)).all()
    assert np.isnan(pgr(np.array([0.5]), np.array([0.7]), np.array([0.6]))).all()


@given(
    st.lists(st.tuples(st.floats(0.01, 0.99), st.floats(0, 1)), min_size=1, max_size=8, unique_by=lambda point: point[0]),
    st.floats(0.05, 0.95),
)
def test_cpt_and_apgr_are_those_of_the_interpolated_line(points: list[tuple[float, float]], level: float) -> None:
    share, recovered = np.array(points).T
    ordered = sorted([(0.0, 0.0), *points, (1.0, 1.0)])
    grid = np.union1d(np.linspace(0, 1, 20_001), share)
    line = np.interp(grid, [x for x, _ in ordered], [y for _, y in ordered])
    assert apgr(share, recovered) == pytest.approx(np.trapezoid(line, grid), abs=1e-9)
    first = grid[(line >= level - 1e-12).argmax()]
    assert cpt(share, recovered, level) == pytest.approx(first, abs=1e-4)


def test_resamples_are_computed_together_as_they_are_one_by_one() -> None:
    rng = np.random.default_rng(1)
    share, quality, weak, strong = rng.random((6, 50)), rng.random((6, 50)), rng.random(50) * 0.4, 0.5 + rng.random(50) * 0.4
    recovered = pgr(quality, weak, strong)
    for n in range(50):
        assert apgr(share, recovered)[n] == pytest.approx(float(apgr(share[:, n], recovered[:, n])))
        assert cpt(share, recovered, 0.5)[n] == pytest.approx(float(cpt(share[:, n], recovered[:, n], 0.5)))
