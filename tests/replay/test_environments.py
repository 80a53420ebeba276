from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check

from tests.toy import make_table, with_missing
from toolkit.core import tree
from toolkit.core.errors import TrainingError
from toolkit.replay.environments import RoutingEnv, RoutingVecEnv
from toolkit.replay.table import TransitionTable
from toolkit.store import Cache


def random_table(n_models: int, horizon: int, rows: int, seed: int) -> TransitionTable:
    rng = np.random.default_rng(seed)
    shape = (rows, tree.n_nodes(n_models, horizon))
    quality, cost = rng.random(shape), rng.random(shape)
    quality[:, 0] = cost[:, 0] = 0
    return make_table(quality, cost, horizon, [f"m{n}" for n in range(n_models)])


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # both checkers advise on bounds of the observation space
def test_the_environment_checkers_pass(table: TransitionTable) -> None:
    gymnasium_check(RoutingEnv(table), skip_render_check=True)
    sb3_check(RoutingEnv(table))
    gymnasium_check(RoutingEnv(table, allow_stop=True), skip_render_check=True)
    sb3_check(RoutingEnv(table, alphas=(0.0, 0.5)))


def test_the_registered_environment_loads_a_cache(cache: Cache) -> None:
    env = gym.make("toolkit/Routing-v0", cache=str(cache.path), suite="scripted", alpha=0.1)
    observation, info = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    assert info["row"] in env.unwrapped.rows  # type: ignore[attr-defined]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.3, 5.0]),
    st.booleans(),
    st.sampled_from([(), (0.3,), (0.0, 0.7, 2.0)]),
    st.booleans(),
)
def test_the_vectorised_environment_equals_the_plain_one_step_by_step(
    n_models: int,
    horizon: int,
    rows: int,
    n_envs: int,
    seed: int,
    alpha: float,
    allow_stop: bool,
    alphas: tuple[float, ...],
    missing: bool,
) -> None:
    table = random_table(n_models, horizon, rows, seed)
    if missing:
        table = with_missing(table, seed)
    vec = RoutingVecEnv(table, n_envs, alpha, seed=seed, allow_stop=allow_stop, alphas=alphas)
    plain = [RoutingEnv(table, alpha, allow_stop=allow_stop, alphas=alphas) for _ in range(n_envs)]
    rng = np.random.default_rng(seed)
    observations = np.asarray(vec.reset())
    assert set(vec.episode_alphas) <= set(alphas or (alpha,))
    for n, (env, observation) in enumerate(zip(plain, observations, strict=True)):
        np.testing.assert_array_equal(env.reset(options={"row": vec.row[n], "alpha": vec.episode_alphas[n]})[0], observation)
    for _ in range(3 * horizon):
        masks = vec.action_masks()
        np.testing.assert_array_equal(masks, [env.action_masks() for env in plain])
        np.testing.assert_array_equal(masks, vec.env_method("action_masks"))
        actions = (rng.random(masks.shape) * masks).argmax(1)
        observed, rewards, dones, infos = vec.step(actions)
        assert len(infos) == n_envs
        for n, env in enumerate(plain):
            expected, reward, terminated, truncated, _ = env.step(actions[n])
            assert rewards[n] == np.float32(reward)
            assert dones[n] == terminated
            assert not truncated
            if terminated:
                expected = env.reset(options={"row": vec.row[n], "alpha": vec.episode_alphas[n]})[0]
            np.testing.assert_array_equal(np.asarray(observed)[n], expected)


