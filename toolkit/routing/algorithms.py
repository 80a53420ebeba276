"""Learning algorithms by name: those that are registered, those of stable-baselines3, or a class path.

To add an algorithm, write its stable-baselines3 class and one `Algorithm` in a file of their own, and declare the latter as an
entry point of the group `toolkit.algorithms`. Its arguments are then the table `[train.NAME]` of a suite file.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from toolkit.core.errors import SuiteError, did_you_mean
from toolkit.core.registry import ALGORITHMS
from toolkit.core.text import printable
from toolkit.replay.table import TransitionTable
from toolkit.routing.classes import described, import_class, is_reference
from toolkit.routing.masked_policy import masked_class
from toolkit.suites.config import STABLE_BASELINES, TrainConfig, canonical_algorithm

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
        table_defaults: Returns further such arguments, which depend on the table.
        net_arch: Turns hidden layers into the `net_arch` of `policy_kwargs`.
        uses_timesteps: Whether `[train] timesteps` limits a run; otherwise its own arguments do.
        patience: Default of `[train] patience`.
    """

    name: str
    model: type[BaseAlgorithm]
    help: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    table_defaults: Callable[[TransitionTable], Mapping[str, Any]] = lambda _: {}
    net_arch: Callable[[Sequence[int]], Any] = actor_and_critic
    uses_timesteps: bool = True
    patience: int = 0

    def arguments(self, table: TransitionTable, config: TrainConfig) -> dict[str, Any]:
        """Return all arguments of a run on a table: the defaults, then the suite's."""
        return {**self.table_defaults(table), **self.defaults, **getattr(config, self.name, {})}

    def argument(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Return one argument, or else the default of the class; None if it does not have that argument."""
        for cls in self.model.__mro__:
            parameter = inspect.signature(vars(cls).get("__init__", object.__init__)).parameters.get(name)
            if parameter is not None and parameter.default is not parameter.empty:
                return arguments.get(name, parameter.default)
        return arguments.get(name)

    def rollout_steps(self, arguments: Mapping[str, Any]) -> tuple[str, int]:
        """Return which argument says how many hops of each episode are collected between two updates, and that number."""
        name = "train_freq" if issubclass(self.model, OffPolicyAlgorithm) else "n_steps"
        value = self.argument(name, arguments)
        return name, value if isinstance(value, int) and self.uses_timesteps else 1


_imported: dict[str, Algorithm] = {}
"""Algorithms that this process was told to import by a class path, and so may use again."""


def known_algorithm(name: str) -> Algorithm | None:
    """Return an algorithm that is installed, or whose class this process was told to import before; else None.

    Raises:
        SuiteError: The package that registers the algorithm cannot be imported.
    """
    return installed_algorithm(name) or _imported.get(name)


def installed_algorithm(name: str) -> Algorithm | None:
    """Return an algorithm that is registered or stable-baselines3's own, else None; nothing that the name says is imported.

    Raises:
        SuiteError: The package that registers the algorithm cannot be imported.
    """
    name = canonical_algorithm(name)
    if name in ALGORITHMS:
        return _registered(name)
    module, _, attribute = name.rpartition(".")
    lower = attribute.lower()
    own_modules = ("", "stable_baselines3", f"stable_baselines3.{lower}", f"stable_baselines3.{lower}.{lower}")
    if attribute in STABLE_BASELINES and module in own_modules:
        return _of_class(getattr(stable_baselines3, attribute))
    return None


def find_algorithm(name: str) -> Algorithm:
    """Return an algorithm; a class path is imported, from the current folder too.

    Args:
        name: `ppo`, `exact`, another registered name, a name of stable-baselines3 such as `DQN`, or a class path such as
            `sb3_contrib.TRPO`. The case of names does not matter.

    Raises:
        SuiteError: There is no such algorithm, or it cannot be imported.
    """
    algorithm = known_algorithm(name)
    if algorithm is None:
        algorithm = _imported[name] = _of_class(_import_class(name))
    return algorithm


def _registered(name: str) -> Algorithm:
    try:
        algorithm = ALGORITHMS[name]
    except Exception as error:
        raise SuiteError(
            f"The algorithm {name!r} is registered by an installed package, but cannot be imported: {described(error)}. "
            "Install that package again, or another version of it."
        ) from error
    if not isinstance(algorithm, Algorithm):
        raise SuiteError(
            f"The algorithm {name!r} is registered by an installed package as {described(algorithm)}; it must be an "
            "`Algorithm` of toolkit.routing.algorithms. Correct the entry point of that package."
        )
    return algorithm


def _of_class(model: type[BaseAlgorithm]) -> Algorithm:
    return Algorithm(SB3, model, net_arch=actor_and_critic if issubclass(model, OnPolicyAlgorithm) else list)


def _import_class(path: str) -> type[BaseAlgorithm]:
    """Import a class of stable-baselines3's kind.

    Raises:
        SuiteError: There is no such class, its module fails, or it is something else.
    """
    shown = repr(printable(path))
    choices = [*ALGORITHMS, *(name for name in STABLE_BASELINES if canonical_algorithm(name) == name)]
    if path.endswith((".zip", ".safetensors")) or Path(path).is_file():
        raise SuiteError(
            f"{shown} is a file, and not the name of an algorithm. A saved router is evaluated with: toolkit evaluate FILE. "
            f"To train one, name its algorithm: {', '.join(choices)}, or a class (FILE.py:CLASS or package.module.Class)."
        )
    if not is_reference(path):
        raise SuiteError(
            f"There is no algorithm {shown}: {did_you_mean(path, choices)}, or a class (FILE.py:CLASS or package.module.Class)."
            " DDPG, SAC and TD3 of stable-baselines3 cannot choose between models: their actions are continuous."
        )
    try:
        model = import_class(path)
    except (Exception, SystemExit) as error:  # the module is executed, and may do anything
        raise SuiteError(
            f"There is no algorithm {shown}: {described(error)}. A class is written FILE.py:CLASS, or package.module.Class, of "
            f"an installed package or of a file in the current folder; the names are {', '.join(choices)}."
        ) from error
    if not (isinstance(model, type) and issubclass(model, BaseAlgorithm)) or inspect.isabstract(model):
        raise SuiteError(
            f"The algorithm {shown} is {described(model)}, which does not learn like an algorithm of stable-baselines3. It "
            f"must be a class derived from one of its algorithms; the names are {', '.join(choices)}."
        )
    return model


POLICY = "MlpPolicy"
"""Name of stable-baselines3's own policy, which every algorithm has and every router file can describe as data."""


_imported_policies: set[str] = set()
"""Policies that this process was told to import by a class path, and so may use again."""


def is_known_policy(name: str) -> bool:
    """Return whether a policy is stable-baselines3's own, or this process was told to import it before."""
    return name == POLICY or name in _imported_policies


def find_policy(name: str) -> str | type[BasePolicy]:
    """Return the policy of a run: `MlpPolicy`, or a class that is imported.

    Raises:
        SuiteError: There is no such class, its module fails, or it is not derived from a policy of stable-baselines3.
    """
    if name == POLICY:
        return name
    shown = repr(printable(name))
    if not is_reference(name):
        raise SuiteError(f"There is no policy {shown}. Give {POLICY}, or a class (FILE.py:CLASS or package.module.Class).")
    try:
        policy = import_class(name)
    except (Exception, SystemExit) as error:
        raise SuiteError(
            f"There is no policy {shown}: {described(error)}. A class is written FILE.py:CLASS, or package.module.Class, of an "
            "installed package or of a file in the current folder."
        ) from error
    if not (isinstance(policy, type) and issubclass(policy, BasePolicy)):
        raise SuiteError(f"The policy {shown} is {described(policy)}; it must be derived from a policy of stable-baselines3.")
    _imported_policies.add(name)
    return policy


def policy_of(algorithm: Algorithm, name: str, masked: bool) -> str | type[BasePolicy]:
    """Return the policy that an algorithm builds, by its name in the settings of a run.

    Args:
        algorithm: The algorithm.
        name: `MlpPolicy`, or a class that is imported.
        masked: Whether some responses are missing, so that stable-baselines3's own policy is replaced by `MaskedPolicy`.

    Raises:
        SuiteError: There is no such class (`find_policy`).
    """
    policy = find_policy(name)
    own = algorithm.model.policy_aliases.get(POLICY)
    return masked_class(own) if masked and policy == POLICY and own is not None else policy
