from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import bootstrap

from toolkit.replay.table import Floats
from toolkit.routing.claims import bootstrap_p_values
from toolkit.routing.statistics import (
    RESAMPLES,
    combine_seeds,
    estimates_of,
    macro_average,
    overall,
    quotient,
    resample,
    superiority,
)


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


def crossed(questions: int, seeds: int, rng: np.random.Generator, spread: float) -> Floats:
    """Return values with an effect of each question, one of each seed and noise, `(seeds, questions)`."""
    return rng.normal(0, 1, questions) + rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 0.5, (seeds, questions))


def test_seeds_are_resampled_like_rows_of_a_crossed_table() -> None:
    """The spread of the resamples is that of a table whose rows and columns are drawn with replacement, one by one."""
    values = crossed(60, 5, np.random.default_rng(4), spread=0.3)
    seeds, questions = values.shape
    combined = combine_seeds(resample(values), seeds)
    assert combined.mean == pytest.approx([values.mean()])
    rng, means, question_means = np.random.default_rng(5), [], []
    for _ in range(4000):
        columns = rng.integers(0, questions, questions)
        means.append(values[np.ix_(rng.integers(0, seeds, seeds), columns)].mean())
        question_means.append(values[:, columns].mean())
    # Only the seeds' part of the variance is rescaled; questions and seeds are drawn independently.
    by_question, both = np.var(question_means), np.var(means)
    expected = by_question + (both - by_question) * seeds / (seeds - 1)
    assert combined.replicates.var() == pytest.approx(expected, rel=0.1)
    assert combined.replicates.var() > 1.2 * by_question


@pytest.mark.parametrize("seeds", [2, 5])
def test_intervals_over_questions_and_seeds_cover_the_mean_of_both(seeds: int) -> None:
    """Intervals over questions alone miss it: they promise what holds for these seeds only."""
    rng, hits, narrow_hits = np.random.default_rng(6), 0, 0
    for trial in range(150):
        values = crossed(50, seeds, rng, spread=0.3)
        (estimate,) = estimates_of(combine_seeds(resample(values, trial), seeds))
        (narrow,) = estimates_of(resample(values.mean(0, keepdims=True), trial))
        hits += estimate.low <= 0 <= estimate.high
        narrow_hits += narrow.low <= 0 <= narrow.high
    assert hits / 150 >= 0.88
    assert narrow_hits < hits


def test_one_seed_changes_nothing_and_equal_seeds_add_no_variance() -> None:
    values = np.random.default_rng(8).normal(size=(3, 40))
    single = resample(values)
    assert combine_seeds(single, 1) is single
    repeated = combine_seeds(resample(np.tile(values, (4, 1))), 4)
    np.testing.assert_allclose(repeated.replicates, single.replicates)
    np.testing.assert_allclose(repeated.mean, single.mean)


def test_averages_of_the_same_questions_are_paired() -> None:
    rng, benchmark = np.random.default_rng(9), np.array([0] * 10 + [1] * 30)
    values = rng.normal(size=(1, 40))
    for average, shifted in zip(overall(values, benchmark), overall(values + 1, benchmark), strict=True):
        np.testing.assert_allclose(shifted.replicates - average.replicates, 1)
    macro, micro = overall(values, benchmark)
    assert macro.mean == pytest.approx([(values[0, :10].mean() + values[0, 10:].mean()) / 2])
    assert micro.mean == pytest.approx([values.mean()])


def gappy(seed: int, values: int = 3, questions: int = 60) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return values of which the first has all questions, and the others lack some, each its own."""
    rng = np.random.default_rng(seed)
    missing = rng.random((values, questions)) < 0.4
    missing[0] = False
    return np.where(missing, np.nan, rng.random((values, questions))), missing


def test_values_that_some_questions_lack_are_means_over_the_others() -> None:
    """Their intervals are as wide as those of the same questions alone, up to the random number of them in a resample."""
    values, missing = gappy(0)
    estimates = estimates_of(resample(values))
    assert estimates[0] == pytest.approx(estimates_of(resample(values[:1]))[0])
    for row in (1, 2):
        (alone,) = estimates_of(resample(values[row : row + 1, ~missing[row]]))
        assert estimates[row].mean == pytest.approx(alone.mean)
        assert estimates[row].high - estimates[row].low == pytest.approx(alone.high - alone.low, rel=0.1)
        assert estimates[row].low == pytest.approx(alone.low, abs=0.015)


def test_values_that_lack_the_same_questions_stay_paired() -> None:
    values, missing = gappy(1)
    shifted = np.where(missing[1], np.nan, values[1] + 0.25)
    replicates = resample(np.stack([values[0], values[1], shifted, shifted - values[1]])).replicates
    np.testing.assert_allclose(replicates[2] - replicates[1], 0.25)
    np.testing.assert_allclose(replicates[3], 0.25)


def test_a_value_of_one_question_or_none_has_no_interval() -> None:
    values = np.array([[0.1, 0.2, 0.3, 0.4], [np.nan, 0.2, np.nan, np.nan], [np.nan] * 4, [0.5, np.nan, np.nan, 0.5]])
    every, single, none, two = estimates_of(resample(values))
    assert every.low < every.mean < every.high
    assert single.mean == 0.2
    assert np.isnan([single.low, single.high, *none]).all()
    assert two == (0.5, 0.5, 0.5)  # in every resample there is one of them at least
    p_values = bootstrap_p_values(resample(values), np.array([4, 1, 0, 2]))
    np.testing.assert_array_equal(np.isnan(p_values), [False, True, True, False])


def test_the_macro_average_is_over_the_benchmarks_that_have_a_value() -> None:
    rng = np.random.default_rng(2)
    parts = [rng.random((3, 30)), rng.random((3, 12)), rng.random((3, 1))]
    parts[0][1] = np.nan  # the second value has no question of the first benchmark
    parts[1][1, 4:] = np.nan
    parts[1][2, 1:] = np.nan  # the third has one question of two benchmarks
    full, second, third = estimates_of(macro_average(parts, [resample(part, n) for n, part in enumerate(parts)]))
    assert full.mean == pytest.approx(np.mean([part[0].mean() for part in parts]))
    assert second.mean == pytest.approx((parts[1][1, :4].mean() + parts[2][1, 0]) / 2)
    assert third.mean == pytest.approx((parts[0][2].mean() + parts[1][2, 0] + parts[2][2, 0]) / 3)
    alone = [part[:1] for part in parts]
    assert full == pytest.approx(estimates_of(macro_average(alone, [resample(part, n) for n, part in enumerate(alone)]))[0])
    own = [parts[1][1:2, :4], parts[2][1:2]]
    (expected,) = estimates_of(macro_average(own, [resample(part, n) for n, part in enumerate(own)]))
    assert second.high - second.low == pytest.approx(expected.high - expected.low, rel=0.25)


def test_superiority_over_a_missing_reward_is_missing() -> None:
    left, right = np.array([1.0, np.nan, 0.5]), np.array([np.nan, 0.0, 0.5])
    np.testing.assert_array_equal(superiority(left, right), [np.nan, np.nan, 0.5])