def test_returns_by_hand() -> None:
    quality = np.array([[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    costs = np.array([[0, 1, 2, 3, 4, 5, 6.0]])
    env = RoutingEnv(make_table(quality, costs, 2, ["a", "b"]), alpha=0.1)
    first, _ = env.reset()
    assert first[1:].tolist() == [1, 0, 0, 0, 0]  # after the embedding: hop one-hot, path one-hot, cost so far
    second, reward, terminated, _, _ = env.step(1)
    assert (round(reward, 12), terminated) == (-0.2, False)
    assert second[1:].tolist() == [0, 1, 0, 1, 2]
    _, reward, terminated, _, _ = env.step(0)  # node 2 * 2 + 1 = 5
    assert (round(reward, 12), terminated) == (round(0.5 - 0.5, 12), True)


def test_an_episode_s_alpha_is_observed_and_is_the_price_of_its_cost() -> None:
    quality = np.array([[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    costs = np.array([[0, 1, 2, 3, 4, 5, 6.0]])
    env = RoutingEnv(make_table(quality, costs, 2, ["a", "b"]), alphas=(0.25, 0.5))
    sampled_alphas = set()
    for seed in range(20):
        first, _ = env.reset(seed=seed)
        alpha = float(first[-1])
        sampled_alphas.add(alpha)
        assert first[1:-1].tolist() == [1, 0, 0, 0, 0]
        assert env.step(1)[1] == -2 * alpha
        last, reward, *_ = env.step(0)
        assert reward == 0.5 - 5 * alpha
        assert last[-1] == 0  # nothing is observed past the last hop
    assert sampled_alphas == {0.25, 0.5}
    vec = RoutingVecEnv(make_table(np.tile(quality, (9, 1)), np.tile(costs, (9, 1)), 2, ["a", "b"]), 9, alphas=(0.25, 0.5))
    vec.set_options([{"alpha": 0.125}] * 9)
    assert (np.asarray(vec.reset())[:, -1] == 0.125).all()


def test_stopping_costs_nothing_and_yields_the_current_response() -> None:
    quality = np.array([[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    costs = np.array([[0, 1, 2, 3, 4, 5, 6.0]])
    env = RoutingEnv(make_table(quality, costs, 2, ["a", "b"]), alpha=0.1, allow_stop=True)
    env.reset()
    assert env.step(2)[1:3] == (0.0, True)  # at the root: no response, no cost
    env.reset()
    env.step(1)
    assert env.step(2)[1:3] == (0.2, True)


def test_unknown_actions_and_steps_after_the_end_are_refused() -> None:
    env = RoutingEnv(random_table(2, 1, 2, 0))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset()
    for action in (-1, 2):
        with pytest.raises(gym.error.InvalidAction):
            env.step(action)
    assert env.step(1)[2]
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**31), st.booleans(), st.data())
def test_episodes_lead_through_available_nodes_alone_and_other_actions_are_refused(
    n_models: int, horizon: int, seed: int, allow_stop: bool, data: st.DataObject
) -> None:
    table = with_missing(random_table(n_models, horizon, 2, seed), seed)
    assert table.available is not None
    env = RoutingEnv(table, allow_stop=allow_stop)
    env.action_space.seed(seed)
    observation, info = env.reset(seed=seed)
    path: tree.Path = ()
    while True:
        responds = [bool(table.available[info["row"], tree.node_of((*path, n), n_models)]) for n in range(n_models)]
        assert env.action_masks().tolist() == [*responds, *([True] * allow_stop)]
        assert info["action_mask"].tolist() == env.action_masks().tolist()
        layout = env.observer.layout
        assert observation[layout.features : layout.size].tolist() == responds
        for action in (n for n in range(n_models) if not responds[n]):
            with pytest.raises(gym.error.InvalidAction, match=f"m{action} has no response"):
                env.step(action)
        action = int(env.action_space.sample(info["action_mask"]))
        observation, _, terminated, _, info = env.step(action)
        path = path if action == n_models else (*path, action)
        if terminated:
            break
    assert table.available[info["row"], tree.node_of(path, n_models)]
    assert not env.action_masks().any()


def test_an_unavailable_action_ends_the_training_with_a_remedy() -> None:
    table = make_table(np.zeros((2, 7)), np.zeros((2, 7)), 2, ["a", "b"], questions=("first?", "second?"))
    available = np.array([[True, True, True, True, True, True, True], [True, True, False, False, True, False, False]])
    vec = RoutingVecEnv(replace(table, available=available), 2)
    vec.set_options([{"row": 0}, {"row": 1}])
    vec.reset()
    vec.step(np.array([1, 0]))
    with pytest.raises(TrainingError, match=r"chose a where .* at hop 1 of the question 'second\?'.*--missing drop-question"):
        vec.step(np.array([0, 0]))


def test_a_complete_table_adds_nothing_to_an_observation() -> None:
    table = random_table(3, 2, 2, 0)
    size = RoutingEnv(table).observer.size
    assert size == 2 + (2 + 3) + 1  # embedding, hop and path, cost
    assert RoutingEnv(with_missing(table, 0)).observer.size == size + 3
    assert RoutingVecEnv(table, 2).action_masks().all()


def test_every_question_is_replayed_equally_often() -> None:
    vec = RoutingVecEnv(random_table(2, 1, 6, 0), 4, seed=3)
    vec.reset()
    rows = list(vec.row)
    for _ in range(5):
        vec.step(np.zeros(4, int))
        rows += list(vec.row)
    assert np.bincount(rows).tolist() == [4] * 6


def test_every_benchmark_is_replayed_equally_often() -> None:
    table = replace(random_table(2, 1, 8, 0), benchmark=np.array([0, 0, 0, 0, 0, 0, 1, 1]), benchmarks=("large", "small"))
    vec = RoutingVecEnv(table, 12, seed=3)
    vec.reset()
    rows = list(vec.row)
    for _ in range(5):
        vec.step(np.zeros(12, int))
        rows += list(vec.row)
    assert np.bincount(rows).tolist() == [6] * 6 + [18] * 2
    env = RoutingEnv(table)
    drawn = [env.reset(seed=n)[1]["benchmark"] for n in range(400)]
    assert 150 < drawn.count("small") < 250


def test_the_newest_response_is_observed(table: TransitionTable) -> None:
    env = RoutingEnv(table)
    dimensions = table.vectors.shape[1]
    root, info = env.reset(seed=0)
    assert not root[dimensions : 2 * dimensions].any()
    after, *_ = env.step(0)
    text = table.texts[info["row"], 1, 1]
    np.testing.assert_array_equal(after[dimensions : 2 * dimensions], table.vectors[text])
    np.testing.assert_array_equal(after[:dimensions], root[:dimensions])


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="test split has no question"):
        RoutingEnv(random_table(2, 1, 2, 0), split="test")


@pytest.mark.parametrize("allow_stop", [False, True])
def test_info_says_question_path_quality_and_cost(table: TransitionTable, allow_stop: bool) -> None:
    env = RoutingEnv(table, alpha=0.3, split="test", allow_stop=allow_stop)
    for seed in range(5):
        _, info = env.reset(seed=seed)
        row = info["row"]
        assert info["question"] == table.questions[row]
        assert info["benchmark"] == table.benchmarks[table.benchmark[row]]
        assert (info["path"], info["quality"], info["cost"]) == ([], 0, 0)
        actions, total, terminated = [], 0.0, False
        while not terminated:
            action = int(env.action_space.sample(info["action_mask"]))
            _, reward, terminated, _, info = env.step(action)
            actions += [action] if action < table.n_models else []
            total += reward
            node = tree.node_of(tuple(actions), table.n_models)
            assert info["path"] == [table.models[action] for action in actions]
            assert info["quality"] == table.quality[row, node]
            assert info["cost"] == pytest.approx(table.cost[row, node])
        assert total == pytest.approx(info["quality"] - 0.3 * info["cost"])
