"""Where `--alphas auto` places alphas, and what `--alphas` accepts."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.toy import make_table
from toolkit.core.errors import SuiteError
from toolkit.replay.exact import curve, frontier, node_outcome
from toolkit.replay.table import TransitionTable
from toolkit.routing.aiq import aiq, fixed_range
from toolkit.routing.alphas import MAX_ALPHAS, auto_alphas, parse_alphas, predicted_costs
from toolkit.routing.baselines.linear import linear
from toolkit.suites.suite import Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def priced_table(prices: tuple[float, ...], rows: int = 600, seed: int = 0, validation: int | None = None) -> TransitionTable:
    """Make a table of one hop with binary scores, in which a question's embedding says how likely each model is right.

    Args:
        prices: Cost of each model; a dearer one is right more often.
        rows: Number of questions.
        seed: Seed of the scores.
        validation: Number of validation questions; None for a third.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 8)).astype(np.float32)
    skill = np.linspace(0, 1.5, len(prices)) + vectors[:, : len(prices)]
    scores = (rng.random((rows, len(prices))) < 1 / (1 + np.exp(-skill))).astype(float)
    quality = np.concatenate([np.zeros((rows, 1)), scores], axis=1)
    cost = np.tile([0.0, *prices], (rows, 1))
    split = np.array([SPLITS[n % 3] for n in range(rows)])
    if validation is not None:
        split[np.flatnonzero(split == "validation")[validation:]] = "train"
    models = [f"model{n}" for n in range(len(prices))]
    return make_table(quality, cost, 1, models, vectors=vectors, split=split)


def linear_outcomes(table: TransitionTable, alphas: list[float]) -> tuple[list[float], list[float]]:
    """Return mean cost and quality of a router that learns by ridge regression, on the test split."""
    rows = table.rows("test")
    (predicted,) = linear(table, "test", False).predicted
    outcome = curve(table, rows, frontier(table, rows, False, predicted)).at(np.array(alphas))
    return outcome.cost.tolist(), outcome.quality.tolist()


@pytest.mark.parametrize("prices", [(0.01, 1.0), (0.001, 1.0), (0.2, 0.25, 1.0), (1e-5, 2e-5), (30.0, 900.0)])
def test_automatic_alphas_spread_a_router_s_cost_evenly(prices: tuple[float, ...]) -> None:
    """The hindsight oracle's hull, by contrast, is one jump wherever scores are 0 or 1 and prices are constant."""
    table = priced_table(prices)
    alphas = auto_alphas(table, 11)
    assert alphas[0] == 0
    assert alphas == sorted(set(alphas))
    assert 8 <= len(alphas) <= 11
    costs, _ = linear_outcomes(table, [*alphas, 1e9])
    span = costs[0] - costs.pop()
    assert costs[0] - costs[-1] > 0.9 * span
    steps = -np.diff(costs)
    assert steps.min() > -0.02 * span
    assert steps.max() < 0.3 * span


def test_aiq_is_as_high_as_with_many_alphas() -> None:
    """Placing alphas badly must not make a router look worse: 21 of them are as good as 400 close ones."""
    table = priced_table((0.01, 1.0))
    rows = table.rows("test")
    ends = node_outcome(table, rows, fixed_range(table, rows))
    (low_quality, _), (low, high) = (values.mean(1) for values in ends)

    def area(alphas: list[float]) -> float:
        cost, quality = linear_outcomes(table, alphas)
        return float(aiq(np.array([low, *cost]), np.array([low_quality, *quality]), low, high))

    fine = area([0.0, *np.geomspace(1e-3, 10, 400)])
    assert area(auto_alphas(table)) > fine - 0.01
    assert area([0.0, 1.01]) < fine - 0.02  # where the oracle's frontier bends


def test_predicted_costs_are_those_of_the_predictors_choices() -> None:
    table = priced_table((0.1, 0.4, 1.0), rows=120)
    starts, cost = predicted_costs(table)
    rows = table.rows("validation")
    predictors = linear(table, "validation", False)
    for alpha in (0.0, 0.05, 0.3, 2.0):
        chosen = predictors.choose(alpha)
        exact = curve(table, rows, frontier(table, rows, False, predictors.predicted[0])).at(alpha)
        assert exact.cost == pytest.approx(table.cost[rows, chosen].mean())
    assert starts[0] == 0
    assert cost[0] > cost[-1] == pytest.approx(0.1)


def test_a_table_travels_to_workers_without_what_was_fitted_on_it() -> None:
    table = priced_table((0.1, 1.0), rows=60)
    size = len(pickle.dumps(table))
    alphas = auto_alphas(table)
    assert len(pickle.dumps(table)) < size + table.cost.nbytes + 1000
    assert auto_alphas(pickle.loads(pickle.dumps(table))) == alphas


def test_stopping_extends_the_range_to_no_cost_at_all() -> None:
    table = priced_table((0.5, 1.0))
    assert max(auto_alphas(table, 9, allow_stop=True)) > max(auto_alphas(table, 9))
    _, cost = predicted_costs(table, allow_stop=True)
    assert cost[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "table",
    [
        priced_table((1.0,)),  # one model
        priced_table((1.0, 1.0, 1.0)),  # equal prices
        priced_table((0.0, 0.0)),  # no prices
    ],
)
def test_alpha_0_is_alone_where_no_alpha_changes_the_cost(table: TransitionTable) -> None:
    assert auto_alphas(table) == [0.0]


@pytest.mark.parametrize("validation", [0, 1, 2, 29, 30])
def test_few_validation_questions_are_replaced_by_training_questions(validation: int) -> None:
    alphas = auto_alphas(priced_table((0.01, 1.0), rows=300, validation=validation), 11)
    assert 5 <= len(alphas) <= 11
    assert 0.02 < alphas[1] < alphas[-1] < 5


def test_three_questions_give_some_alphas() -> None:
    table = priced_table((0.01, 1.0), rows=3)
    assert auto_alphas(table)[0] == 0


@settings(max_examples=15, deadline=None)
@example(prices=[0.0, 1.0, 2.2250738585072014e-308], n=2, rows=31, allow_stop=False)
@given(
    st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=4),
    st.integers(2, 12),
    st.integers(3, 40),
    st.booleans(),
)
def test_any_prices_give_ascending_finite_alphas_from_0(prices: list[float], n: int, rows: int, allow_stop: bool) -> None:
    alphas = auto_alphas(priced_table(tuple(prices), rows=rows), n, allow_stop)
    assert alphas[0] == 0
    assert alphas == sorted(set(alphas))
    assert len(alphas) <= n
    assert np.isfinite(alphas).all()


def test_alphas_are_parsed_in_order_and_once() -> None:
    assert parse_alphas("auto") is None
    assert parse_alphas(" Auto ") is None
    assert parse_alphas("0.1, 0,0.1,1e-1,-0.0") == [0.0, 0.1]
    assert parse_alphas(",".join(map(str, range(MAX_ALPHAS)))) is not None


@pytest.mark.parametrize("text", ["", ",", "0,", "nan", "0,inf", "-1", "0;1", "1e999", "zero", "0,0x1", "\ud800", "\0"])
def test_what_is_no_alpha_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(SuiteError, match="finite numbers from 0 on"):
        parse_alphas(text)


def test_thousands_of_alphas_are_refused() -> None:
    with pytest.raises(SuiteError, match="at most 1000"):
        parse_alphas(",".join(map(str, range(5000))))
