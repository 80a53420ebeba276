from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.toy import make_table
from toolkit.core.registry import BASELINES
from toolkit.replay.exact import node_outcome, oracle
from toolkit.replay.table import Ints, TransitionTable
from toolkit.routing.baselines import Baseline, registered_baselines
from toolkit.routing.baselines.knn import NEIGHBOURS, knn
from toolkit.routing.baselines.linear import linear
from toolkit.routing.baselines.predictor import Predictor
from toolkit.routing.evaluate import policies
from toolkit.suites.suite import Split


def clustered_table(allow_stop: bool) -> TransitionTable:
    """Two clusters of questions, and two models, each of which is right in one cluster.

    With `allow_stop`, both models are expensive in one cluster.
    """
    rng = np.random.default_rng(0)
    cluster = np.arange(60) % 2
    quality, cost = np.zeros((60, 3)), np.tile([0, 1.0, 1.0], (60, 1))
    quality[np.arange(60), 1 + cluster] = 1
    cost[cluster == 1, 1:] = 5.0 if allow_stop else 1.0
    vectors = (np.eye(2)[cluster] + 0.1 * rng.normal(size=(60, 2))).astype(np.float32)
    split = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    return make_table(quality, cost, 1, ["a", "b"], vectors, split=split)


@pytest.mark.parametrize("fit", [knn, linear])
@pytest.mark.parametrize("allow_stop", [False, True])
def test_a_predictor_routes_by_the_embedding(
    fit: Callable[[TransitionTable, Split, bool], Predictor], allow_stop: bool
) -> None:
    table = clustered_table(allow_stop)
    nodes = fit(table, "test", allow_stop).choose(0.5)
    np.testing.assert_array_equal(nodes, oracle(table, table.rows("test"), 0.5, allow_stop))
    assert set(nodes) == ({0, 1} if allow_stop else {1, 2})  # 1 - 0.5 * 5 is worse than no response


def test_knn_predicts_the_mean_of_its_neighbours() -> None:
    table = clustered_table(False)
    row, train = table.rows("test")[:1], table.rows("train")
    quality, cost = knn(table, "test", False).predicted[0]
    nearest = np.argsort(-cosine(table, row, train)[0])[: NEIGHBOURS[0]]
    np.testing.assert_allclose(quality[0], table.quality[train[nearest], 1:].mean(0))
    np.testing.assert_allclose(cost[0], table.cost[train[nearest], 1:].mean(0))


def cosine(table: TransitionTable, left: Ints, right: Ints) -> npt.NDArray[Any]:
    a, b = (table.vectors[table.texts[rows, 0, 0]].astype(float) for rows in (left, right))
    similarity: npt.NDArray[Any] = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    return similarity


def test_the_number_of_neighbours_is_chosen_on_the_validation_split() -> None:
    table = clustered_table(False)
    validation = table.rows("validation")
    splits: tuple[Split, ...] = ("test", "validation")
    for alpha in (0.1, 0.9):
        chosen, validated = (
            [1 + predicted.reward(alpha).argmax(1) for predicted in knn(table, split, False).predicted] for split in splits
        )
        scores = [node_outcome(table, validation, nodes).reward(alpha).mean() for nodes in validated]
        np.testing.assert_array_equal(knn(table, "test", False).choose(alpha), chosen[int(np.argmax(scores))])


@pytest.mark.parametrize("fit", [knn, linear])
def test_predictors_are_fitted_once_per_table_and_split(fit: Callable[[TransitionTable, Split, bool], Predictor]) -> None:
    table = clustered_table(False)
    fitted = fit(table, "test", False)
    assert fit(table, "test", False) is fitted
    assert fit(table, "test", True) is not fitted
    assert len(fit(table, "validation", False).choose(0.1)) == 10
    assert fit(replace(table), "test", False) is not fitted


def test_only_the_oracle_has_hindsight_and_only_predictors_are_fitted() -> None:
    baselines = registered_baselines()
    assert [baseline.name for baseline in baselines if baseline.hindsight] == ["oracle"]
    assert [baseline.name for baseline in baselines if baseline.fitted] == ["kNN", "linear"]
    assert [baseline.name for baseline in baselines if baseline.question_only] == ["kNN", "linear"]


def test_two_policies_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = clustered_table(False)
    probabilities = np.full((10, 1, 2), 0.5)
    assert "fixed" not in policies(table, "test", 0.1, [probabilities])
    monkeypatch.setitem(BASELINES._loaded, "fixed", Baseline("fixed", lambda *_: 1))
    np.testing.assert_array_equal(policies(table, "test", 0.1, [probabilities])["fixed"].shares, np.ones((10, 1)))
    monkeypatch.setitem(BASELINES._loaded, "fixed", Baseline("oracle", lambda *_: 1))
    with pytest.raises(ValueError, match="'oracle'"):
        policies(table, "test", 0.1, [probabilities])
