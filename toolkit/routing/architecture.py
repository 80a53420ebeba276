"""The architecture of a policy as data: described when a router is saved, and built again when it is loaded.

A description names classes only out of the fixed sets below. Nothing it says is imported or executed.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from toolkit.routing.algorithms import POLICY, Algorithm, find_policy
from toolkit.routing.masked_policy import masked_class
from toolkit.routing.networks import RouterFeatures
from toolkit.suites.config import Width
from toolkit.suites.section import Section

EXTRACTORS: dict[str, type[BaseFeaturesExtractor]] = {
    extractor.__name__: extractor for extractor in (FlattenExtractor, RouterFeatures)
}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    activation.__name__: activation for activation in (nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Sigmoid)
}
PROBES = 16
"""Random observations at which a rebuilt policy is compared with the original."""

Layers = Annotated[tuple[Width, ...], Field(max_length=64)]


class Extractor(Section):
    """A features extractor: its class and its arguments."""

    name: str
    numbers: dict[str, int] = Field(default_factory=dict)
    knots: tuple[float, ...] | None = Field(None, max_length=64)

    def kwargs(self) -> dict[str, Any]:
        """Return it as arguments of a policy."""
        own: dict[str, Any] = dict(self.numbers)
        if self.knots is not None:
            own["knots"] = list(self.knots)
        return {"features_extractor_class": EXTRACTORS[self.name], "features_extractor_kwargs": own}

    @classmethod
    def of(cls, extractor: type[BaseFeaturesExtractor], kwargs: Mapping[str, Any] | None) -> "Extractor":
        """Describe an extractor that is given as in the arguments of a policy."""
        own = dict(kwargs or {})
        knots = own.pop("knots", None)
        if EXTRACTORS.get(extractor.__name__) is not extractor:
            raise ValueError(f"its features extractor is {extractor.__name__}, not one of {', '.join(EXTRACTORS)}")
        return cls(name=extractor.__name__, numbers=own, knots=knots)


class Architecture(Section):
    """What a policy is built from, apart from its weights.

    Attributes:
        policy: Its class: `MlpPolicy`, or a class that has to be imported.
        observations: Size of an observation.
        actions: Number of actions.
        net_arch: Hidden layers, as in SB3's `policy_kwargs`.
        activation: Name of the activation function.
        extractor: The features extractor.
    """

    policy: str = POLICY
    observations: int = Field(ge=1, le=2**24)
    actions: int = Field(ge=1, le=2**16)
    net_arch: Layers | dict[str, Layers]
    activation: str
    extractor: Extractor

    @classmethod
    def of(cls, policy: BasePolicy, name: str = POLICY) -> "Architecture":
        """Describe a policy, whose class has the given name.

        Raises:
            ValueError: It has parts that are not among those that a description can name.
        """
        activation: type[nn.Module] = getattr(policy, "activation_fn", nn.Module)
        if ACTIVATIONS.get(activation.__name__) is not activation:
            raise ValueError(f"its activation function is {activation.__name__}, not one of {', '.join(ACTIVATIONS)}")
        (observations,) = policy.observation_space.shape or ()
        net_arch = getattr(policy, "net_arch", [])
        return cls(
            policy=name,
            observations=observations,
            actions=int(policy.action_space.n),  # type: ignore[attr-defined]
            net_arch={name: tuple(layers) for name, layers in net_arch.items()} if isinstance(net_arch, dict) else net_arch,
            activation=activation.__name__,
            extractor=Extractor.of(policy.features_extractor_class, policy.features_extractor_kwargs),
        )

    def n_weights(self) -> int:
        """Return a number of values that the policy's tensors have or exceed together, without building them."""
        kwargs = self.extractor.kwargs()
        space = spaces.Box(-np.inf, np.inf, (self.observations,), np.float32)
        with torch.device("meta"):  # shapes without memory
            extractor: BaseFeaturesExtractor = kwargs["features_extractor_class"](space, **kwargs["features_extractor_kwargs"])
        networks = {"pi": (), **self.net_arch} if isinstance(self.net_arch, dict) else {"pi": self.net_arch}
        chains = [
            (extractor.features_dim, *layers, *([self.actions] if name == "pi" else ())) for name, layers in networks.items()
        ]
        sizes: list[int] = [inputs * outputs for chain in chains for inputs, outputs in pairwise(chain)]
        return sum(sizes) + sum(buffer.numel() for buffer in extractor.buffers())

    def build(self, algorithm: Algorithm, arguments: Mapping[str, Any]) -> BaseAlgorithm:
        """Build an algorithm around a policy with random weights, to decide with; it has no environment to learn in.

        Args:
            algorithm: Algorithm that the policy was trained by.
            arguments: Its arguments in that training.
        """
        net_arch: Any = self.net_arch
        net_arch = {k: list(v) for k, v in net_arch.items()} if isinstance(net_arch, dict) else list(net_arch)
        kwargs = {"net_arch": net_arch, "activation_fn": ACTIVATIONS[self.activation], **self.extractor.kwargs()}
        model = algorithm.model(  # type: ignore[call-arg]  # SB3's own `load` calls it like this
            policy="MlpPolicy", env=None, device="cpu", policy_kwargs=kwargs, _init_setup_model=False, **arguments
        )
        model.observation_space = spaces.Box(-np.inf, np.inf, (self.observations,), np.float32)
        model.action_space = spaces.Discrete(self.actions)
        model.n_envs = 1
        policy = find_policy(self.policy)
        if isinstance(policy, type):
            model.policy_class = policy
        elif self.extractor.numbers.get("allowed"):
            model.policy_class = masked_class(model.policy_class)
        model._setup_lr_schedule()
        with torch.random.fork_rng(devices=[]):  # initial weights are not used, and nobody else's randomness is
            model.policy = model.policy_class(model.observation_space, model.action_space, model.lr_schedule, **kwargs)
        model.policy.set_training_mode(False)
        return model


