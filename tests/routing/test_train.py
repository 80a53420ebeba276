from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer

from tests.scripted import suite_config
from tests.synthetic import synthetic_table
from tests.toy import make_table
from toolkit.core import tree
from toolkit.core.errors import IncompleteCacheError, PolicyError, SuiteError
from toolkit.core.hashing import content_sha256
from toolkit.replay.environments import Observer, RoutingVecEnv
from toolkit.replay.exact import node_outcome, oracle, outcome, path_shares
from toolkit.replay.table import TransitionTable
from toolkit.routing.exact_gradient import ExactGradient, _Data
from toolkit.routing.networks import Conditioned, PerHop, of_nodes
from toolkit.routing.ppo import ReplayPPO
from toolkit.routing.router import Router, load_router
from toolkit.routing.train import fit_router, train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite, reread


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


def router(model: BaseAlgorithm, table: TransitionTable, alpha: float, alphas: Sequence[float] = ()) -> Router:
    card = {"run": "test", "models": list(table.models), "horizon": table.horizon, "alpha": alpha}
    return Router(model, card | {"settings": {"alphas": list(alphas)}})


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


@pytest.mark.parametrize("extracts", [True, False], ids=["replayed by index", "as SB3 does"])
def test_the_entropy_bonus_of_ppo_falls_to_the_one_named(
    extracts: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worth: list[float] = []
    kind, name = (ReplayPPO, "_update") if extracts else (PPO, "train")
    update = getattr(kind, name)

    def noted(self: ReplayPPO, *features: torch.Tensor) -> None:
        worth.append(self.ent_coef)
        update(self, *features)

    monkeypatch.setattr(kind, name, noted)
    if not extracts:
        monkeypatch.setattr(ReplayPPO, "_extract", lambda self: None)
    config = TrainConfig(timesteps=4_000, n_envs=100, ppo={"ent_coef": 0.01, "ent_start": 0.5, "n_steps": 4, "batch_size": 100})
    model = fit_router(known_table(), config, 0)
    np.testing.assert_allclose(worth, 0.01 + 0.49 * (1 - np.arange(1, 11) / 10))
    model.save(tmp_path / "policy.zip")
    loaded = ReplayPPO.load(tmp_path / "policy.zip")
    assert (loaded.ent_coef, loaded.ent_start) == (0.01, 0.5)


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(algorithm="exact", exact={"dropout": 0.0, "n_epochs": 200}),
        TrainConfig(timesteps=40_000, n_envs=64),
        TrainConfig(timesteps=40_000, n_envs=64, projection=0, net_arch=()),
    ],
    ids=["exact", "ppo", "ppo, linear on whole embeddings"],
)
def test_a_conditioned_policy_goes_by_the_alpha_that_it_is_told(config: TrainConfig, tmp_path: Path) -> None:
    """Quality alone decides at alpha 0, cost alone at a huge one, and between two knots one outweighs the other."""
    quality = np.tile([0, 0.2, 0.9, *[0.2, 0.9] * 2], (4, 1))
    cost = np.tile([0, 1, 2, *[1, 2] * 2], (4, 1)).astype(float)
    table = make_table(quality, cost, 2, ["cheap", "dear"])
    model = fit_router(table, config.changed({"alphas": (0.0, 0.2, 3.0)}), 0)
    card = router(model, table, 0.0, (0.0, 0.2, 3.0)).card | {"algorithm": config.algorithm}
    Router(model, card).save(tmp_path / "policy.zip")
    loaded = load_router(tmp_path / "policy.zip")
    rows = table.rows("train")
    for alpha, expected in ((0.0, "dear"), (0.2, "dear"), (3.0, "cheap"), (50.0, "cheap")):
        shares = path_shares(table, loaded.probabilities(table, rows, alpha)).mean(0)
        assert table.path_name(3 + int(shares.argmax())).endswith(expected), (alpha, shares)
        assert shares.reshape(2, 2)[:, int(expected == "dear")].sum() > 0.6
    np.testing.assert_array_equal(loaded.probabilities(table, rows), loaded.probabilities(table, rows, 0.0))
    seen = RoutingVecEnv(table, 4, alphas=(3.0,)).reset()
    assert (loaded.algorithm.predict(np.asarray(seen), deterministic=True)[0] == 0).all()


def test_features_are_interpolated_between_knots() -> None:
    space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    conditioned = Conditioned(space, [0.0, 1.0, 3.0])
    alphas = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0, 3.0, 9.0])
    seen = torch.cat([torch.tensor([[5.0, 7.0]]).expand(7, 2), alphas[:, None]], 1)
    nearness = torch.tensor([[1, 0, 0], [1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1], [0, 0, 1]])
    expected = (nearness[:, :, None] * torch.tensor([5.0, 7.0])).flatten(1)
    torch.testing.assert_close(conditioned(seen), expected)
    torch.testing.assert_close(conditioned.at(seen[:, None, :2], alphas), expected[:, None])
    torch.testing.assert_close(Conditioned(space, [0.5])(seen), seen[:, :2])


