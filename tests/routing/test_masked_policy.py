"""Learners and policies on tables with missing responses: no model is chosen, learned from or counted where it has none."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from tests.replay.test_exact import all_paths, make, path_reward
from tests.synthetic import synthetic_table
from tests.toy import known_table, make_table, with_missing
from toolkit.core import tree
from toolkit.core.errors import PolicyError, SuiteError, TrainingError
from toolkit.replay.environments import RoutingVecEnv
from toolkit.replay.exact import ends, node_outcome, oracle, outcome, path_shares
from toolkit.replay.observations import Observer
from toolkit.replay.table import Floats, TransitionTable
from toolkit.routing.decide import action_probabilities
from toolkit.routing.exact_gradient import back_up
from toolkit.routing.masked_policy import MaskedPolicy, mask_logits
from toolkit.routing.networks import features_kwargs
from toolkit.routing.policies import chosen
from toolkit.routing.ppo import ReplayPPO
from toolkit.routing.router import Router, load_router
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig

LEARNERS: dict[str, TrainConfig] = {
    "exact": TrainConfig(algorithm="exact", exact={"n_epochs": 3}),
    "ppo": TrainConfig(algorithm="ppo", timesteps=2_000, n_envs=50),
    "A2C": TrainConfig(algorithm="A2C", timesteps=2_000, n_envs=50),
}


def unavailable(table: TransitionTable, row: int, node: int) -> list[int]:
    """Return the models without a response at a decision node; none at a node that nothing reaches."""
    assert table.available is not None
    children = table.available[row, node * table.n_models + 1 :][: table.n_models]
    return np.flatnonzero(~children).tolist() if children.any() else []


def router(model: object, table: TransitionTable, config: TrainConfig) -> Router:
    card = {
        "run": "run",
        "algorithm": config.algorithm,
        "alpha": config.alpha,
        "suite": "masked",
        "suite_key": "6a1f3b62-1a0f-4f59-9d39-000000000000",
        "models": list(table.models),
        "horizon": table.horizon,
        "settings": config.model_dump(mode="json"),
        "masked": table.available is not None,
        "terms": [],
    }
    return Router(model, card)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n_models", "horizon"), list(product(range(1, 4), range(1, 4))))
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32), allow_stop=st.booleans(), ent_coef=st.sampled_from([0.0, 0.1]))
def test_the_exact_gradient_is_that_of_the_available_paths(
    n_models: int, horizon: int, seed: int, allow_stop: bool, ent_coef: float
) -> None:
    table, alpha = with_missing(make(n_models, horizon, 2, seed), seed), 0.3
    shape = (2, table.n_decision_nodes, n_models + allow_stop)
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).requires_grad_()
    at = ends(table, allow_stop)
    rewards = torch.from_numpy(table.quality[:, at] - alpha * table.cost[:, at])
    masked = mask_logits(logits.detach(), torch.from_numpy(table.allowed))
    value, gradient = back_up(rewards, masked, n_models, horizon, ent_coef)
    expected = torch.stack([enumerated(table, row, logits[row], alpha, ent_coef, allow_stop) for row in range(2)])
    torch.testing.assert_close(value, expected)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), logits, allow_unused=True)
    torch.testing.assert_close(gradient, expected_gradient)


def enumerated(
    table: TransitionTable, row: int, logits: torch.Tensor, alpha: float, ent_coef: float, allow_stop: bool
) -> torch.Tensor:
    """Sum over the available paths of a row: the probability of each times its reward and the entropy bonuses along it."""
    total = logits.sum() * 0
    for path in all_paths(table, allow_stop, row):
        share, bonus = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for depth in range(min(len(path) + 1, table.horizon)):
            node = tree.node_of(path[:depth], table.n_models)
            actions = [n for n in range(logits.shape[1]) if n not in unavailable(table, row, node)]
            probabilities = torch.softmax(logits[node, actions], 0)
            share = share * probabilities[actions.index([*path, table.n_models][depth])]
            bonus = bonus - ent_coef * (probabilities * probabilities.log()).sum()
        total = total + share * (path_reward(table, row, path, alpha) + bonus)
    return total


@pytest.mark.parametrize("alphas", [(), (0.0, 0.2)], ids=["one alpha", "conditioned"])
@pytest.mark.parametrize("allow_stop", [False, True])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_trained_router_never_takes_a_model_without_a_response(
    name: str, allow_stop: bool, alphas: tuple[float, ...], tmp_path: Path
) -> None:
    table = with_missing(synthetic_table(120, 3, 2, dimensions=8), 1)
    config = LEARNERS[name].changed({"alpha": 0.05, "allow_stop": allow_stop, "alphas": alphas})
    model = fit_router(table, config, 0)
    assert isinstance(model.policy, MaskedPolicy)
    rows, learned = np.arange(120), router(model, table, config)
    probabilities = learned.probabilities(table, rows, 0.05)
    for row, node in product(rows.tolist(), range(table.n_decision_nodes)):
        assert not probabilities[row, node, unavailable(table, row, node)].any()
    np.testing.assert_allclose(probabilities.sum(-1), 1)
    _check_predictions(learned, table, probabilities)
    learned.save(tmp_path / "router.safetensors")
    loaded = load_router(tmp_path / "router.safetensors")
    assert isinstance(loaded.algorithm.policy, MaskedPolicy)
    np.testing.assert_array_equal(loaded.probabilities(table, rows, 0.05), probabilities)


def _check_predictions(learned: Router, table: TransitionTable, probabilities: Floats) -> None:
    """Check that the policy itself, from observations alone, takes and samples what the probabilities say."""
    policy = learned.algorithm.policy
    assert isinstance(policy, MaskedPolicy)
    rows = np.arange(len(table.split))
    observations = learned.observer(table).all_nodes(rows, 0.05)
    expected = probabilities.swapaxes(0, 1).reshape(len(observations), -1)
    distribution = policy.get_distribution(torch.from_numpy(observations)).distribution
    assert isinstance(distribution, torch.distributions.Categorical)
    np.testing.assert_allclose(distribution.probs.detach().numpy(), expected, atol=1e-5)
    taken, _ = learned.algorithm.predict(observations, deterministic=True)
    np.testing.assert_allclose(expected[np.arange(len(expected)), taken], expected.max(1), atol=1e-5)
    with torch.no_grad():
        sampled, values, log_probabilities = policy(torch.from_numpy(observations))
        again = policy.evaluate_actions(torch.from_numpy(observations), sampled)
    assert (expected[np.arange(len(expected)), sampled.numpy()] > 0).all()
    torch.testing.assert_close(again[:2], (values, log_probabilities))
    entropy = [-sum(p * np.log(p) for p in row if p > 0) for row in expected]
    np.testing.assert_allclose(again[2].numpy(), entropy, atol=1e-4)  # type: ignore[union-attr]


def test_ppo_over_indices_decides_like_the_policy_in_a_rollout() -> None:
    table = with_missing(known_table(), 2)
    config = TrainConfig(timesteps=64, n_envs=16, ppo={"n_steps": 4, "batch_size": 64})
    learner = fit_router(table, config, 0)
    assert isinstance(learner, ReplayPPO)
    _, callback = learner._setup_learn(64, None)
    env = RoutingVecEnv(table, 16)
    assert learner.collect_rollouts(env, callback, learner.rollout_buffer, 4)
    rollout = learner._rollout
    nodes, rows = np.divmod(rollout.indices.numpy(), len(table.split))
    for row, node, action in zip(rows.tolist(), nodes.tolist(), rollout.actions.tolist(), strict=True):
        assert action not in unavailable(table, row, node)
    observations = torch.from_numpy(env.observer(rows, nodes))
    with torch.no_grad():
        values, log_probabilities, _ = learner.policy.evaluate_actions(observations, rollout.actions)
    torch.testing.assert_close(rollout.log_probs, log_probabilities, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rollout.values, values.flatten(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["exact", "ppo"])
def test_the_best_available_paths_are_learned(name: str) -> None:
    table = with_missing(known_table(), 3, share=0.3)
    config = TrainConfig(algorithm=name, timesteps=20_000, n_envs=100, alpha=0.01, exact={"n_epochs": 400}, patience=400)
    probabilities = router(fit_router(table, config, 0), table, config).probabilities(table, np.arange(12))
    greedy = np.eye(3)[probabilities.argmax(-1)]
    rewards = outcome(table, np.arange(12), path_shares(table, greedy)).reward(0.01)
    best = node_outcome(table, np.arange(12), oracle(table, np.arange(12), 0.01)).reward(0.01)
    assert rewards.mean() >= best.mean() - 0.05


def test_a_router_of_one_kind_of_table_decides_on_the_other() -> None:
    complete = synthetic_table(120, 3, 2, dimensions=8)
    missing, rows = with_missing(complete, 1), np.arange(120)
    assert missing.available is not None
    for trained_on, other in ((complete, missing), (missing, complete)):
        config = LEARNERS["exact"]
        learned = router(fit_router(trained_on, config, 0), trained_on, config)
        whole, masked = (learned.probabilities(table, rows) for table in (complete, missing))
        allowed = whole * missing.allowed
        reached = missing.available[:, : missing.n_decision_nodes]
        np.testing.assert_allclose(masked[reached], (allowed / allowed.sum(-1, keepdims=True))[reached], atol=1e-6)
        assert learned.observer(other).size == learned.observer(trained_on).size


def test_what_is_missing_is_no_feature() -> None:
    """A policy must not depend on it, because all models are there when it routes new questions."""
    table = with_missing(synthetic_table(60, 3, 2, dimensions=8), 1)
    model = fit_router(table, LEARNERS["exact"], 0)
    observer = Observer(table)
    layout, observations = observer.layout, torch.from_numpy(observer.all_nodes(np.arange(60)))
    other = observations.clone()
    other[:, layout.features : layout.size] = 1
    assert isinstance(model.policy, MaskedPolicy)
    extractor = model.policy.pi_features_extractor
    torch.testing.assert_close(extractor(observations), extractor(other))


def test_an_algorithm_that_would_choose_among_all_models_is_refused() -> None:
    table = with_missing(known_table(), 0)
    with pytest.raises(SuiteError, match=r"DQN chooses among all models.*Train with ppo or exact"):
        fit_router(table, TrainConfig(algorithm="DQN", timesteps=500, n_envs=4), 0)


def test_dqn_of_a_complete_table_takes_the_best_available_action() -> None:
    complete = known_table()
    config = TrainConfig(algorithm="DQN", timesteps=300, n_envs=4, sb3={"learning_starts": 100})
    model = fit_router(complete, config, 0)
    assert isinstance(model, DQN)
    table, rows = with_missing(complete, 0), np.arange(12)
    probabilities = action_probabilities(model, Observer(table, masked=False), rows, 0.0)
    with torch.no_grad():
        values = model.q_net(torch.from_numpy(Observer(complete).all_nodes(rows))).numpy().reshape(-1, 12, 3)
    for row, node in product(range(12), range(table.n_decision_nodes)):
        allowed = [n for n in range(3) if n not in unavailable(table, row, node)]
        assert probabilities[row, node].argmax() == max(allowed, key=lambda n: values[node, row, n])
        assert probabilities[row, node].sum() == 1


class Careless(ActorCriticPolicy):
    """A policy that does not look at what is available."""


def test_a_policy_that_does_not_look_at_what_is_available_ends_with_a_remedy() -> None:
    table = with_missing(known_table(), 0)
    config = TrainConfig(timesteps=2_000, n_envs=50, policy=f"{__name__}.Careless")
    with pytest.raises(TrainingError, match=r"chose \w+ where it has no response.*MaskedPolicy"):
        fit_router(table, config, 0)
    env = RoutingVecEnv(table, 4)
    arguments = {"policy_kwargs": features_kwargs(env.observer, 0, "shared")}
    PPO(MaskedPolicy, env, n_steps=8, batch_size=16, device="cpu", **arguments).learn(64)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not say which models may be chosen"):
        PPO(MaskedPolicy, env, n_steps=8, batch_size=16, device="cpu").learn(64)


def test_a_choice_of_a_path_without_responses_is_an_error_and_probabilities_are_shared() -> None:
    table = make_table(np.array([[0, 0.2, 0.4], [0, 0.6, 0.0]]), np.zeros((2, 3)), 1, ["a", "b"], questions=("one?", "two?"))
    table = replace(table, available=np.array([[True, True, True], [True, True, False]]))
    rows = np.arange(2)
    with pytest.raises(PolicyError, match=r"on 1 of 2 questions, e.g. b on 'two\?'.*--missing drop-question"):
        chosen(table, rows, np.array([2, 2]))
    np.testing.assert_array_equal(chosen(table, rows, 2).outcome.quality, [0.4, np.nan])  # a fixed choice is over its questions
    np.testing.assert_allclose(chosen(table, rows, np.full((2, 1, 2), 0.5)).outcome.quality, [0.3, 0.6])