def rebuild(
    architecture: Architecture, algorithm: Algorithm, arguments: Mapping[str, Any], weights: Mapping[str, torch.Tensor]
) -> BaseAlgorithm:
    """Build an algorithm and its policy, and give the policy its weights.

    Raises:
        ValueError: The weights are not those of such a policy, or it cannot be built.
    """
    try:
        n_weights = sum(tensor.numel() for tensor in weights.values())
        if architecture.policy == POLICY and architecture.n_weights() > n_weights:
            raise ValueError(f"that has at least {architecture.n_weights()} values, and the file has {n_weights}")
        model = architecture.build(algorithm, arguments)
        expected = model.policy.state_dict()
        differing = [name for name in {**expected, **weights} if _shape(expected.get(name)) != _shape(weights.get(name))]
        if differing:
            name = differing[0]
            raise ValueError(f"its tensor {name} is {_shape(expected.get(name))}, and in the file {_shape(weights.get(name))}")
        model.policy.load_state_dict(dict(weights), strict=True)
    except Exception as error:
        raise ValueError(f"its card does not describe its policy of {algorithm.model.__name__}: {error}") from error
    return model


def _shape(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return "missing"
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


@torch.no_grad()
def check_storable(
    model: BaseAlgorithm, algorithm: Algorithm, arguments: Mapping[str, Any], name: str = POLICY
) -> Architecture:
    """Describe an algorithm's policy, and check that what is built again from it decides the same at random observations.

    Raises:
        ValueError: It does not: the policy has parts that no description names.
    """
    policy = model.policy
    architecture = Architecture.of(policy, name)
    rebuilt = rebuild(architecture, algorithm, arguments, policy.state_dict()).policy
    observations = np.random.default_rng(0).normal(size=(PROBES, architecture.observations)).astype(np.float32)
    if not torch.equal(_outputs(policy, observations), _outputs(rebuilt, observations)):
        raise ValueError("it has parts of its own, without which it decides differently")
    return architecture


def _outputs(policy: BasePolicy, observations: "np.ndarray[Any, np.dtype[np.float32]]") -> torch.Tensor:
    """Return what a policy computes from observations before it samples: logits, values of actions, or its actions."""
    tensor = torch.from_numpy(observations).to(policy.device)
    training = policy.training
    policy.set_training_mode(False)
    try:
        if isinstance(policy, ActorCriticPolicy):
            distribution = policy.get_distribution(tensor).distribution
            assert isinstance(distribution, torch.distributions.Categorical)
            return distribution.logits
        return policy.q_net(tensor) if isinstance(policy, DQNPolicy) else policy._predict(tensor, deterministic=True)
    finally:
        policy.set_training_mode(training)
