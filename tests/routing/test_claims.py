"""P-values of leads, and their correction for the number of benchmarks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from toolkit.routing.claims import bootstrap_p_values, holm
from toolkit.routing.statistics import Resampled, resample


def test_holm_by_hand() -> None:
    """Of four benchmarks: 4 * 0.005, then max(3 * 0.01, 0.02), then 2 * 0.03, and 1 * 0.04 is raised to the one before."""
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert list(adjusted) == ["a", "b", "c", "d"]


def test_benchmarks_without_a_p_value_take_no_part() -> None:
    adjusted = holm({"a": 0.03, "b": float("nan")})
    assert adjusted["a"] == pytest.approx(0.03)
    assert np.isnan(adjusted["b"])
    assert holm({}) == {}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closed_test_of_all_intersections(p_values: list[float]) -> None:
    """An adjusted p-value is the largest Bonferroni p-value of any set of hypotheses that contains its own (Marcus 1976)."""
    names = [str(n) for n in range(len(p_values))]
    adjusted = holm(dict(zip(names, p_values, strict=True)))
    for n, name in enumerate(names):
        sets = [group for size in range(1, len(names) + 1) for group in combinations(range(len(names)), size) if n in group]
        closed = max(min(1.0, len(group) * min(p_values[member] for member in group)) for group in sets)
        assert adjusted[name] == pytest.approx(closed)


@pytest.mark.parametrize("questions", [5, 40, 400])
def test_p_values_of_a_mean_are_those_of_a_t_test(questions: int) -> None:
    values = np.random.default_rng(questions).normal(0.3, 1, (3, questions))
    expected = ttest_1samp(values, 0, axis=1).pvalue
    np.testing.assert_allclose(bootstrap_p_values(resample(values), questions), expected, rtol=0.15, atol=0.002)


def test_a_lead_without_variance_is_certain_and_one_question_claims_nothing() -> None:
    constant = resample(np.array([[0.1] * 7, [0.0] * 7, [-0.2] * 7]))
    np.testing.assert_array_equal(bootstrap_p_values(constant, 7), [0, 1, 0])
    single = Resampled(np.array([0.5]), np.full((1, 10), np.nan))
    assert np.isnan(bootstrap_p_values(single, 1)).all()
