from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from tests.scripted import suite_config
from tests.toy import known_table, make_table
from toolkit.core import tree
from toolkit.core.errors import IncompleteCacheError, SuiteError
from toolkit.core.files import content_sha256
from toolkit.replay.environments import RoutingVecEnv
from toolkit.replay.exact import node_outcome, oracle, outcome, path_shares
from toolkit.replay.table import TransitionTable
from toolkit.routing.router import Router, load_router
from toolkit.routing.router_file import ROUTER_FILE
from toolkit.routing.train import ProgressCallback, fit_router, run_name, train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.resolving import reread
from toolkit.suites.suite import Suite


def router(model: BaseAlgorithm, table: TransitionTable, alpha: float, alphas: Sequence[float] = ()) -> Router:
    card = {"run": "test", "models": list(table.models), "horizon": table.horizon, "alpha": alpha, "algorithm": "ppo"}
    suite = {"suite": "toy", "suite_key": str(UUID(int=1))}
    return Router(model, card | suite | {"settings": {"alphas": list(alphas)}})


def test_ppo_reaches_the_known_optimum() -> None:
    table, alpha = known_table(), 0.01
    rows = table.rows("train")
    model = fit_router(table, TrainConfig(alpha=alpha, timesteps=60_000, ppo={"ent_coef": 0.001}), seed=0)
    learned = outcome(table, rows, path_shares(table, router(model, table, alpha).probabilities(table, rows))).reward(alpha)
    best = node_outcome(table, rows, oracle(table, rows, alpha)).reward(alpha)
    assert learned.mean() >= 0.99 * best.mean()


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, "dear"), (100.0, "cheap")])
def test_cost_alone_decides_at_a_huge_alpha_and_not_at_all_at_0(alpha: float, expected: str) -> None:
    quality = np.tile([0, 0.2, 0.9, *[0.2, 0.9] * 2], (4, 1))
    cost = np.tile([0, 1, 2, *[1, 2] * 2], (4, 1)).astype(float)
    table = make_table(quality, cost, 2, ["cheap", "dear"])
    rows = table.rows("train")
    model = fit_router(table, TrainConfig(alpha=alpha, timesteps=40_000), seed=1)
    shares = path_shares(table, router(model, table, alpha).probabilities(table, rows)).mean(0)
    last = {0: "cheap", 1: "dear"}[int(shares.argmax()) % 2]
    assert last == expected
    assert shares.reshape(2, 2)[:, int(shares.argmax()) % 2].sum() > 0.9


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(algorithm="exact", exact={"dropout": 0.0, "n_epochs": 200}),
        TrainConfig(timesteps=40_000, n_envs=64),
        TrainConfig(timesteps=40_000, n_envs=64, projection=0, net_arch=()),
    ],
    ids=["exact", "ppo", "ppo, linear on whole embeddings"],
)
def test_a_conditioned_policy_depends_on_the_alpha_it_observes(config: TrainConfig, tmp_path: Path) -> None:
    """Only quality matters at alpha 0 and only cost at a huge alpha; between two knots one of them outweighs the other."""
    quality = np.tile([0, 0.2, 0.9, *[0.2, 0.9] * 2], (4, 1))
    cost = np.tile([0, 1, 2, *[1, 2] * 2], (4, 1)).astype(float)
    table = make_table(quality, cost, 2, ["cheap", "dear"])
    model = fit_router(table, config.changed({"alphas": (0.0, 0.2, 3.0)}), 0)
    card = router(model, table, 0.0, (0.0, 0.2, 3.0)).card | {"algorithm": config.algorithm, "terms": []}
    Router(model, card).save(tmp_path / ROUTER_FILE)
    loaded = load_router(tmp_path / ROUTER_FILE)
    rows = table.rows("train")
    for alpha, expected in ((0.0, "dear"), (0.2, "dear"), (3.0, "cheap"), (50.0, "cheap")):
        shares = path_shares(table, loaded.probabilities(table, rows, alpha)).mean(0)
        assert table.path_name(3 + int(shares.argmax())).endswith(expected), (alpha, shares)
        assert shares.reshape(2, 2)[:, int(expected == "dear")].sum() > 0.6
    np.testing.assert_array_equal(loaded.probabilities(table, rows), loaded.probabilities(table, rows, 0.0))
    observations = RoutingVecEnv(table, 4, alphas=(3.0,)).reset()
    assert (loaded.algorithm.predict(np.asarray(observations), deterministic=True)[0] == 0).all()


def exclusive_table() -> TransitionTable:
    """Make a table whose questions have two properties: the first says which model is right at first, and their XOR at last."""
    quality, vectors = np.zeros((16, 7)), np.zeros((16, 16), np.float32)
    for row in range(16):
        first, second = row % 2, row // 2 % 2
        quality[row, tree.node_of((first, first ^ second), 2)] = 1
        vectors[row, [first, 2 + second]] = 1
    return make_table(quality, np.zeros((16, 7)), 2, ["first", "second"], vectors)


@pytest.mark.parametrize("algorithm", ["exact", "ppo"])
@pytest.mark.parametrize("alphas", [(), (0.0, 0.1)], ids=["one alpha", "conditioned"])
@pytest.mark.parametrize("projection", [0, 3])
def test_a_linear_policy_of_each_node_learns_what_one_for_all_nodes_cannot(
    algorithm: str, alphas: tuple[float, ...], projection: int
) -> None:
    table = exclusive_table()
    rows = table.rows("train")
    settings = {"exact": {"dropout": 0.0, "learning_rate": 0.1, "weight_decay": 0.0}, "ppo": {"learning_rate": 0.03}}
    config = TrainConfig(
        algorithm=algorithm, alpha=0.0, alphas=alphas, projection=projection, net_arch=(), timesteps=20_000, n_envs=64
    ).changed({algorithm: settings[algorithm]})
    for first_layer, low, high in (("shared", 0.4, 0.8), ("hop", 0.4, 0.8), ("node", 0.95, 1)):
        learned = router(fit_router(table, config.changed({"first_layer": first_layer}), 0), table, 0.0, alphas)
        shares = path_shares(table, learned.probabilities(table, rows, 0.0))
        assert low < outcome(table, rows, shares).quality.mean() <= high