def test_features_are_repeated_for_each_hop_and_only_those_of_the_hop_are_not_zero() -> None:
    space = spaces.Box(-np.inf, np.inf, (5,), np.float32)
    seen = torch.tensor([[5.0, 7.0, 1.0, 0.0, 0.5], [5.0, 7.0, 0.0, 1.0, 0.5]])
    none = torch.zeros(5)
    expected = torch.stack([torch.cat([seen[0], none]), torch.cat([none, seen[1]])])
    torch.testing.assert_close(PerHop(space, 2)(seen), expected)


@pytest.mark.parametrize("projection", [0, 3])
@pytest.mark.parametrize("per_hop", [False, True])
@pytest.mark.parametrize("alphas", [(), (0.0, 0.2)], ids=["one alpha", "conditioned"])
@pytest.mark.parametrize("parts", [1, 2], ids=["whole context", "question and answer"])
def test_features_of_all_nodes_are_those_of_their_observations(
    projection: int, per_hop: bool, alphas: tuple[float, ...], parts: int
) -> None:
    whole = synthetic_table(90, dimensions=8)
    table = replace(whole, texts=np.ascontiguousarray(whole.texts[:, :, 2 - parts :]))
    config = TrainConfig(algorithm="exact", projection=projection, per_hop=per_hop, alphas=alphas, exact={"n_epochs": 1})
    learner = fit_router(table, config, 0)
    assert isinstance(learner, ExactGradient)
    extractor, observer = learner.policy.pi_features_extractor, Observer(table, told=bool(alphas))
    rows, nodes = np.array([3, 0, 80, 41]), np.arange(table.n_decision_nodes)
    seen = observer(np.repeat(rows, len(nodes)), np.tile(nodes, len(rows)), 0.1)
    expected = extractor(torch.from_numpy(seen)).view(len(rows), len(nodes), -1)
    torch.testing.assert_close(of_nodes(extractor, observer, rows, 0.1), expected, atol=1e-5, rtol=1e-5)


def swapped_table() -> TransitionTable:
    """Every other question needs the two models in the other order, which the question alone tells."""
    quality = np.zeros((8, 7))
    quality[::2, tree.node_of((0, 1), 2)] = quality[1::2, tree.node_of((1, 0), 2)] = 1
    return make_table(quality, np.zeros((8, 7)), 2, ["first", "second"], np.tile(np.eye(2, 16, dtype=np.float32), (4, 1)))


@pytest.mark.parametrize("algorithm", ["exact", "ppo"])
@pytest.mark.parametrize("alphas", [(), (0.0, 0.1)], ids=["one alpha", "conditioned"])
@pytest.mark.parametrize("projection", [0, 2])
def test_a_linear_policy_of_each_hop_learns_an_order_that_one_for_all_hops_cannot(
    algorithm: str, alphas: tuple[float, ...], projection: int
) -> None:
    table = swapped_table()
    rows = table.rows("train")
    settings = {"exact": {"dropout": 0.0, "learning_rate": 0.1, "weight_decay": 0.0}, "ppo": {"learning_rate": 0.03}}
    config = TrainConfig(
        algorithm=algorithm, alpha=0.0, alphas=alphas, projection=projection, net_arch=(), timesteps=20_000, n_envs=64
    ).changed({algorithm: settings[algorithm]})
    for per_hop, low, high in ((False, 0.4, 0.6), (True, 0.95, 1)):
        learned = router(fit_router(table, config.changed({"per_hop": per_hop}), 0), table, 0.0, alphas)
        shares = path_shares(table, learned.probabilities(table, rows, 0.0))
        assert low < outcome(table, rows, shares).quality.mean() <= high


def test_every_knot_of_a_conditioned_policy_learns_from_as_many_questions() -> None:
    alphas = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 2.0, 5.0, 9.0)
    table = known_table()
    learner = fit_router(table, TrainConfig(algorithm="exact", alphas=alphas, exact={"n_epochs": 1}), 0)
    assert isinstance(learner, ExactGradient)
    data = _Data(learner, table.rows("train"))
    assert data.conditioned
    knots = data.conditioned.knots.tolist()
    drawn = data.prices(12_000).tolist()
    assert set(drawn) == {float(np.float32(alpha)) for alpha in alphas}
    # an alpha at a share s between two knots is drawn (1 - s) times for the one and s times for the other, of so many for each
    near = [data.conditioned.nearness(torch.tensor(prices)) for prices in (alphas, drawn)]
    expected = (near[0] / near[0].sum(0)).sum(1) / len(knots)
    counted = [drawn.count(float(np.float32(alpha))) / len(drawn) for alpha in alphas]
    np.testing.assert_allclose(counted, expected, atol=2 / 12_000)
    assert near[0].sum(0).min() < 0.7 * near[0].sum(0).max()
    assert near[1].sum(0).min() > 0.7 * near[1].sum(0).max()


