"""Learning algorithms by name: the toolkit's own, any of stable-baselines3, or a class path."""

import importlib

from stable_baselines3.common.base_class import BaseAlgorithm

from toolkit.core.errors import SuiteError
from toolkit.routing.exact_gradient import ExactGradient
from toolkit.routing.ppo import ReplayPPO

OWN: dict[str, type[BaseAlgorithm]] = {"ppo": ReplayPPO, "exact": ExactGradient}


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """Return the class of an algorithm.

    Args:
        name: `ppo`, `exact`, a name of stable-baselines3 such as `DQN`, or a class path such as `sb3_contrib.TRPO`.

    Raises:
        SuiteError: There is no such algorithm here.
    """
    if name in OWN:
        return OWN[name]
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "stable_baselines3"), attribute)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not (isinstance(found, type) and issubclass(found, BaseAlgorithm)):
        raise SuiteError(
            f"There is no algorithm {name!r}. Use {', '.join(OWN)}, the name of one in stable_baselines3 (A2C, DQN ...), "
            "or the path of a class that is installed (package.module.Class)."
        )
    return found
