"""A trained router as a file: SB3's own zip with the resolved suite beside it, and what it decides on a table."""

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
from toolkit.replay.environments import Observer
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.dense import Dense
from toolkit.routing.networks import CHUNK, of_nodes
from toolkit.routing.registry import algorithm_class

CARD = "toolkit.json"


@dataclass(frozen=True)
class Router:
    """A trained policy and the card that says what it was trained on.

    Attributes:
        algorithm: The SB3 algorithm, with its policy.
        card: Run, suite as resolved (key, name, config, models, cost unit, encoder), alpha, seed, settings, versions.
    """

    algorithm: BaseAlgorithm
    card: dict[str, Any]

    @property
    def conditioned(self) -> bool:
        """Whether the policy observes alpha, and so serves others than the one it is recorded with."""
        return bool(self.card.get("settings", {}).get("alphas"))

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float | None = None) -> Floats:
        """Return the action probabilities at every decision node of some rows, `(rows, D, actions)`; they sum to 1 in float64.

        A policy without probabilities (DQN's) takes its greedy action. With stopping, the last action is to stop. A conditioned
        policy decides at `alpha`, the run's own where it is None.

        Raises:
            PolicyError: The policy was trained on a pool, a horizon or an encoder of another shape.
        """
        observer = Observer(table, told=self.conditioned)
        if alpha is None:
            alpha = float(self.card.get("alpha", 0.0))
        if self.algorithm.observation_space != observer.space or self.card["models"] != list(table.models):
            raise PolicyError(
                f"The policy of run {self.card['run']} was trained for the pool {', '.join(self.card['models'])} over "
                f"{self.card['horizon']} hops; this suite routes between {', '.join(table.models)} over {table.horizon}. "
                "Train a router for this suite: toolkit train SUITE"
            )
        result = np.empty((len(rows), table.n_decision_nodes, int(self.algorithm.action_space.n)))  # type: ignore[attr-defined]
        with torch.inference_mode():
            for start in range(0, len(rows), CHUNK):
                part = slice(start, start + CHUNK)
                result[part] = self._decide(observer, rows[part], alpha, result.shape[-1])
        return result

    def _decide(self, observer: Observer, rows: Ints, alpha: float, actions: int) -> Floats:
        policy = self.algorithm.policy
        if not isinstance(policy, ActorCriticPolicy):
            seen = observer.everywhere(rows, alpha)
            chosen: Floats = np.eye(actions)[self.algorithm.predict(seen, deterministic=True)[0]]
            return chosen.reshape(len(rows), -1, actions)
        features = of_nodes(policy.pi_features_extractor, observer, rows, alpha, policy.device)
        flat = features.flatten(0, 1)
        try:
            logits = Dense.actor(policy).forward(flat)
        except ValueError:
            logits = policy.action_net(policy.mlp_extractor.forward_actor(flat))
        exact: Floats = torch.softmax(logits.double(), -1).cpu().numpy().reshape(*features.shape[:2], actions)
        return exact

    def save(self, path: Path) -> None:
        """Write the policy file, whole or not at all."""
        draft = path.with_name(f".{path.name}")
        self.algorithm.save(draft)
        with zipfile.ZipFile(draft, "a") as archive:
            archive.writestr(CARD, json.dumps(self.card, indent=1, default=str))
        draft.replace(path)


def load_router(path: Path) -> Router:
    """Read a policy file.

    Raises:
        PolicyError: There is no such file, or it is not one that `toolkit train` wrote.
    """
    if not path.is_file():
        raise PolicyError(f"There is no policy file {path}. Train one with: toolkit train SUITE")
    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read(CARD))
        return Router(algorithm_class(card["algorithm"]).load(path, device="cpu"), card)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise PolicyError(f"{path} is not a policy that toolkit train wrote ({error}).") from None
