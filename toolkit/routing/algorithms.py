"""Learning algorithms by name: those that are registered, any of stable-baselines3, or a class path.

To add an algorithm, write its stable-baselines3 class and one `Algorithm` in a file of their own, and declare the latter as an
entry point of the group `toolkit.algorithms`. Its arguments are then the table `[train.NAME]` of a suite file.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from toolkit.core.errors import SuiteError
from toolkit.core.registry import ALGORITHMS
from toolkit.replay.table import TransitionTable
from toolkit.suites.config import TrainConfig

SB3 = "sb3"
"""Name of the table `[train.sb3]`, which holds the arguments of every algorithm that is not registered."""


def actor_and_critic(hidden: Sequence[int]) -> Any:
    """Return the `net_arch` of a policy whose actor and critic have the same hidden layers, but not the same weights."""
    return {"pi": list(hidden), "vf": list(hidden)}


@dataclass(frozen=True)
class Algorithm:
    """A learning algorithm for routers.

    Attributes:
        name: Name of its table of arguments, `[train.NAME]`, and of its log.
        model: Its class, in the style of stable-baselines3.
        help: What it is, in a few words.
        defaults: Arguments that apply if a suite does not give them.
        conditioned_defaults: Arguments that apply in place of `defaults` to a policy that observes alpha.
        table_defaults: Returns further such arguments, which depend on the table.
        net_arch: Turns hidden layers into the `net_arch` of `policy_kwargs`.
        uses_timesteps: Whether `[train] timesteps` limits a run; otherwise its own arguments do.
    """

    name: str
    model: type[BaseAlgorithm]
    help: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    conditioned_defaults: Mapping[str, Any] | None = None
    table_defaults: Callable[[TransitionTable], Mapping[str, Any]] = lambda _: {}
    net_arch: Callable[[Sequence[int]], Any] = actor_and_critic
    uses_timesteps: bool = True

    def defaults_for(self, config: TrainConfig) -> dict[str, Any]:
        """Return the arguments that apply if a suite does not give them, without those that depend on the table."""
        if config.alphas and self.conditioned_defaults is not None:
            return dict(self.conditioned_defaults)
        return dict(self.defaults)

    def arguments(self, table: TransitionTable, config: TrainConfig) -> dict[str, Any]:
        """Return all arguments of a run on a table: the defaults, then the suite's."""
        return {**self.table_defaults(table), **self.defaults_for(config), **getattr(config, self.name, {})}


def find_algorithm(name: str) -> Algorithm:
    """Return an algorithm.

    Args:
        name: `ppo`, `exact`, another registered name, a name of stable-baselines3 such as `DQN`, or a class path such as
            `sb3_contrib.TRPO`.

    Raises:
        SuiteError: There is no such algorithm.
    """
    if name in ALGORITHMS:
        registered: Algorithm = ALGORITHMS[name]
        return registered
    module, _, attribute = name.rpartition(".")
    try:
        model = getattr(importlib.import_module(module or "stable_baselines3"), attribute)
    except (ImportError, AttributeError, ValueError):
        model = None
    if not (isinstance(model, type) and issubclass(model, BaseAlgorithm)):
        raise SuiteError(
            f"There is no algorithm {name!r}. Use {', '.join(sorted(ALGORITHMS))}, the name of one in stable_baselines3 "
            "(A2C, DQN ...) or the path of an installed class (package.module.Class)."
        )
    return Algorithm(SB3, model, net_arch=actor_and_critic if issubclass(model, OnPolicyAlgorithm) else list)
