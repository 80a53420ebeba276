"""A trained router: its action probabilities on a table; how it is saved and loaded."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from toolkit.core import tree
from toolkit.core.errors import PolicyError, ToolkitError
from toolkit.core.files import atomic_path
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.replay.observations import Observer
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.algorithms import POLICY, Algorithm, find_algorithm, is_known_policy, known_algorithm
from toolkit.routing.architecture import check_storable, rebuild
from toolkit.routing.decide import action_probabilities
from toolkit.routing.guard import along_path
from toolkit.routing.route import Pool, Route, run
from toolkit.routing.router_file import (
    CARD_MEMBER,
    OLD_FILE,
    ROUTER_FILE,
    ZIP_FILE,
    UntrustedError,
    check_age,
    check_file,
    is_zip,
    not_finite,
    read_router,
    read_zip_card,
    unusable,
    write_router,
)
from toolkit.routing.texts import Context, Decision, Response, decide
from toolkit.suites.config import SuiteConfig
from toolkit.suites.loading import recorded_config
from toolkit.suites.suite import Suite


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

    @property
    def fixed_path(self) -> tuple[int, ...] | None:
        """The path that is taken instead of the policy's decisions on every question that has it; None if there is none."""
        names, models = self.card.get("fixed_path"), list(self.card["models"])
        return None if names is None else tuple(models.index(name) for name in names)

    @classmethod
    def load(cls, path: Path | str, trust: bool = False) -> "Router":
        """Read a router from its file, or from the folder of its run.

        Args:
            path: The file or folder.
            trust: Whether code of whoever wrote the file may run: needed for zips of stable-baselines3, which hold pickles, and
                for algorithms that are neither registered nor stable-baselines3's own, whose classes are imported.

        Raises:
            PolicyError: There is no such file, or `toolkit train` did not write it.
            UntrustedError: It can only be opened with `trust`.
        """
        return load_router(path, trust)

    @cached_property
    def config(self) -> SuiteConfig:
        """The suite that the router was trained on, as it was then."""
        return recorded_config(json.dumps(self.card["config"]))

    @cached_property
    def _encode(self) -> Encode:
        suite = Suite(config=self.config, models=(), questions=(), encoder=self.card["encoder"])
        return SuiteEncoder(suite, Workspace.usual())

    def decide(
        self,
        question: str,
        responses: Sequence[Response | tuple[str, str] | tuple[str, str, float]] = (),
        *,
        alpha: float | None = None,
        encode: Encode | None = None,
    ) -> Decision:
        """Decide from texts alone: return the most probable action, and the probability of each.

        Args:
            question: The question, as the models get it.
            responses: The responses so far, oldest first: model, text, and cost of the hop in cost units.
            alpha: The alpha that a conditioned policy observes; None for its run's.
            encode: Embeds texts; default: the encoder of the suite, loaded when the first text is embedded.

        Raises:
            PolicyError: A response is of no model of the pool, or the last hop is over.
            CheckpointError: The encoder is not available.
        """
        context = Context(question, tuple(Response(*response) for response in responses))
        [decision] = decide(self, [context], self.config, encode or self._encode, alpha)
        return decision

    def run(self, question: str, pool: Pool, alpha: float | None = None) -> Route:
        """Route a question: decide hop by hop, while the models of a pool respond (`toolkit.live.LivePool`).

        Args:
            question: The question, as the models get it.
            pool: The models.
            alpha: The alpha that a conditioned policy observes; None for its run's.

        Raises:
            ToolkitError: The router does not fit the pool, or a model does not respond.
        """
        [route] = run(self, [question], pool, alpha)
        if isinstance(route, Exception):
            raise route
        return route

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float | None = None) -> Floats:
        """Return the action probabilities at every decision node of some rows, `(rows, D, actions)`; they sum to 1 in float64.

        A policy without probabilities, such as DQN's, takes its greedy action with probability 1. With stopping, the last
        action is to stop. Models that are not available have probability 0.

        Args:
            table: The table.
            rows: The rows.
            alpha: The alpha that a conditioned policy observes; None for its run's.

        Raises:
            PolicyError: The policy was trained for another pool or horizon, or on embeddings of another size, or it takes a
                model that is not available and has no probabilities of others.
        """
        self.check_table(table)
        if self.fixed_path is None:
            return self._policy_probabilities(table, rows, alpha)
        n_actions = int(self.algorithm.action_space.n)  # type: ignore[attr-defined]
        probabilities = np.tile(along_path(table, self.fixed_path, n_actions), (len(rows), 1, 1))
        if table.available is not None:
            without = ~table.available[rows, tree.node_of(self.fixed_path, table.n_models)]
            probabilities[without] = self._policy_probabilities(table, rows[without], alpha)
        return probabilities

    def _policy_probabilities(self, table: TransitionTable, rows: Ints, alpha: float | None) -> Floats:
        """Return the policy's own probabilities, as `probabilities` does."""
        if alpha is None:
            alpha = float(self.card.get("alpha", 0.0))
        try:
            probabilities = action_probabilities(self.algorithm, self.observer(table), rows, alpha)
        except (RuntimeError, IndexError, ValueError) as error:
            raise self._misfit(f"its parts do not fit the observations of this suite ({error})") from error
        if not np.isfinite(probabilities).all():
            raise self._misfit("its weights are so large that its probabilities are not numbers")
        return probabilities

    def observer(self, table: TransitionTable) -> Observer:
        """Return what the router observes of a table: the same terms as in training, whatever the table's own are.

        A router that was trained where responses are missing observes which models may be chosen: all, in a complete table.
        """
        blind, masked = bool(self.card.get("settings", {}).get("blind")), bool(self.card.get("masked"))
        terms, response_terms = (self.card.get(name, ()) for name in ("terms", "response_terms"))
        return Observer(table, terms, blind, self.conditioned, masked, response_terms)

    def check_table(self, table: TransitionTable) -> None:
        """Check that the router decides between a table's models, from what the table lets it observe.

        Raises:
            PolicyError: It was trained for another pool or horizon, or on embeddings of another size.
        """
        self.check_pool(table.models, table.horizon)
        space = self.observer(table).space
        n_actions = int(self.algorithm.action_space.n)  # type: ignore[attr-defined]
        if self.algorithm.observation_space != space or n_actions - table.n_models not in (0, 1):
            raise self._misfit(
                f"it decides between {n_actions} actions and observes {self.algorithm.observation_space.shape} numbers; this "
                f"suite has {table.n_models} models and {space.shape} numbers. Was the router trained with another encoder?"
            )

    def check_pool(self, models: Sequence[str], horizon: int) -> None:
        """Check that the router decides between these models over this number of hops.

        Raises:
            PolicyError: It was trained for another pool or horizon.
        """
        if (list(self.card["models"]), self.card["horizon"]) != (list(models), horizon):
            raise self._misfit(
                f"it was trained for the pool {', '.join(self.card['models'])} over {self.card['horizon']} hops; this suite "
                f"routes between {', '.join(models)} over {horizon}"
            )

    def _misfit(self, reason: str) -> PolicyError:
        return PolicyError(
            f"The router {printable(self.card['run'])} cannot be used here: {printable(reason)}. Train one for this suite: "
            f"toolkit train {printable(str(self.card.get('suite', 'SUITE')))}"
        )

    def save(self, path: Path) -> None:
        """Write the router's file, whole or not at all: the policy's weights and the card. Optimizer state is not kept.

        Raises:
            PolicyError: The policy has parts that are more than data, or weights that are not finite.
        """
        policy = self.algorithm.policy
        weights = policy.state_dict()
        if bad := not_finite(weights):
            raise PolicyError(f"The policy cannot be saved: its tensor {bad!r} holds values that are not finite numbers.")
        try:
            architecture = check_storable(
                self.algorithm,
                find_algorithm(self.card["algorithm"]),
                self._arguments,
                self.card["settings"].get("policy", POLICY),
            )
        except ValueError as error:
            raise PolicyError(
                f"The policy of {type(self.algorithm).__name__} cannot be saved as data: {error}. Keep it as a zip of "
                "stable-baselines3 (router.save_sb3(path)), which only those who trust you can open."
            ) from error
        card = self.card | {"architecture": architecture.model_dump(mode="json")}
        with atomic_path(path) as draft:
            write_router(draft, weights, card)

    def save_sb3(self, path: Path) -> None:
        """Write a zip that stable-baselines3 can load (`PPO.load(path)`), with the card added. It holds pickles."""
        with atomic_path(path) as draft:
            self.algorithm.save(draft)
            with zipfile.ZipFile(draft, "a") as archive:
                archive.writestr(CARD_MEMBER, json.dumps(self.card, indent=1, default=str))

    @property
    def _arguments(self) -> dict[str, Any]:
        return arguments_of(self.card, find_algorithm(self.card["algorithm"]))


