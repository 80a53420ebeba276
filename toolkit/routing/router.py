"""A trained router: its action probabilities on a table, and its file, which is SB3's zip with a card added."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from toolkit.core.errors import PolicyError
from toolkit.core.files import atomic_path
from toolkit.replay.observations import Observer
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.algorithms import find_algorithm
from toolkit.routing.dense import Dense
from toolkit.routing.networks import CHUNK_ROWS, node_features

CARD = "toolkit.json"
"""Name of the card within a policy file."""


@dataclass(frozen=True)
class Router:
    """A trained policy and its card.

    Attributes:
        algorithm: The SB3 algorithm, with its policy.
        card: What it was trained with: run, suite (key, name, config, models, cost unit, encoder), alpha, seed, settings, and
            versions.
    """

    algorithm: BaseAlgorithm
    card: dict[str, Any]

    @property
    def conditioned(self) -> bool:
        """Whether the policy observes alpha, so that it can route at others than its run's."""
        return bool(self.card.get("settings", {}).get("alphas"))

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float | None = None) -> Floats:
        """Return the action probabilities at every decision node of some rows, `(rows, D, actions)`; they sum to 1 in float64.

        A policy without probabilities, such as DQN's, takes its greedy action with probability 1. With stopping, the last
        action is to stop.

        Args:
            table: The table.
            rows: The rows.
            alpha: The alpha that a conditioned policy observes; None for its run's.

        Raises:
            PolicyError: The policy was trained for another pool or horizon, or on embeddings of another size.
        """
        observer = Observer(table, with_alpha=self.conditioned)
        if alpha is None:
            alpha = float(self.card.get("alpha", 0.0))
        if self.algorithm.observation_space != observer.space or self.card["models"] != list(table.models):
            raise PolicyError(
                f"The policy of run {self.card['run']} was trained for the pool {', '.join(self.card['models'])} over "
                f"{self.card['horizon']} hops; this suite routes between {', '.join(table.models)} over {table.horizon}. "
                "Train a router for this suite: toolkit train SUITE"
            )
        n_actions = int(self.algorithm.action_space.n)  # type: ignore[attr-defined]
        probabilities = np.empty((len(rows), table.n_decision_nodes, n_actions))
        with torch.inference_mode():
            for start in range(0, len(rows), CHUNK_ROWS):
                chunk = slice(start, start + CHUNK_ROWS)
                probabilities[chunk] = self._decide(observer, rows[chunk], alpha, n_actions)
        return probabilities

    def _decide(self, observer: Observer, rows: Ints, alpha: float, n_actions: int) -> Floats:
        policy = self.algorithm.policy
        if not isinstance(policy, ActorCriticPolicy):
            actions, _ = self.algorithm.predict(observer.all_nodes(rows, alpha), deterministic=True)
            greedy: Floats = np.eye(n_actions)[actions].reshape(len(rows), -1, n_actions)
            return greedy
        features = node_features(policy.pi_features_extractor, observer, rows, alpha, policy.device)
        flat = features.flatten(0, 1)
        try:
            logits = Dense.actor(policy).forward(flat)
        except ValueError:
            logits = policy.action_net(policy.mlp_extractor.forward_actor(flat))
        probabilities: Floats = torch.softmax(logits.double(), -1).cpu().numpy()
        return probabilities.reshape(*features.shape[:2], n_actions)

    def save(self, path: Path) -> None:
        """Write the policy file, whole or not at all."""
        with atomic_path(path) as draft:
            self.algorithm.save(draft)
            with zipfile.ZipFile(draft, "a") as archive:
                archive.writestr(CARD, json.dumps(self.card, indent=1, default=str))


def load_router(path: Path) -> Router:
    """Read a policy file.

    Raises:
        PolicyError: There is no such file, or `toolkit train` did not write it.
    """
    if not path.is_file():
        raise PolicyError(f"There is no policy file {path}. Train one with: toolkit train SUITE")
    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read(CARD))
        return Router(find_algorithm(card["algorithm"]).model.load(path, device="cpu"), card)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise PolicyError(f"{path} is not a policy that toolkit train wrote ({error}).") from None
