"""Forward and backward passes of a policy's dense networks, written out: no graph, no Python between the matrix products.

The networks are those of a stable-baselines3 policy, and so are their parameters: what is learned here is what it decides by.
"""

from collections.abc import Iterable
from typing import Self

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn


class Dense:
    """A chain of linear layers with tanh between them; gradients go to the `grad` of its parameters.

    Args:
        layers: `Linear`, `Tanh`, ..., `Linear`.

    Raises:
        ValueError: There is another kind of layer, or another order.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        flat = list(layers)
        if [type(layer) for layer in flat] != ([nn.Linear, nn.Tanh] * len(flat))[: len(flat)] or not len(flat) % 2:
            raise ValueError("only linear layers with tanh between them are written out")
        self.linear = [layer for layer in flat if isinstance(layer, nn.Linear)]
        self._inputs: list[torch.Tensor] = []

    @classmethod
    def actor(cls, policy: ActorCriticPolicy) -> Self:
        """Take the network that turns features into logits."""
        return cls([*policy.mlp_extractor.policy_net, policy.action_net])

    @classmethod
    def critic(cls, policy: ActorCriticPolicy) -> Self:
        """Take the network that turns features into values."""
        return cls([*policy.mlp_extractor.value_net, policy.value_net])

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Weights and biases, layer by layer."""
        return [parameter for linear in self.linear for parameter in (linear.weight, linear.bias)]

    @torch.no_grad()
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return outputs, `(n, outputs)`, and keep what `backward` needs."""
        self._inputs = []
        for linear in self.linear:
            if self._inputs:
                _tanh(features)
            self._inputs.append(features)
            features = torch.addmm(linear.bias, features, linear.weight.t())
        return features

    @torch.no_grad()
    def backward(self, gradient: torch.Tensor) -> None:
        """Write the gradients of the parameters, given that in the outputs of the last `forward`."""
        for n in range(len(self.linear) - 1, -1, -1):
            linear, inputs = self.linear[n], self._inputs[n]
            assert linear.weight.grad is not None
            assert linear.bias.grad is not None
            torch.mm(gradient.t(), inputs, out=linear.weight.grad)
            torch.sum(gradient, 0, out=linear.bias.grad)
            if n:
                gradient = torch.ops.aten.tanh_backward(gradient @ linear.weight, inputs)


def _tanh(values: torch.Tensor) -> None:
    """Apply tanh in place; NumPy's is several times as fast as torch's on a CPU."""
    if values.device.type == "cpu":
        np.tanh(values.numpy(), out=values.numpy())
    else:
        values.tanh_()


class Gradients:
    """The gradients of some parameters as views of one vector, so that clipping is two operations.

    Args:
        networks: Whose parameters.
    """

    def __init__(self, *networks: Dense) -> None:
        parameters = [parameter for network in networks for parameter in network.parameters]
        sizes = [parameter.numel() for parameter in parameters]
        self.vector = torch.zeros(sum(sizes), device=parameters[0].device)
        for parameter, part in zip(parameters, torch.split(self.vector, sizes), strict=True):
            parameter.grad = part.view_as(parameter)

    def clip(self, norm: float) -> None:
        """Scale the gradients down to a norm, where theirs is larger; as `torch.nn.utils.clip_grad_norm_`."""
        self.vector *= (norm / (self.vector.norm() + 1e-6)).clamp(max=1)