def arguments_of(card: Mapping[str, Any], algorithm: Algorithm) -> dict[str, Any]:
    """Return the arguments that an algorithm was trained with, according to a card."""
    arguments = card["settings"].get(algorithm.name, {})
    if not isinstance(arguments, Mapping):
        raise ValueError(f"its card has no table of arguments at settings.{algorithm.name}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()}


def load_router(path: Path | str, trust: bool = False) -> Router:
    """Read a router from its file, or from the folder of its run.

    Args:
        path: The file or folder.
        trust: Whether code of whoever wrote the file may run: needed for zips of stable-baselines3, which hold pickles, and for
            algorithms that are neither registered nor stable-baselines3's own, whose classes are imported.

    Raises:
        PolicyError: There is no such file, or `toolkit train` did not write it.
        UntrustedError: It can only be opened with `trust`.
    """
    file = router_path(Path(path))
    check_file(file)
    if is_zip(file):
        return _load_zip(file, trust)
    weights, card, checked = read_router(file)
    check_age(file, card)
    algorithm = _algorithm(file, checked.algorithm, trust)
    if not trust and not is_known_policy(checked.architecture.policy):
        raise UntrustedError(
            file, f"has a policy of the class {printable(checked.architecture.policy)!r}, which would be imported"
        )
    try:
        return Router(rebuild(checked.architecture, algorithm, arguments_of(card, algorithm), weights), card)
    except ValueError as error:
        raise unusable(file, error) from error


def router_path(path: Path) -> Path:
    """Return the file of a router, given that file or the folder of a run."""
    files = [path / name for name in (ROUTER_FILE, OLD_FILE, ZIP_FILE)] if path.is_dir() else []
    return next((file for file in files if file.is_file()), path)


def _algorithm(file: Path, name: str, trust: bool) -> Algorithm:
    algorithm = find_algorithm(name) if trust else known_algorithm(name)
    if algorithm is None:
        raise UntrustedError(
            file,
            f"was trained by {printable(name)!r}, which is neither registered nor an algorithm of stable-baselines3, so that "
            "class would be imported",
        )
    return algorithm


def _load_zip(file: Path, trust: bool) -> Router:
    card = read_zip_card(file)
    check_age(file, card)
    if not trust:
        raise UntrustedError(
            file, "is a zip of stable-baselines3: it holds pickles, and opening it runs whatever code its writer put there"
        )
    try:
        return Router(_algorithm(file, card["algorithm"], trust).model.load(file, device="cpu"), card)
    except ToolkitError:
        raise
    except Exception as error:
        raise unusable(file, f"{type(error).__name__}: {error}") from error