def test_the_same_seed_gives_the_same_policy_and_another_another() -> None:
    table = known_table()
    config = TrainConfig(timesteps=2_000)
    first, again, other = (
        router(fit_router(table, config, seed), table, 0.05).probabilities(table, table.rows("train")) for seed in (3, 3, 4)
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
        fit_router(known_table(), TrainConfig(ppo={"lerning_rate": 1}), 0)


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
def test_a_router_that_may_stop_abstains_where_every_answer_costs_too_much(algorithm: str) -> None:
    table = known_table()
    config = TrainConfig(algorithm=algorithm, alpha=5.0, allow_stop=True, timesteps=60_000, exact={"n_epochs": 200})
    model = fit_router(table, config, seed=0)
    shares = path_shares(table, router(model, table, 5.0).probabilities(table, table.rows("train")))
    assert shares[:, 0].min() > 0.95


@pytest.mark.parametrize("algorithm", ["DQN", "A2C", "stable_baselines3.ppo.PPO"])
def test_any_algorithm_of_stable_baselines3_trains_saves_and_decides(
    algorithm: str, cache: Cache, suite: Suite, tmp_path: Path, table: TransitionTable
) -> None:
    given: dict[str, int] = {"learning_starts": 100} if algorithm == "DQN" else {}
    config = TrainConfig(algorithm=algorithm, timesteps=600, n_envs=8, sb3=given)
    trained = train(suite, cache, config, 0, tmp_path)
    probabilities = load_router(trained.path).probabilities(table, table.rows("test"))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-12)
    assert cache.arrow("SELECT algorithm FROM runs").to_pylist() == [{"algorithm": algorithm}]


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(SuiteError, match=r"no algorithm 'PPPO'.*ppo, exact"):
        fit_router(known_table(), TrainConfig(algorithm="PPPO"), 0)


def test_a_held_out_benchmark_is_not_trained_on_and_is_all_that_is_tested(table: TransitionTable) -> None:
    held = table.hold_out("addition")
    addition = table.benchmarks.index("addition")
    assert addition not in held.benchmark[held.rows("train")]
    assert addition not in held.benchmark[held.rows("validation")]
    assert set(held.rows("test")) == set(np.flatnonzero(table.benchmark == addition))
    assert set(held.rows("train")) <= set(table.rows("train"))
    with pytest.raises(SuiteError, match="no benchmark 'additon'"):
        table.hold_out("additon")


def test_ppo_over_indices_is_stable_baselines3_s_own_ppo(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one rollout, both make the same update of the same network."""
    table = known_table()
    config = TrainConfig(timesteps=64, n_envs=16, ppo={"n_steps": 4, "n_epochs": 3, "batch_size": 64, "learning_rate": 1e-2})
    ours = fit_router(table, config, 0)
    theirs = fit_router(table, TrainConfig(**config.model_dump()), 0)
    assert isinstance(ours, ReplayPPO)
    assert isinstance(theirs, ReplayPPO)
    theirs.set_parameters(copy.deepcopy(ours.get_parameters()))  # type: ignore[arg-type]  # SB3 declares less than it takes
    _, callback = ours._setup_learn(64, None)
    ours.collect_rollouts(RoutingVecEnv(table, 16), callback, ours.rollout_buffer, 4)
    replayed = ours._replayed
    raw = RoutingVecEnv(table, 16).observer(*np.divmod(replayed.indices.numpy(), table.n_decision_nodes))
    buffer = theirs.rollout_buffer
    buffer.reset()
    shape = (4, 16)
    buffer.observations = raw.reshape(*shape, -1)
    buffer.actions = replayed.actions.numpy().reshape(*shape, 1)
    for name in ("values", "log_probs", "advantages", "returns"):
        setattr(buffer, name, getattr(replayed, name).numpy().reshape(shape))
    buffer.full = True
    rewards, dones = (t.numpy().reshape(shape) for t in (replayed.rewards, replayed.dones))
    last = torch.zeros(16)  # an episode is 2 hops and the rollout 4: nothing is bootstrapped
    check = RolloutBuffer(4, theirs.observation_space, theirs.action_space, "cpu", theirs.gae_lambda, theirs.gamma, 16)
    check.rewards, check.values = rewards, buffer.values
    check.episode_starts = np.concatenate([np.ones((1, 16)), dones[:-1]]).astype(np.float32)
    check.compute_returns_and_advantage(last, dones[-1])
    np.testing.assert_allclose(buffer.advantages, check.advantages, atol=1e-6)
    torch.manual_seed(0)
    ours.train()
    theirs._features = None  # off the table, it is SB3's own
    monkeypatch.setattr(np.random, "permutation", lambda n: torch.randperm(n).numpy())
    torch.manual_seed(0)
    theirs.train()
    for left, right in zip(ours.policy.parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)
    for name in ("policy_gradient_loss", "value_loss", "entropy_loss", "clip_fraction", "explained_variance"):
        logged = (model.logger.name_to_value[f"train/{name}"] for model in (ours, theirs))
        assert next(logged) == pytest.approx(next(logged), abs=1e-5), name