def test_the_same_seed_gives_the_same_policy_and_another_another() -> None:
    table = known_table()
    config = TrainConfig(timesteps=2_000)
    policy, same_seed, other_seed = (
        router(fit_router(table, config, seed), table, 0.05).probabilities(table, table.rows("train")) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(policy, same_seed)
    assert not np.array_equal(policy, other_seed)


def test_the_same_seed_gives_the_same_weights_with_any_number_of_threads(table: TransitionTable) -> None:
    config = TrainConfig(timesteps=500)
    threads = torch.get_num_threads()
    try:
        weights = []
        for number in (1, 2):
            torch.set_num_threads(number)
            weights.append(fit_router(table, config, 3).policy.state_dict())
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


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
    with pytest.raises(IncompleteCacheError, match=r"(?s)5 of 144 nodes .* toolkit generate scripted --cache"):
        train(suite, cache, TrainConfig(), 0, tmp_path)
    assert cache.arrow("FROM runs").num_rows == 0


def test_a_changed_suite_has_to_be_generated_first(suite: Suite) -> None:
    with pytest.raises(SuiteError, match="horizon"):
        reread(suite, suite_config(horizon=3))


def learned_reward(table: TransitionTable, model: BaseAlgorithm, alpha: float) -> float:
    rows = table.rows("train")
    shares = path_shares(table, router(model, table, alpha).probabilities(table, rows))
    return float(outcome(table, rows, shares).reward(alpha).mean())


@pytest.mark.parametrize("allow_stop", [False, True])
def test_the_exact_learner_reaches_the_known_optimum(allow_stop: bool) -> None:
    table, alpha = known_table(), 0.01
    rows = table.rows("train")
    config = TrainConfig(
        algorithm="exact",
        alpha=alpha,
        allow_stop=allow_stop,
        exact={"n_epochs": 400, "batch_size": 4, "ent_coef": 0.001, "ent_epochs": 200, "dropout": 0.0},
    )
    model = fit_router(table, config, seed=0)
    best = node_outcome(table, rows, oracle(table, rows, alpha, allow_stop)).reward(alpha)
    assert learned_reward(table, model, alpha) >= 0.99 * best.mean()


@pytest.mark.parametrize("algorithm", ["ppo", "exact"])
def test_a_router_that_may_stop_abstains_if_every_response_costs_too_much(algorithm: str) -> None:
    table = known_table()
    config = TrainConfig(algorithm=algorithm, alpha=5.0, allow_stop=True, timesteps=60_000, exact={"n_epochs": 200})
    model = fit_router(table, config, seed=0)
    shares = path_shares(table, router(model, table, 5.0).probabilities(table, table.rows("train")))
    assert shares[:, 0].min() > 0.95


def test_a_held_out_benchmark_is_not_trained_on_and_is_the_whole_test_split(table: TransitionTable) -> None:
    held_out = table.hold_out("addition")
    addition = table.benchmarks.index("addition")
    assert addition not in held_out.benchmark[held_out.rows("train")]
    assert addition not in held_out.benchmark[held_out.rows("validation")]
    assert set(held_out.rows("test")) == set(np.flatnonzero(table.benchmark == addition))
    assert set(held_out.rows("train")) <= set(table.rows("train"))
    with pytest.raises(SuiteError, match="no benchmark 'additon'"):
        table.hold_out("additon")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (TrainConfig(), "suite-ppo-alpha0.05-seed3-908c8e1d"),
        (TrainConfig(algorithm="exact", alpha=0.1, exact={"n_epochs": 3}), "suite-exact-alpha0.1-seed3-95520b03"),
        (TrainConfig(algorithm="exact", alphas=(0.0, 0.1)), "suite-exact-2alphas-seed3-ff44f72a"),
        (TrainConfig(alphas=(0.0, 0.1)), "suite-ppo-2alphas-seed3-c59ebc1f"),
        (TrainConfig(algorithm="stable_baselines3.ppo.PPO"), "suite-ppo-alpha0.05-seed3-8b92b6f2"),
    ],
)
def test_the_names_of_runs_stay_as_they_were(
    config: TrainConfig, name: str, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed name would train every recorded run anew."""
    versions = {"hierrouter-toolkit": "0.1.0", "torch": "2.6.0"}
    monkeypatch.setattr("toolkit.routing.train.versions", lambda: versions)
    monkeypatch.setattr(Suite, "key", UUID(int=1))
    monkeypatch.setattr(Suite, "name", "suite")
    assert run_name(suite, config, 3) == name


@pytest.mark.parametrize(
    ("config", "total"),
    [(TrainConfig(timesteps=2_000), 2_000), (TrainConfig(algorithm="exact", exact={"n_epochs": 4}), 4 * 12 * 4)],
    ids=["ppo", "exact"],
)
def test_progress_is_reported_with_the_total_of_the_algorithm(config: TrainConfig, total: int) -> None:
    reports: list[tuple[int, int]] = []
    model = fit_router(known_table(), config, 0, callback=ProgressCallback(lambda *steps: reports.append(steps)))
    assert {planned for _, planned in reports} == {total}
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1][0] == model.num_timesteps
