"""Routers that are not better than the best fixed path, and what is said and done about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from tests.synthetic import synthetic_table
from tests.toy import with_missing
from toolkit.core import tree
from toolkit.core.errors import SuiteError
from toolkit.replay.exact import best_fixed_path, node_outcome, on_allowed, outcome, path_shares, rank_paths
from toolkit.replay.table import TransitionTable
from toolkit.report.training import guard_sentence
from toolkit.routing.guard import along_path, compare_with_best_path
from toolkit.routing.router import Router, load_router
from toolkit.routing.train import fit_router, train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite


def everywhere(table: TransitionTable, probabilities: np.ndarray) -> np.ndarray:
    return np.tile(probabilities, (len(table.rows("validation")), 1, 1))


@pytest.mark.parametrize("path", [(), (1,), (2, 0), (1, 2, 0)])
def test_a_fixed_path_is_taken_and_then_stopped(path: tuple[int, ...]) -> None:
    table = synthetic_table(60, dimensions=4)
    probabilities = everywhere(table, along_path(table, path, 4))
    shares = path_shares(table, probabilities)
    assert (shares.argmax(1) == tree.node_of(path, 3)).all()
    np.testing.assert_allclose(shares.max(1), 1)


def test_the_lead_is_that_over_the_path_that_is_best_on_training_questions() -> None:
    table, alpha = synthetic_table(600, dimensions=4, horizon=2), 0.05
    rows, best = table.rows("validation"), int(best_fixed_path(table, table.rows("train"), alpha, True))
    other = tree.node_of((0,), 3)
    guard = compare_with_best_path(table, everywhere(table, along_path(table, (0,), 4)), alpha)
    assert guard is not None
    assert (guard.node, guard.questions) == (best, len(rows))
    leads = node_outcome(table, rows, other).reward(alpha) - node_outcome(table, rows, best).reward(alpha)
    groups = [leads[table.benchmark[rows] == benchmark] for benchmark in (0, 1)]
    assert guard.lead.mean == pytest.approx(np.mean([group.mean() for group in groups]))
    expected = bootstrap(groups, lambda a, b, axis: (a.mean(axis) + b.mean(axis)) / 2, method="percentile", rng=0)
    np.testing.assert_allclose(guard.lead[1:], expected.confidence_interval, atol=0.02)
    assert not guard.is_better


def test_the_path_itself_is_not_better_than_itself_and_the_oracle_is() -> None:
    table, alpha = synthetic_table(600, dimensions=4, horizon=2), 0.05
    path = tree.path_of(int(best_fixed_path(table, table.rows("train"), alpha, False)), 3)
    same = compare_with_best_path(table, everywhere(table, along_path(table, path, 3)), alpha)
    assert same is not None
    assert (same.lead.mean, same.is_better) == (0, False)
    rows = table.rows("validation")
    clairvoyant = np.zeros((len(rows), table.n_decision_nodes, 3))
    rewards = node_outcome(table, rows[:, None], np.arange(4, 13)).reward(alpha)
    for n, leaf in enumerate(4 + rewards.argmax(1)):
        clairvoyant[n] = along_path(table, tree.path_of(int(leaf), 3), 3)
    better = compare_with_best_path(table, clairvoyant, alpha)
    assert better is not None
    assert better.is_better


def test_a_question_that_lacks_the_path_takes_the_next_best_one() -> None:
    table, alpha = with_missing(synthetic_table(200, dimensions=4, horizon=2), 0), 0.05
    assert table.available is not None
    rows, ranking = table.rows("validation"), rank_paths(table, table.rows("train"), 0.05)
    nodes = [next(node for node in ranking if table.available[row, node]) for row in rows]
    assert len(set(nodes)) > 1
    random = on_allowed(table, rows, np.full((len(rows), 4, 3), 1 / 3))
    guard = compare_with_best_path(table, random, alpha)
    assert guard is not None
    assert guard.node == ranking[0]
    shares = path_shares(table, np.eye(3)[random.argmax(-1)])
    lead = outcome(table, rows, shares).reward(alpha) - node_outcome(table, rows, np.array(nodes)).reward(alpha)
    assert guard.lead.mean == pytest.approx(np.mean([lead[table.benchmark[rows] == b].mean() for b in (0, 1)]))


def test_a_router_on_a_fixed_path_decides_where_the_path_is_not_available() -> None:
    table = with_missing(synthetic_table(60, dimensions=4, horizon=2), 0)
    assert table.available is not None
    config, rows = TrainConfig(algorithm="exact", exact={"n_epochs": 1}), np.arange(60)
    card = {"models": list("abc"), "horizon": 2, "masked": True, "settings": {}, "terms": []}
    learned = Router(fit_router(table, config, 0), card)
    fallen = Router(learned.algorithm, card | {"fixed_path": ["b", "a"]})
    own, probabilities = learned.probabilities(table, rows), fallen.probabilities(table, rows)
    has_path = table.available[:, tree.node_of((1, 0), 3)]
    assert 0 < has_path.sum() < 60
    np.testing.assert_array_equal(probabilities[~has_path], own[~has_path])
    at = tree.node_of((1, 0), 3) - tree.n_nodes(3, 1)
    np.testing.assert_allclose(path_shares(table, probabilities)[has_path, at], 1)


def test_without_validation_questions_nothing_is_said() -> None:
    table = synthetic_table(60, dimensions=4).hold_out("first")
    split = np.where(table.split == "validation", "unused", table.split)
    from dataclasses import replace

    assert compare_with_best_path(replace(table, split=split), np.zeros((0, 13, 3)), 0.1) is None


def test_a_router_falls_back_on_the_path_if_the_settings_say_so(
    cache: Cache, suite: Suite, table: TransitionTable, tmp_path: Path
) -> None:
    if not len(table.rows("validation")):
        pytest.fail("the suite of the fixture needs validation questions")
    config = TrainConfig(alpha=0.05, timesteps=200, n_envs=8)
    plain = train(suite, cache, config, 0, tmp_path / "runs")
    assert plain.guard is not None
    assert not plain.guard.is_better
    assert not plain.falls_back
    fallen = train(suite, cache, config.changed({"fallback": True}), 0, tmp_path / "runs")
    assert fallen.falls_back
    router = load_router(fallen.path)
    best = int(best_fixed_path(table, table.rows("train"), 0.05))
    shares = path_shares(table, router.probabilities(table, table.rows("test")))
    expected = node_outcome(table, table.rows("test"), best)
    np.testing.assert_allclose(outcome(table, table.rows("test"), shares).quality, expected.quality)
    remedy = "toolkit train s --set fallback=true"
    assert guard_sentence(plain.guard, False, remedy).endswith(f"To take that path instead: {remedy}")
    assert "The router takes that path" in guard_sentence(plain.guard, True, remedy)
    assert table.path_name(best) in guard_sentence(plain.guard, False, remedy)


def test_a_conditioned_router_cannot_fall_back() -> None:
    with pytest.raises(SuiteError, match="fallback is for a router of one alpha"):
        TrainConfig(alphas=(0.0, 0.1)).changed({"fallback": True})
