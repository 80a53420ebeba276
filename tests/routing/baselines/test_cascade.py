from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from tests.routing.baselines.tables import random_table, revealing_table
from toolkit.core import tree
from toolkit.replay.exact import benchmark_weights
from toolkit.routing.baselines import cascade as module
from toolkit.routing.baselines.cascade import PENALTY, Cascade, best_cascade, best_threshold, choose, fitted_scorers

SCORES = st.lists(st.tuples(st.integers(0, 4), st.integers(-5, 5)), min_size=1, max_size=12)


@given(SCORES)
@settings(deadline=None)
def test_no_threshold_gains_more(rows: list[tuple[int, int]]) -> None:
    scores, gains = np.array(rows, dtype=float).T
    threshold = best_threshold(scores, gains)
    candidates = [*scores, np.inf]
    assert gains[scores >= threshold].sum() == max(gains[scores >= each].sum() for each in candidates)


def test_a_cascade_ends_at_the_first_accepted_response() -> None:
    cascade = Cascade(nodes=(2, 7, 23), thresholds=(0.5, 0.8))
    scores = np.zeros((4, 13))
    scores[:, 2] = [0.6, 0.1, 0.5, 0.4]
    scores[:, 7] = [0.9, 0.9, 0.1, 0.7]
    np.testing.assert_array_equal(cascade.ends(scores), [2, 7, 2, 23])
    np.testing.assert_array_equal(Cascade().ends(scores), np.zeros(4))


def test_a_scorer_reads_the_question_and_the_newest_response() -> None:
    table = random_table()
    train, test = table.rows("train"), table.rows("test")
    scorers, _, _ = fitted_scorers(table)
    for node in range(1, 4):
        question, response = (table.vectors[table.texts[:, node, part]] for part in range(2))
        observed = np.hstack([question, response])
        expected = Ridge(PENALTY).fit(observed[train], table.quality[train, node]).predict(observed[test])
        np.testing.assert_allclose(scorers.scores(test)[:, node], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("validation", [0, 0.3])
def test_the_cascade_is_at_least_every_fixed_path_where_it_is_selected(validation: float) -> None:
    table = random_table(validation=validation)
    _, rows, scores = fitted_scorers(table)
    assert set(table.split[rows]) == {"validation" if validation else "train"}
    assert len(scores) == len(rows)
    weights = benchmark_weights(table, rows)
    for alpha in (0.0, 0.2, 1.0):
        rewards = (table.quality - alpha * table.cost)[rows]
        reached = best_cascade(table, alpha).ends(scores)
        assert weights @ rewards[np.arange(len(rows)), reached] >= (weights @ rewards).max() - 1e-9


def test_cross_validation_scores_questions_that_were_not_fitted() -> None:
    table = random_table(rows=40, validation=0)
    scorers, rows, scores = fitted_scorers(table)
    in_sample = scorers.scores(rows)
    error, fitted_error = (((each - table.quality[rows, :4]) ** 2)[:, 1:].mean() for each in (scores, in_sample))
    assert error > fitted_error


def test_the_order_starts_with_the_model_whose_failures_show() -> None:
    table = revealing_table()
    cascade = best_cascade(table, 0.5)
    assert cascade.nodes == (1, tree.node_of((0, 1), 2))
    test = table.rows("test")
    correct = table.quality[test, 1] == 1
    reached = choose(table, "test", 0.5, True)
    assert np.mean(reached == np.where(correct, 1, cascade.nodes[1])) > 0.95


def test_it_abstains_if_every_response_costs_more_than_it_is_good_for() -> None:
    np.testing.assert_array_equal(choose(revealing_table(), "test", 100.0, True), 0)


def test_orders_are_limited_to_those_with_the_best_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table()
    unlimited = {alpha: best_cascade(table, alpha) for alpha in (0.05, 0.1)}
    monkeypatch.setattr(module, "MAX_PATHS", 1)
    rows, leaves = fitted_scorers(table)[1], list(product(range(3), repeat=2))
    for alpha, free in unlimited.items():
        rewards = benchmark_weights(table, rows) @ (table.quality - (alpha + 0.01) * table.cost)[rows]
        best = max((tree.node_of(path, 3) for path in leaves), key=lambda node: rewards[node])
        assert best_cascade(table, alpha + 0.01).nodes[-1] == best
        assert free.nodes
