"""The action probabilities of a policy at every decision node of a table, without an episode."""

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from toolkit.replay.observations import Observer
from toolkit.replay.table import Floats, Ints
from toolkit.routing.dense import Dense, tree_segments
from toolkit.routing.networks import CHUNK_ROWS, node_features, node_groups


def action_probabilities(algorithm: BaseAlgorithm, observer: Observer, rows: Ints, alpha: float) -> Floats:
    """Return the probability of every action at every decision node, `(rows, D, actions)`; they sum to 1 in float64.

    A policy without probabilities, such as DQN's, takes its greedy action with probability 1.

    Args:
        algorithm: The algorithm with its policy.
        observer: What the policy observes of the table.
        rows: Rows of the table.
        alpha: The alpha that a conditioned policy observes.
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
    if not isinstance(policy, ActorCriticPolicy):
        actions, _ = algorithm.predict(observer.all_nodes(rows, alpha), deterministic=True)
        greedy: Floats = np.eye(int(algorithm.action_space.n))[actions]  # type: ignore[attr-defined]
        return greedy
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
    probabilities: Floats = torch.softmax(logits.double(), -1).cpu().numpy()
    return probabilities
