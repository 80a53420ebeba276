from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from tests.routing.baselines.tables import random_table
from toolkit.replay.exact import benchmark_weights, node_outcome, oracle
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.baselines import predictor
from toolkit.routing.baselines.factorisation import PENALTIES, RANKS
from toolkit.routing.baselines.factorisation import fit as fit_factors
from toolkit.routing.baselines.knn import NEIGHBOURS, knn
from toolkit.routing.baselines.linear import PENALTIES as PENALTIES_OF_LINEAR
from toolkit.routing.baselines.linear import fit as fit_linear
from toolkit.routing.baselines.linear import linear
from toolkit.routing.baselines.predictor import Predict, Predictions, Questions, fit_components, fitting_rows, predictions, read
from toolkit.suites.suite import Split


def cosine(table: TransitionTable, left: Ints, right: Ints) -> Floats:
    a, b = (table.vectors[table.texts[rows, 0, 0]].astype(float) for rows in (left, right))
    similarity: Floats = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    return similarity


@pytest.mark.parametrize("allow_stop", [False, True])
def test_knn_predicts_the_mean_of_its_neighbours(allow_stop: bool) -> None:
    table = random_table()
    row, train = table.rows("test")[:1], table.rows("train")
    for size, predicted in zip(NEIGHBOURS, knn(table, "test", allow_stop).predicted, strict=True):
        nearest = train[np.argsort(-cosine(table, row, train)[0])[:size]]
        ends = slice(0 if allow_stop else 4, 13)
        np.testing.assert_allclose(predicted.quality[0], table.quality[nearest, ends].mean(0))
        np.testing.assert_allclose(predicted.cost[0], table.cost[nearest, ends].mean(0))


def test_the_setting_is_the_best_on_the_validation_split() -> None:
    table = random_table(rows=300)
    validation = table.rows("validation")
    assert len(validation) >= predictor.MIN_VALIDATION_QUESTIONS
    weights, chosen = benchmark_weights(table, validation), set()
    for alpha in np.linspace(0, 1, 11):
        validated = [4 + predicted.reward(alpha).argmax(1) for predicted in knn(table, "validation", False).predicted]
        scores = [weights @ node_outcome(table, validation, nodes).reward(alpha) for nodes in validated]
        best = int(np.argmax(scores))
        chosen.add(best)
        nodes = 4 + knn(table, "test", False).predicted[best].reward(alpha).argmax(1)
        np.testing.assert_array_equal(knn(table, "test", False).choose(alpha), nodes)
    assert len(chosen) > 1


def memorise_or_average(questions: Questions, targets: Floats) -> Predict:
    """Predict a seen question's own targets, else nonsense; or the mean. Only the second is right on unseen questions."""
    known = {row.tobytes(): target for row, target in zip(questions.embeddings, targets, strict=True)}
    nonsense = -targets.mean(0)

    def predict(others: Questions) -> list[Floats]:
        seen = np.stack([known.get(row.tobytes(), nonsense) for row in others.embeddings])
        return [seen, np.broadcast_to(targets.mean(0), seen.shape)]

    return predict


@pytest.mark.parametrize("validation", [0, 0.1, 0.3])
def test_settings_are_selected_on_questions_that_were_not_fitted(validation: float) -> None:
    table = random_table(rows=120, validation=validation)
    chosen = predictions(table, "test", True, memorise_or_average)
    assert chosen.best_setting(0.1) == 1
    rows = chosen.fitted.rows
    np.testing.assert_array_equal(np.sort(rows), table.rows("validation" if validation == 0.3 else "train"))


def test_a_training_question_is_too_few_to_select_on() -> None:
    table = random_table(rows=5, train=0.2, validation=0)
    assert len(table.rows("train")) == 1
    chosen = predictions(table, "test", False, memorise_or_average)
    assert not len(chosen.fitted.rows)
    assert chosen.best_setting(0.1) == 1


