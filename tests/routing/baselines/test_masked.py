"""Baselines on tables in which responses are missing: only available ends are chosen, and fits use what is there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize

from tests.routing.baselines.tables import random_table
from tests.toy import with_missing
from toolkit.core import tree
from toolkit.core.registry import BASELINES
from toolkit.replay.exact import rank_models, rank_paths
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.baselines import Baseline, cascade, clusters, factorisation, linear, mlp, registered_baselines, svm
from toolkit.routing.baselines.knn import NEIGHBOURS, knn
from toolkit.routing.baselines.predictor import Predictions, predictions, read


def without(table: TransitionTable, model: int, split: str | None = None) -> TransitionTable:
    """Return a table in which a model's responses are missing, on one split or on all, unless a row has no other path."""
    assert table.available is not None
    available = table.available.copy()
    for row in range(len(available)):
        if split in (None, table.split[row]):
            others = [leaf for leaf in table.leaves.tolist() if model not in tree.path_of(leaf, table.n_models)]
            kept = [leaf for leaf in others if available[row, leaf]] or others[:1]
            available[row] = False
            for leaf in kept:
                path = tree.path_of(leaf, table.n_models)
                available[row, [tree.node_of(path[:depth], table.n_models) for depth in range(len(path) + 1)]] = True
    quality, cost = np.where(available, table.quality, 0), np.where(available, table.hop_cost, 0)
    return replace(table, quality=quality, hop_cost=cost, available=available)


TWO_HOPS = with_missing(random_table(n_models=2), 1)
ONE_HOP = with_missing(random_table(n_models=5, horizon=1, rows=200), 2, share=0.3)
TABLES = {
    "two hops": TWO_HOPS,
    "one hop": ONE_HOP,
    "few responses": with_missing(random_table(n_models=4, horizon=1), 3, share=0.9),
    "no validation": with_missing(random_table(rows=60, train=0.6, validation=0), 4),
    "a model without training responses": without(ONE_HOP, 2, "train"),
    "a model without any response": without(TWO_HOPS, 0),
}
FAST = [baseline for baseline in registered_baselines() if not baseline.slow]


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp, "MAX_SAMPLES", 1000)


def masks(table: TransitionTable, split: str) -> tuple[Ints, npt.NDArray[np.bool_]]:
    assert table.available is not None
    rows = np.flatnonzero(table.split == split)
    return rows, table.available[rows]


def best_reward(table: TransitionTable, row: int, nodes: Iterable[int], alpha: float) -> float:
    assert table.available is not None
    return max(float(table.quality[row, n] - alpha * table.cost[row, n]) for n in nodes if table.available[row, n])


@pytest.mark.parametrize("allow_stop", [False, True])
@pytest.mark.parametrize("shape", TABLES)
@pytest.mark.parametrize("baseline", FAST, ids=lambda baseline: str(baseline.name))
def test_every_baseline_chooses_available_ends(baseline: Baseline, shape: str, allow_stop: bool) -> None:
    table = TABLES[shape]
    rows, available = masks(table, "test")
    at_one_hop = baseline.name in ("best model", "best model per benchmark")
    for name, choice in baseline.policies(table, "test", 0.2, allow_stop).items():
        if baseline.name in ("models", "fixed paths"):  # they are evaluated on the questions that have them
            assert available[:, choice].any(), name
        elif np.ndim(choice) == 3:
            probabilities = np.asarray(choice)
            children = available[:, 1:].reshape(len(rows), table.n_decision_nodes, table.n_models)
            reached = available[:, : table.n_decision_nodes]
            assert not (probabilities[..., : table.n_models] * ~children)[reached].any()
            np.testing.assert_allclose(probabilities.sum(-1), 1)
        else:
            nodes = np.asarray(choice)
            assert nodes.shape == rows.shape
            assert available[np.arange(len(rows)), nodes].all()
            assert (nodes >= (0 if allow_stop else 1 if at_one_hop else table.leaves[0])).all()
            ends = range(0 if allow_stop or at_one_hop else table.leaves[0], table.quality.shape[1])
            highest = [best_reward(table, row, ends, 0.2) for row in rows.tolist()]
            rewards = table.quality[rows, nodes] - 0.2 * table.cost[rows, nodes]
            assert (rewards <= np.array(highest) + 1e-9).all()
            if baseline.hindsight:
                np.testing.assert_allclose(rewards, highest)


