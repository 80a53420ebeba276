from itertools import product
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO

from tests.scripted import suite_config
from tests.toy import make_table
from toolkit import tree
from toolkit.config import TrainConfig
from toolkit.errors import IncompleteCacheError, PolicyError, SuiteError
from toolkit.exact import oracle_shares, outcome, path_shares
from toolkit.keys import content_sha256
from toolkit.policy import Router, load_router
from toolkit.store import Cache
from toolkit.suite import Suite, reread
from toolkit.table import TransitionTable
from toolkit.train import train, train_ppo


def known_table(rows: int = 12) -> TransitionTable:
    """Every question has one right model at each of two hops, told by its features, and each is worth half a point."""
    rng = np.random.default_rng(0)
    quality = np.zeros((rows, tree.n_nodes(3, 2)))
    for row in range(rows):
        for first, second in product(range(3), repeat=2):
            quality[row, tree.node_of((first, second), 3)] = 0.5 * (first == row % 3) + 0.5 * (second == row // 3 % 3)
    cost = np.tile([0, 1, 2, 3, *[1, 2, 3] * 3], (rows, 1)).astype(float)
    vectors = rng.normal(size=(rows, 16)).astype(np.float32)
    return make_table(quality, cost, 2, ["cheap", "middle", "dear"], vectors)


def router(model: PPO, table: TransitionTable, alpha: float) -> Router:
    return Router(model, {"run": "test", "models": list(table.models), "horizon": table.horizon, "alpha": alpha})


def test_ppo_reaches_the_known_optimum() -> None:
    table, alpha = known_table(), 0.01
    rows = table.rows("train")
    model = train_ppo(table, TrainConfig(alpha=alpha, timesteps=60_000, ppo={"ent_coef": 0.001}), seed=0)
    learned = outcome(table, rows, path_shares(table, router(model, table, alpha).probabilities(table, rows))).reward(alpha)
    best = outcome(table, rows, oracle_shares(table, rows, alpha)).reward(alpha)
    assert learned.mean() >= 0.99 * best.mean()


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, "dear"), (100.0, "cheap")])
def test_cost_alone_decides_at_a_huge_alpha_and_not_at_all_at_0(alpha: float, expected: str) -> None:
    quality = np.tile([0, 0.2, 0.9, *[0.2, 0.9] * 2], (4, 1))
    cost = np.tile([0, 1, 2, *[1, 2] * 2], (4, 1)).astype(float)
    table = make_table(quality, cost, 2, ["cheap", "dear"])
    rows = table.rows("train")
    model = train_ppo(table, TrainConfig(alpha=alpha, timesteps=40_000), seed=1)
    shares = path_shares(table, router(model, table, alpha).probabilities(table, rows)).mean(0)
    last = {0: "cheap", 1: "dear"}[int(shares.argmax()) % 2]
    assert last == expected
    assert shares.reshape(2, 2)[:, int(shares.argmax()) % 2].sum() > 0.9


def test_the_same_seed_gives_the_same_policy_and_another_another() -> None:
    table = known_table()
    config = TrainConfig(timesteps=2_000)
    first, again, other = (
        router(train_ppo(table, config, seed), table, 0.05).probabilities(table, table.rows("train")) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_run_is_recorded_saved_read_back_and_not_trained_twice(
    cache: Cache, suite: Suite, tmp_path: Path, table: TransitionTable
) -> None:
    config = TrainConfig(timesteps=2_000)
    trained = train(suite, cache, config, 0, tmp_path / "runs")
    assert not trained.cached
    row = cache.arrow("SELECT * FROM runs").to_pylist()[0]
    assert row["run"] == trained.run
    assert row["policy_sha256"] == content_sha256(trained.path)
    loaded = load_router(trained.path)
    assert loaded.card["config"]["name"] == suite.name
    assert loaded.card["cost_unit"] > 0
    assert {"torch", "stable-baselines3", "hierrouter-toolkit"} <= set(loaded.card["versions"])
    assert list((trained.path.parent / "tensorboard").rglob("events*"))
    again = train(suite, cache, config, 0, tmp_path / "runs")
    assert again.cached
    forced = train(suite, cache, config, 0, tmp_path / "runs", force=True)
    assert not forced.cached
    rows = table.rows("test")
    np.testing.assert_array_equal(load_router(forced.path).probabilities(table, rows), loaded.probabilities(table, rows))
    assert train(suite, cache, config, 1, tmp_path / "runs").run != trained.run


def test_an_incomplete_cache_is_refused_with_counts_and_the_command(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    with cache.write() as con:
        con.execute("DELETE FROM nodes WHERE depth = 2 AND node IN (SELECT node FROM nodes WHERE depth = 2 LIMIT 5)")
    with pytest.raises(IncompleteCacheError, match=r"5 of 144 nodes .* toolkit generate scripted --cache"):
        train(suite, cache, TrainConfig(), 0, tmp_path)
    assert cache.arrow("FROM runs").num_rows == 0


def test_a_policy_of_another_pool_is_refused(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    trained = train(suite, cache, TrainConfig(timesteps=500), 0, tmp_path)
    with pytest.raises(PolicyError, match="trained for the pool sums, words over 2 hops"):
        load_router(trained.path).probabilities(known_table(), np.arange(2))


@pytest.mark.parametrize("content", [None, b"junk"])
def test_a_file_that_is_no_policy_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "policy.zip"
    if content:
        path.write_bytes(content)
    with pytest.raises(PolicyError, match=r"policy\.zip"):
        load_router(path)


def test_a_wrong_argument_of_ppo_is_the_suite_s_mistake() -> None:
    with pytest.raises(SuiteError, match=r"train\.ppo"):
        train_ppo(known_table(), TrainConfig(ppo={"lerning_rate": 1}), 0)


def test_a_changed_suite_has_to_be_generated_first(suite: Suite) -> None:
    with pytest.raises(SuiteError, match="horizon"):
        reread(suite, suite_config(horizon=3))