@pytest.mark.parametrize("fit", [knn, linear])
def test_predictors_are_fitted_once_per_table(
    fit: Callable[[TransitionTable, Split, bool], Predictions],
) -> None:
    table = random_table()
    predicted = fit(table, "test", False)
    assert fit(table, "test", False) is predicted
    assert fit(table, "test", True).fitted is predicted.fitted
    assert fit(table, "validation", False).fitted is predicted.fitted
    assert fit(replace(table), "test", False).fitted is not predicted.fitted


def test_one_regression_has_the_penalty_with_the_smallest_leave_one_out_error() -> None:
    table = random_table(rows=60)
    train = table.rows("train")
    embeddings, targets = read(table, train).embeddings, table.quality[train]
    errors = []
    for penalty in PENALTIES_OF_LINEAR:
        left_out = cross_val_predict(Ridge(penalty), embeddings, np.hstack([targets, table.cost[train]]), cv=LeaveOneOut())
        errors.append(((left_out - np.hstack([targets, table.cost[train]])) ** 2).mean())
    best = Ridge(PENALTIES_OF_LINEAR[int(np.argmin(errors))]).fit(embeddings, targets)
    test = read(table, table.rows("test")).embeddings
    (predicted,) = linear(table, "test", True).predicted
    np.testing.assert_allclose(predicted.quality, best.predict(test), atol=1e-4)


def test_a_large_table_is_sampled() -> None:
    table = random_table()
    np.testing.assert_array_equal(fitting_rows(table), table.rows("train"))
    sample = fitting_rows(table, 10)
    assert len(sample) == 10
    assert (np.diff(sample) > 0).all()
    assert set(sample.tolist()) < set(table.rows("train").tolist())
    np.testing.assert_array_equal(sample, fitting_rows(table, 10))


def test_components_keep_targets_of_that_rank() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 20)) + rng.normal(size=20)
    questions = read(random_table(), np.arange(50))

    def repeat(_: Questions, components: Floats) -> Predict:
        assert components.shape == (50, 3)
        return lambda _: [components]

    (predicted,) = fit_components(repeat, 3, questions, targets)(questions)
    np.testing.assert_allclose(predicted, targets)


def test_factors_are_the_best_of_their_rank() -> None:
    """Reduced-rank ridge regression minimises the penalised error among all weights of its rank."""
    rng = np.random.default_rng(0)
    embeddings, targets = rng.normal(size=(60, 5)), rng.normal(size=(60, 4))
    embeddings -= embeddings.mean(0)
    targets -= targets.mean(0)
    predict = fit_factors(Questions(embeddings.astype(np.float32), np.zeros((60, 0), np.float32)), targets)
    identity = Questions(np.eye(5, dtype=np.float32), np.zeros((5, 0), np.float32))
    weights = next(iter(predict(identity)))
    assert (PENALTIES[0], RANKS[0]) == (0.1, 2)
    assert np.linalg.matrix_rank(weights, tol=1e-4) == 2

    def loss(candidate: Floats) -> float:
        return float(((targets - embeddings @ candidate) ** 2).sum() + PENALTIES[0] * (candidate**2).sum())

    left, right = np.linalg.svd(weights)[0][:, :2], np.linalg.svd(weights)[2][:2]
    for _ in range(200):
        nearby = (left + 0.01 * rng.normal(size=left.shape)) @ (left.T @ weights @ right.T) @ right
        assert loss(nearby) > loss(weights) - 1e-6


def test_the_oracle_is_learned_from_one_hot_embeddings_in_sample() -> None:
    table = random_table(rows=40, train=1, validation=0)
    one_hot = replace(table, vectors=np.eye(len(table.vectors), dtype=np.float32))
    train = one_hot.rows("train")
    nodes = predictions(one_hot, "train", False, fit_linear).predicted[0].reward(0.2).argmax(1) + 4
    np.testing.assert_array_equal(nodes, oracle(one_hot, train, 0.2))
