"""A policy's dense networks with forward and backward passes written out, without a graph.

The parameters are those of a stable-baselines3 policy. Autograd would be simpler but slower. With it, PPO's `learn()` has 0.63,
0.81 and 0.92 of its speed at minibatches of 256, 1,024 and 4,096, and that of `exact` has 0.84. If autograd only differentiates
the losses, and these networks stay, the shares are 0.70, 0.84, 0.93 and 0.88. (64-64 networks, one thread of an Intel Xeon,
torch 2.13; the shortest of four to six alternating runs each.)
"""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from toolkit.routing.masked_policy import MaskedPolicy

Segments = Sequence[tuple[int, slice]]
"""Groups of decision nodes, and the rows of a batch that belong to each; without groups, empty."""


class Dense:
    """A chain of linear layers with tanh between them; `backward` writes to the `grad` of its parameters.

    The first layer may have weights for all rows alike, followed by further ones for each group of rows, as
    `toolkit.routing.networks.RouterFeatures` lays them out. Each group's weights are applied to its own rows alone.

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
        self._segments: Segments = ()

    @classmethod
    def actor(cls, policy: ActorCriticPolicy) -> Self:
        """Return the network that turns features into logits, those of unavailable models included.

        Raises:
            ValueError: It may compute something else: the policy is of a class of its own, or has another activation.
        """
        _check_class(policy)
        return cls([*policy.mlp_extractor.policy_net, policy.action_net])

    @classmethod
    def critic(cls, policy: ActorCriticPolicy) -> Self:
        """Return the network that turns features into values; it raises as `actor` does."""
        _check_class(policy)
        return cls([*policy.mlp_extractor.value_net, policy.value_net])

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Weights and biases, layer by layer."""
        return [parameter for linear in self.linear for parameter in (linear.weight, linear.bias)]

    @torch.no_grad()
    def forward(self, features: torch.Tensor, segments: Segments = ()) -> torch.Tensor:
        """Return the outputs, `(n, outputs)`, and keep what `backward` needs.

        Args:
            features: Features of one group, `(n, features)`; not changed.
            segments: The groups of rows.
        """
        first, size = self.linear[0], features.shape[1]
        self._inputs, self._segments = [features], segments
        outputs = torch.addmm(first.bias, features, first.weight[:, :size].t())
        for group, rows in segments:
            outputs[rows].addmm_(features[rows], _weights(first.weight, group, size).t())
        for linear in self.linear[1:]:
            _tanh(outputs)
            self._inputs.append(outputs)
            outputs = torch.addmm(linear.bias, outputs, linear.weight.t())
        return outputs

    @torch.no_grad()
    def backward(self, gradient: torch.Tensor) -> None:
        """Write the gradients of the parameters, given that of the outputs of the last `forward`, `(n, outputs)`."""
        for linear, inputs in reversed(list(zip(self.linear[1:], self._inputs[1:], strict=True))):
            weight, bias = _gradients(linear)
            torch.sum(gradient, 0, out=bias)
            torch.mm(gradient.t(), inputs, out=weight)
            gradient = torch.ops.aten.tanh_backward(gradient @ linear.weight, inputs)
        inputs, size = self._inputs[0], self._inputs[0].shape[1]
        weight, bias = _gradients(self.linear[0])
        torch.sum(gradient, 0, out=bias)
        weight[:, size:].zero_()
        weight[:, :size] = gradient.t() @ inputs
        for group, rows in self._segments:
            _weights(weight, group, size).addmm_(gradient[rows].t(), inputs[rows])


def _gradients(linear: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of a layer's weights and biases, to be written to."""
    assert linear.weight.grad is not None
    assert linear.bias.grad is not None
    return linear.weight.grad, linear.bias.grad


def _check_class(policy: ActorCriticPolicy) -> None:
    if type(policy) not in (ActorCriticPolicy, MaskedPolicy):
        raise ValueError(f"{type(policy).__name__} is not stable-baselines3's own policy")


def _weights(weights: torch.Tensor, group: int, size: int) -> torch.Tensor:
    """Return the part of a first layer's weights that belongs to a group, `(outputs, size)`."""
    return weights[:, (1 + group) * size : (2 + group) * size]


def tree_segments(groups: torch.Tensor, rows: int) -> Segments:
    """Return the segments of a batch of whole trees, first node first: `(D * rows, features)`, given each node's group."""
    return [(group, slice(node * rows, (node + 1) * rows)) for node, group in enumerate(groups.tolist())]


def node_segments(groups: torch.Tensor, nodes: torch.Tensor) -> Segments:
    """Return the segments of a batch of single nodes, `(n,)` in ascending order, given each node's group."""
    if not len(groups):
        return ()
    ends = torch.bincount(nodes, minlength=len(groups)).cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    return [(group, slice(*span)) for group, *span in zip(groups.tolist(), starts, ends, strict=True) if span[0] < span[1]]


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
