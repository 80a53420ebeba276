"""The action probabilities of a policy at every decision node of a table, without an episode."""

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import DQNPolicy

from toolkit.core.errors import PolicyError
from toolkit.replay.observations import Observations, Observer
from toolkit.replay.table import Floats, Ints
from toolkit.routing.dense import Dense, tree_segments
from toolkit.routing.masked_policy import mask_logits
from toolkit.routing.networks import CHUNK_ROWS, node_features, node_groups


def action_probabilities(algorithm: BaseAlgorithm, observer: Observer, rows: Ints, alpha: float) -> Floats:
    """Return the probability of every action at every decision node, `(rows, D, actions)`; they sum to 1 in float64.

    A policy without probabilities, such as DQN's, takes its greedy action with probability 1. Models that are not available
    have probability 0, whether the policy observes that or not.

    Args:
        algorithm: The algorithm with its policy.
        observer: What the policy observes of the table.
        rows: Rows of the table.
        alpha: The alpha that a conditioned policy observes.

    Raises:
        PolicyError: The policy takes a model that is not available, and does not say what else it would take.
    """
    n_actions = int(algorithm.action_space.n)  # type: ignore[attr-defined]
    probabilities = np.empty((len(rows), observer.table.n_decision_nodes, n_actions))
    with torch.inference_mode():
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            decided = _decide(algorithm, observer, rows[chunk], alpha)  # (D * rows, actions)
            probabilities[chunk] = decided.reshape(-1, len(rows[chunk]), n_actions).swapaxes(0, 1)
    return probabilities


def _decide(algorithm: BaseAlgorithm, observer: Observer, rows: Ints, alpha: float) -> Floats:
    """Return the probabilities at all nodes of a few rows, the first node on all rows first, `(D * rows, actions)`."""
    policy = algorithm.policy
    allowed = None
    if observer.table.available is not None:
        allowed = observer.table.allowed[rows].swapaxes(0, 1).reshape(-1, observer.table.n_models)
    if not isinstance(policy, ActorCriticPolicy):
        return _greedy(algorithm, observer.all_nodes(rows, alpha), allowed, observer.table.mask_remedy)
    extractor = policy.pi_features_extractor
    logits: torch.Tensor
    try:
        actor = Dense.actor(policy)
    except ValueError:
        observations = torch.from_numpy(observer.all_nodes(rows, alpha)).to(policy.device)
        distribution = policy.get_distribution(observations).distribution
        assert isinstance(distribution, torch.distributions.Categorical)
        logits = distribution.logits
    else:
        features = node_features(extractor, observer, rows, alpha, policy.device)
        logits = actor.forward(features.flatten(0, 1), tree_segments(node_groups(extractor, observer), len(rows)))
    if allowed is not None:
        logits = mask_logits(logits, torch.from_numpy(allowed).to(logits.device))
    probabilities: Floats = torch.softmax(logits.double(), -1).cpu().numpy()
    return probabilities


def _greedy(algorithm: BaseAlgorithm, observations: Observations, allowed: npt.NDArray[np.bool_] | None, remedy: str) -> Floats:
    """Return the greedy actions of a policy without probabilities, one-hot, `(n, actions)`.

    Args:
        algorithm: The algorithm with its policy.
        observations: What it observes, `(n, features)`.
        allowed: Which models may be chosen, `(n, M)`; None for all.
        remedy: What helps if it takes one that may not, for the message.

    Raises:
        PolicyError: It takes a model that is not available.
    """
    n_actions = int(algorithm.action_space.n)  # type: ignore[attr-defined]
    policy = algorithm.policy
    if allowed is None:
        actions, _ = algorithm.predict(observations, deterministic=True)
    elif isinstance(policy, DQNPolicy):
        values = policy.q_net(torch.from_numpy(observations).to(policy.device))
        actions = mask_logits(values, torch.from_numpy(allowed).to(policy.device)).argmax(-1).cpu().numpy()
    else:
        masks = np.pad(allowed, ((0, 0), (0, n_actions - allowed.shape[1])), constant_values=True)
        honours = "action_masks" in inspect.signature(algorithm.predict).parameters
        arguments: dict[str, Any] = {"action_masks": masks} if honours else {}
        actions, _ = algorithm.predict(observations, deterministic=True, **arguments)
        if unavailable := int((~masks[np.arange(len(actions)), actions]).sum()):
            raise PolicyError(
                f"The policy of {type(algorithm).__name__} takes models that are not available at {unavailable} of "
                f"{len(actions)} nodes, and has no probabilities of others. Train with ppo or exact, or {remedy}."
            )
    greedy: Floats = np.eye(n_actions)[actions]
    return greedy
