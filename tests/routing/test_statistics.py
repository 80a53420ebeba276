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
        parts = [rng.normal(mean, 1.0, (1, 40)) for mean in (1.0, 3.0)]
        estimate = estimates_of(macro_average(parts, [resample(part, trial + 1000 * n) for n, part in enumerate(parts)]))[0]
        hits += estimate.low <= 2.0 <= estimate.high
    assert 0.89 <= hits / 200 <= 0.99


@pytest.mark.parametrize("sizes", [[2] * 20, [1] * 40, [1] * 8 + [3] * 6, [1, 25], [1, 2, 40]])
def test_many_small_benchmarks_have_an_interval_that_covers_the_mean(sizes: list[int]) -> None:
    """Without rescaling, two questions each would show half of the variance; a single one, none, or no interval at all."""
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(150):
        parts = [rng.normal(0.5, 0.4, (1, size)) for size in sizes]
        (estimate,) = estimates_of(macro_average(parts, [resample(part, trial * 100 + n) for n, part in enumerate(parts)]))
        hits += estimate.low <= 0.5 <= estimate.high
    assert 0.88 <= hits / 150 <= 0.99


def test_benchmarks_of_one_question_each_are_resampled_like_one_benchmark() -> None:
    values = np.random.default_rng(2).normal(size=(1, 60))
    parts = [values[:, n : n + 1] for n in range(60)]
    (apart,) = estimates_of(macro_average(parts, list(map(resample, parts))))
    (together,) = estimates_of(resample(values))
    assert apart == pytest.approx(tuple(together), abs=0.02)


def test_a_constant_has_an_interval_of_no_width_and_one_question_none() -> None:
    parts = [np.full((1, size), 0.25) for size in (1, 1, 4)]
    assert estimates_of(macro_average(parts, list(map(resample, parts)))) == [pytest.approx((0.25, 0.25, 0.25))]
    (estimate,) = estimates_of(macro_average(parts[:1], [resample(parts[0])]))
    assert np.isnan([estimate.low, estimate.high]).all()


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