@pytest.mark.parametrize("shape", TABLES)
def test_models_without_responses_on_the_split_are_left_out(shape: str) -> None:
    table = TABLES[shape]
    _, available = masks(table, "test")
    names = BASELINES["models"].policies(table, "test", 0.2, True)
    present = [model for n, model in enumerate(table.models) if available[:, 1 + n].any()]
    assert [name for name in names if " x" not in name] == present
    assert (len(present) < table.n_models) == (shape == "a model without any response")


@pytest.mark.parametrize("allow_stop", [False, True])
@pytest.mark.parametrize("shape", TABLES)
def test_the_best_choice_is_the_first_of_its_ranking_that_a_question_has(shape: str, allow_stop: bool) -> None:
    table = TABLES[shape]
    rows, available = masks(table, "test")
    train = np.flatnonzero(table.split == "train")
    groups = [train, *(train[table.benchmark[train] == n] for n in range(len(table.benchmarks)))]
    rankings = {
        "best_model": [rank_models(table, group, 0.2) for group in groups],
        "best_path": [rank_paths(table, group, 0.2, allow_stop) for group in groups],
    }
    for name, ranked in rankings.items():
        (overall,) = BASELINES[name].policies(table, "test", 0.2, allow_stop).values()
        (per_benchmark,) = BASELINES[f"{name}_per_benchmark"].policies(table, "test", 0.2, allow_stop).values()
        for place, row in enumerate(rows.tolist()):
            for chosen, ranking in ((overall, ranked[0]), (per_benchmark, ranked[1 + table.benchmark[row]])):
                first = next(node for node in ranking.tolist() if available[place, node])
                assert np.asarray(chosen)[place] == first


def test_random_takes_the_available_actions_equally_often() -> None:
    rows, available = masks(TWO_HOPS, "test")
    for allow_stop in (False, True):
        (probabilities,) = BASELINES["random"].policies(TWO_HOPS, "test", 0.2, allow_stop).values()
        for place in range(len(rows)):
            for node in range(TWO_HOPS.n_decision_nodes):
                children = available[place, 2 * node + 1 : 2 * node + 3]
                if available[place, node]:
                    actions = np.append(children, True) if allow_stop else children
                    np.testing.assert_allclose(np.asarray(probabilities)[place, node], actions / actions.sum())


@pytest.mark.parametrize("shape", TABLES)
def test_knn_averages_the_nearest_training_questions_that_have_the_end(shape: str) -> None:
    table = TABLES[shape]
    rows, _ = masks(table, "test")
    train, available = masks(table, "train")
    embeddings = [table.vectors[table.texts[each, 0, 0]].astype(float) for each in (rows, train)]
    similarity = normalize(embeddings[0]) @ normalize(embeddings[1]).T
    nodes = np.arange(table.quality.shape[1])
    for size, predicted in zip(NEIGHBOURS, knn(table, "test", True).predicted, strict=True):
        for place in range(0, len(rows), 5):
            for node in nodes.tolist():
                own = [n for n in np.argsort(-similarity[place], kind="stable").tolist() if available[n, node]]
                nearest = train[own[:size]]
                if len(nearest):
                    assert predicted.quality[place, node] == pytest.approx(table.quality[nearest, node].mean())
                    assert predicted.cost[place, node] == pytest.approx(table.cost[nearest, node].mean())
                else:
                    assert predicted.quality[place, node] == predicted.quality[place].min()
                    others = np.flatnonzero(available.any(0))
                    assert predicted.quality[place, node] <= predicted.quality[place, others].min() - 1


