"""Each baseline learns what decides the path, where its features say it, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from tests.routing.baselines.tables import path_table, revealing_table, reward
from toolkit.core.registry import BASELINES
from toolkit.replay.exact import best_fixed_path
from toolkit.replay.table import TransitionTable
from toolkit.routing.baselines import registered_baselines, sb3_ppo

EMBEDDING = ["knn", "linear", "mlp", "svm", "factorisation", "clusters"]
WORDS = ["knn_ngrams", "tree", "linear"]


def reward_of(name: str, table: TransitionTable, alpha: float = 0.0, allow_stop: bool = False) -> float:
    (choice,) = BASELINES[name].policies(table, "test", alpha, allow_stop).values()
    assert np.ndim(choice) < 2
    return reward(table, choice, alpha)


def worded_table() -> TransitionTable:
    """Four wordings, each with its own right path, among random words; embeddings say nothing."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 300)
    tasks = ["sort them", "count them", "sort things", "count things"]
    questions = [f"{' '.join(rng.choice(list('abcdefgh'), 6))}: {tasks[n]}" for n in right]
    return path_table(right, questions=questions)


def clustered_table(clusters: int = 4) -> TransitionTable:
    """Clusters of embeddings in the corners of a simplex, each with its own right path."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, clusters, 300)
    vectors = np.eye(clusters)[cluster] + 0.1 * rng.normal(size=(300, clusters))
    return path_table(cluster % 4, vectors.astype(np.float32))


def crossed_table() -> TransitionTable:
    """Clusters in the corners of a square; those at opposite corners have the same right path, which nothing linear tells."""
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 2, (400, 2))
    vectors = 2.0 * corner - 1 + 0.1 * rng.normal(size=(400, 2))
    return path_table(corner[:, 0] ^ corner[:, 1], vectors.astype(np.float32), horizon=1)


@pytest.mark.parametrize("name", WORDS)
def test_wording_that_decides_the_path_is_learned_from_words(name: str) -> None:
    assert reward_of(name, worded_table()) > 0.95


@pytest.mark.parametrize("name", sorted({*EMBEDDING} - {*WORDS}))
def test_wording_is_not_learned_from_embeddings_that_say_nothing(name: str) -> None:
    assert reward_of(name, worded_table()) < 0.5


@pytest.mark.parametrize("name", EMBEDDING)
def test_clusters_that_decide_the_path_are_learned_from_embeddings(name: str) -> None:
    assert reward_of(name, clustered_table()) > 0.95


@pytest.mark.parametrize("name", ["knn", "mlp", "svm", "clusters"])
def test_crossed_clusters_are_learned_by_what_is_not_linear(name: str) -> None:
    assert reward_of(name, crossed_table()) > 0.95


@pytest.mark.parametrize("name", ["linear", "factorisation"])
def test_crossed_clusters_are_not_learned_by_what_is_linear(name: str) -> None:
    assert reward_of(name, crossed_table()) < 0.7


def test_responses_that_reveal_failures_are_read_by_the_cascade_alone() -> None:
    table, alpha = revealing_table(), 0.5
    oracle = reward_of("oracle", table, alpha, allow_stop=True)
    cascade = reward_of("cascade", table, alpha, allow_stop=True)
    assert cascade > oracle - 0.08
    others = [baseline for baseline in registered_baselines() if baseline.question_only]
    rewards = [reward(table, choice, alpha) for one in others for choice in one.policies(table, "test", alpha, True).values()]
    assert len(rewards) >= 6
    assert max(rewards) < cascade - 0.05


def test_vanilla_ppo_learns_the_best_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sb3_ppo, "TIMESTEPS", 4096)
    table = path_table(np.full(60, 2))
    (choice,) = sb3_ppo.BASELINE.policies(table, "test", 0.0, False).values()
    np.testing.assert_array_equal(choice, np.full(12, best_fixed_path(table, table.rows("test"), 0.0)))
