from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.routing.scores import arena_score, cost_save


@pytest.mark.parametrize(("quality", "price"), [(0.6, 0.1), (0.75, 3.0), (0.2, 150.0)])
def test_the_arena_s_score_is_a_weighted_harmonic_mean(quality: float, price: float) -> None:
    cheapness = (math.log(200) - math.log(price)) / (math.log(200) - math.log(0.0044))
    expected = 1.1 / (1 / quality + 0.1 / cheapness)
    assert arena_score(np.array(quality), np.array(price)) == pytest.approx(expected)


def test_prices_beyond_the_arena_s_range_are_clipped() -> None:
    score = arena_score(np.array([0.5, 0.5, 0.0, 1.0]), np.array([0.0, 1000.0, 1.0, 0.0044]))
    assert score == pytest.approx([1.1 * 0.5 / (0.05 + 1), 0.0, 0.0, 1.0])


def test_cost_save_is_the_largest_saving_at_the_quality_of_the_best_model() -> None:
    quality, cost = np.array([0.8, 0.71, 0.7, 0.6]), np.array([3.0, 1.5, 1.2, 0.1])
    assert cost_save(quality, cost, 0.7, 2.0) == pytest.approx(0.4)
    assert cost_save(quality, cost, 0.75, 2.0) == pytest.approx(-0.5)
    assert math.isnan(cost_save(quality, cost, 0.9, 2.0))
    assert math.isnan(cost_save(quality, cost, 0.7, 0.0))