def predicted_alone(table: TransitionTable, penalty: float) -> tuple[Floats, Floats]:
    """Return quality and cost of each node by a ridge regression of its own, on the training questions that have it."""
    train, available = masks(table, "train")
    test, results = read(table, np.flatnonzero(table.split == "test")).embeddings, []
    for values in (table.quality, table.cost):
        columns = []
        for node in range(values.shape[1]):
            own = train[available[:, node]]
            model = Ridge(penalty).fit(read(table, own).embeddings.astype(float), values[own, node])
            columns.append(model.predict(test.astype(float)))
        results.append(np.stack(columns, axis=1))
    return results[0], results[1]


def test_each_end_has_the_regression_of_the_questions_that_have_it() -> None:
    fits = {
        "linear": (predictions(TWO_HOPS, "test", True, linear.fit), linear.PENALTIES[0], 0),
        "factorisation": (predictions(TWO_HOPS, "test", True, factorisation.fit), factorisation.PENALTIES[0], -6),
    }
    assert factorisation.RANKS[-1] > 2 * TWO_HOPS.quality.shape[1]  # then the projection loses nothing
    for predicted, penalty, setting in fits.values():
        quality, cost = predicted_alone(TWO_HOPS, penalty)
        np.testing.assert_allclose(predicted.predicted[setting].quality, quality, atol=1e-4)
        np.testing.assert_allclose(predicted.predicted[setting].cost, cost, atol=1e-4)


def test_fewer_factors_predict_the_same_where_they_suffice() -> None:
    """Outcomes that are one linear function of the embedding, times an effect of the path, need one factor alone."""
    rng = np.random.default_rng(0)
    table = random_table(rows=200, n_models=4, horizon=1)
    level = read(table, np.arange(200)).embeddings @ rng.normal(size=8)
    outcomes = np.concatenate([np.zeros((200, 1)), level[:, None] * rng.normal(size=4)], axis=1)
    table = with_missing(replace(table, quality=outcomes, hop_cost=outcomes), 0)
    predicted = predictions(table, "test", False, factorisation.fit).predicted[0]
    np.testing.assert_allclose(predicted.quality, outcomes[table.split == "test", 1:], atol=0.05)


def test_clusters_average_the_questions_that_have_the_end() -> None:
    rows, _ = masks(ONE_HOP, "test")
    train, available = masks(ONE_HOP, "train")
    embeddings = [normalize(read(ONE_HOP, each).embeddings) for each in (train, rows)]
    predicted = predictions(ONE_HOP, "test", True, clusters.fit).predicted
    for size, setting in zip(clusters.CLUSTERS, predicted, strict=True):
        model = KMeans(size, n_init=1, random_state=0).fit(embeddings[0])
        for place, cluster in enumerate(model.predict(embeddings[1]).tolist()):
            for node in range(6):
                have = [n for n in range(len(train)) if available[n, node]]
                own = [n for n in have if model.labels_[n] == cluster] or have
                assert setting.quality[place, node] == pytest.approx(ONE_HOP.quality[train[own], node].mean())


def test_svm_predicts_each_end_from_the_questions_that_have_it() -> None:
    """What stands in the place of missing responses does not matter, and an end's own quality matters to it alone."""
    table = ONE_HOP
    assert table.available is not None
    changed = np.where(table.available, table.quality, 0.7)
    before, after = (
        predictions(each, "test", False, svm.fit).predicted[1].quality for each in (table, replace(table, quality=changed))
    )
    np.testing.assert_array_equal(before, after)
    changed = np.where(table.available & (np.arange(6) == 2), 1, table.quality)
    only = predictions(replace(table, quality=changed), "test", False, svm.fit).predicted[1].quality
    np.testing.assert_array_equal(only[:, [0, 2, 3, 4]], before[:, [0, 2, 3, 4]])
    assert (only[:, 1] > 0.8).all()


def test_missing_targets_are_imputed_by_effects_of_questions_and_nodes() -> None:
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(40, 1)) + rng.normal(size=(1, 6))
    targets = np.concatenate([effects, -2 * effects], axis=1)
    missing = np.tile(rng.random((40, 6)) < 0.3, 2)
    np.testing.assert_array_equal(mlp.imputed(targets), targets)
    np.testing.assert_allclose(mlp.imputed(np.where(missing, np.nan, targets)), targets, atol=1e-3)


