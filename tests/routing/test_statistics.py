from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from toolkit.routing.statistics import RESAMPLES, estimates_of, macro_average, quotient, resample, superiority


def test_intervals_are_those_of_scipy_s_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).normal(size=50)
    expected = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=200, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    (estimate,) = estimates_of(resample(values[None], seed=7))
    assert estimate == pytest.approx((values.mean(), expected.low, expected.high))


def test_intervals_cover_the_mean_at_their_nominal_rate() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        parts = [resample(rng.normal(mean, 1.0, (1, 40)), seed) for mean, seed in ((1.0, trial), (3.0, 1000 + trial))]
        estimate = estimates_of(macro_average(parts))[0]
        hits += estimate.low <= 2.0 <= estimate.high
    assert 0.89 <= hits / 200 <= 0.99


def test_one_question_has_no_interval() -> None:
    (estimate,) = estimates_of(resample(np.array([[0.5]])))
    assert estimate.mean == 0.5
    assert np.isnan([estimate.low, estimate.high]).all()


def test_a_quotient_is_not_defined_for_negative_denominators() -> None:
    values = resample(np.array([[1.0, 3.0], [4.0, 4.0], [-1.0, -1.0], [0.0, 0.0]]))
    means = quotient(values, 0, np.array([0, 1, 2, 3])).mean
    np.testing.assert_array_equal(means, [1.0, 0.5, np.nan, np.inf])


def test_equal_rewards_count_half() -> None:
    np.testing.assert_array_equal(superiority(np.array([1.0, 0.5, 0.1 + 0.2]), np.array([0.0, 0.7, 0.3])), [1, 0, 0.5])
