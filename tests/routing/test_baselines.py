from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.toy import make_table
from toolkit.replay.exact import node_outcome, oracle
from toolkit.replay.table import Ints, TransitionTable
from toolkit.routing.baselines import NEIGHBOURS, Predictor, knn, linear, predictors


def telling_table(allow_stop: bool) -> TransitionTable:
    """Two clusters of questions; which of two models is right is told by the cluster, and right answers cost more in one."""
    rng = np.random.default_rng(0)
    kind = np.arange(60) % 2
    quality, cost = np.zeros((60, 3)), np.tile([0, 1.0, 1.0], (60, 1))
    quality[np.arange(60), 1 + kind] = 1
    cost[kind == 1, 1:] = 5.0 if allow_stop else 1.0
    vectors = (np.eye(2)[kind] + 0.1 * rng.normal(size=(60, 2))).astype(np.float32)
    split = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    return make_table(quality, cost, 1, ["a", "b"], vectors, split=split)


@pytest.mark.parametrize("fit", [knn, linear])
@pytest.mark.parametrize("allow_stop", [False, True])
def test_a_predictor_routes_by_what_the_embedding_tells(
    fit: Callable[[TransitionTable, Ints, bool], Predictor], allow_stop: bool
) -> None:
    table = telling_table(allow_stop)
    rows = table.rows("test")
    chosen = fit(table, rows, allow_stop).choose(0.5)
    np.testing.assert_array_equal(chosen, oracle(table, rows, 0.5, allow_stop))
    assert set(chosen) == ({0, 1} if allow_stop else {1, 2})  # 1 - 0.5 * 5 is worse than no answer


def test_knn_predicts_the_mean_of_its_neighbours() -> None:
    table = telling_table(False)
    rows, train = table.rows("test")[:1], table.rows("train")
    quality, cost = knn(table, rows).predicted[0]
    near = np.argsort(-_cosine(table, rows, train)[0])[: NEIGHBOURS[0]]
    np.testing.assert_allclose(quality[0], table.quality[train[near], 1:].mean(0))
    np.testing.assert_allclose(cost[0], table.cost[train[near], 1:].mean(0))


def _cosine(table: TransitionTable, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[Any]:
    a, b = (table.vectors[table.texts[rows, 0, 0]].astype(float) for rows in (left, right))
    found: npt.NDArray[Any] = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    return found


def test_the_number_of_neighbours_is_chosen_on_the_validation_split() -> None:
    table = telling_table(False)
    rows, validation = table.rows("test"), table.rows("validation")
    for alpha in (0.1, 0.9):
        chosen, validated = ([1 + one.reward(alpha).argmax(1) for one in knn(table, at).predicted] for at in (rows, validation))
        scores = [node_outcome(table, validation, ends).reward(alpha).mean() for ends in validated]
        np.testing.assert_array_equal(knn(table, rows).choose(alpha), chosen[int(np.argmax(scores))])


def test_predictors_are_fitted_once_a_table_and_split() -> None:
    table = telling_table(False)
    fitted = predictors(table, "test", False)
    assert predictors(table, "test", False) is fitted
    assert predictors(table, "test", True) is not fitted
    assert len(predictors(table, "validation", False)["kNN"].choose(0.1)) == 10
    assert predictors(replace(table), "test", False) is not fitted