def test_a_cascade_ends_at_the_last_response_that_a_question_has() -> None:
    scorers, _, _ = cascade.fitted_scorers(TWO_HOPS)
    rows, available = masks(TWO_HOPS, "test")
    train, trained = masks(TWO_HOPS, "train")
    for node in (1, 2):
        own = train[trained[:, node]]
        observed = [TWO_HOPS.vectors[TWO_HOPS.texts[each, node]].reshape(len(each), -1) for each in (own, rows)]
        expected = Ridge(cascade.PENALTY).fit(observed[0], TWO_HOPS.quality[own, node]).predict(observed[1])
        np.testing.assert_allclose(scorers.scores(rows)[:, node], expected, rtol=1e-4, atol=1e-5)
    for alpha in (0.0, 0.1, 1.0):
        best = cascade.best_cascade(TWO_HOPS, alpha)
        reached, scores = cascade.choose(TWO_HOPS, "test", alpha, True), scorers.scores(rows)
        ranking = rank_paths(TWO_HOPS, train, alpha, True).tolist()
        for place in range(len(rows)):
            nodes = [node for node in best.nodes if available[place, node]]
            if not best.nodes:
                end = 0
            elif not nodes:
                end = next(node for node in ranking if available[place, node])
            else:
                accepted = (n for n, bar in zip(nodes, best.thresholds, strict=False) if scores[place, n] >= bar)
                end = next(accepted, nodes[-1])
            assert reached[place] == end


def test_a_cascade_is_selected_by_what_it_reaches() -> None:
    _, rows, scores = cascade.fitted_scorers(TWO_HOPS)
    weights = np.array([1 / (2 * (TWO_HOPS.benchmark[rows] == TWO_HOPS.benchmark[row]).sum()) for row in rows])
    reached = cascade.reached_nodes(TWO_HOPS, rows, 0.2)
    rewards = (TWO_HOPS.quality - 0.2 * TWO_HOPS.cost)[rows[:, None], reached]
    mean = weights @ rewards[np.arange(len(rows)), cascade.best_cascade(TWO_HOPS, 0.2).ends(scores)]
    assert mean >= (weights @ rewards[:, 3:]).max() - 1e-9


def test_ppo_as_it_comes_is_left_out_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="toolkit")
    assert BASELINES["sb3_ppo"].policies(ONE_HOP, "test", 0.2, False) == {}
    assert "no action masks" in caplog.text


@pytest.mark.parametrize("name", [baseline.name for baseline in FAST])
def test_a_mask_of_nothing_changes_nothing(name: str) -> None:
    """A table that says that all is available gives what a table without a mask gives."""
    table = random_table()
    masked = replace(table, available=np.ones(table.quality.shape, dtype=np.bool_))
    (baseline,) = [baseline for baseline in FAST if baseline.name == name]
    before, after = (baseline.policies(each, "test", 0.2, True) for each in (table, masked))
    assert before.keys() == after.keys()
    for key, choice in before.items():
        np.testing.assert_allclose(choice, after[key])


def test_settings_are_selected_by_what_is_available() -> None:
    chosen: Predictions = knn(ONE_HOP, "test", False)
    rows, available = masks(ONE_HOP, "validation")
    means = []
    for predicted in knn(ONE_HOP, "validation", False).predicted:
        total = []
        for place, row in enumerate(rows.tolist()):
            nodes = [n for n in range(5) if available[place, 1 + n]]
            best = max(nodes, key=lambda n: predicted.quality[place, n] - 0.2 * predicted.cost[place, n])
            total.append((ONE_HOP.benchmark[row], ONE_HOP.quality[row, 1 + best] - 0.2 * ONE_HOP.cost[row, 1 + best]))
        means.append(np.mean([np.mean([value for group, value in total if group == n]) for n in (0, 1)]))
    assert len(rows) >= 30
    assert chosen.best_setting(0.2) == int(np.argmax(means))
