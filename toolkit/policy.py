"""A trained router as a file: SB3's own zip with the resolved suite beside it, and what it decides on a table."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from toolkit.env import Observer
from toolkit.errors import PolicyError
from toolkit.table import Floats, Ints, TransitionTable

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

    def probabilities(self, table: TransitionTable, rows: Ints) -> Floats:
        """Return the action probabilities at every decision node of some rows, `(rows, D, M)`; they sum to 1 in float64.

        Raises:
            PolicyError: The policy was trained on a pool, a horizon or an encoder of another shape.
        """
        observer = Observer(table)
        if self.algorithm.observation_space != observer.space or self.card["models"] != list(table.models):
            raise PolicyError(
                f"The policy of run {self.card['run']} was trained for the pool {', '.join(self.card['models'])} over "
                f"{self.card['horizon']} hops; this suite routes between {', '.join(table.models)} over {table.horizon}. "
                "Train a router for this suite: toolkit train SUITE"
            )
        nodes = np.arange(table.n_decision_nodes)
        result = np.empty((len(rows), len(nodes), table.n_models))
        policy = self.algorithm.policy
        with torch.inference_mode():
            for start in range(0, len(rows), 1024):
                part = rows[start : start + 1024]
                seen = observer(np.repeat(part, len(nodes)), np.tile(nodes, len(part)))
                logits = policy.get_distribution(policy.obs_to_tensor(seen)[0]).distribution.logits  # type: ignore[operator]
                exact = torch.softmax(logits.double(), -1).cpu().numpy()
                result[start : start + len(part)] = exact.reshape(len(part), len(nodes), -1)
        return result

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
        return Router(PPO.load(path, device="cpu"), card)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise PolicyError(f"{path} is not a policy that toolkit train wrote ({error}).") from None
