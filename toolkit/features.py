"""A fixed projection of the observed embeddings, fitted on the training split, as a features extractor of stable-baselines3.

It is part of the policy and saved with it: a policy still takes whole embeddings, but learns from few numbers of unit size.
"""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from toolkit.table import TransitionTable

SAMPLE = 4096
"""Texts that components are fitted on at most: more of them do not change the axes, and take longer than learning does."""


class Projection(BaseFeaturesExtractor):
    """Projects each embedding of an observation on its principal components, and scales everything to unit variance.

    Args:
        observation_space: Of the environment.
        parts: Embeddings at the head of an observation.
        dimensions: Size of each.
        rank: Components that are kept of each.
    """

    def __init__(self, observation_space: "spaces.Box[Any]", parts: int, dimensions: int, rank: int) -> None:
        rest = observation_space.shape[0] - parts * dimensions
        super().__init__(observation_space, parts * rank + rest)
        self.parts, self.dimensions, self.rank = parts, dimensions, rank
        self.components: torch.Tensor
        self.offset: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("components", torch.zeros(parts, dimensions, rank))
        self.register_buffer("offset", torch.zeros(parts * rank))
        self.register_buffer("scale", torch.ones(rest))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return `(n, parts * rank + rest)` of observations, `(n, features)`."""
        texts, rest = torch.split(observations, [self.parts * self.dimensions, len(self.scale)], dim=1)
        pieces = [piece @ self.components[n] for n, piece in enumerate(torch.split(texts, self.dimensions, dim=1))]
        return torch.cat([torch.cat(pieces, 1) - self.offset, rest * self.scale], 1)

    def fit(self, table: TransitionTable) -> None:
        """Fit the components on texts of the training split, every n-th of them where there are more than `SAMPLE`."""
        train = table.rows("train")
        for part in range(self.parts):
            used = np.unique(table.texts[train, :, part])
            used = used[used > 0]
            if not len(used):  # with one hop, no answer is ever observed
                continue
            vectors = table.vectors[used[:: -(-len(used) // SAMPLE)]]
            mean = vectors.mean(0, dtype=np.float64)
            centred = vectors - mean.astype(np.float32)
            variances, axes = np.linalg.eigh((centred.T @ centred / len(centred)).astype(np.float64))
            top = np.argsort(-variances)[: self.rank]
            size = np.sqrt(max(variances[top].mean(), 1e-12))
            components = torch.from_numpy(axes[:, top] / size)
            self.components[part] = components
            self.offset[part * self.rank : (part + 1) * self.rank] = torch.from_numpy(mean) @ components
        self.scale[-1] = 1 / max(float(table.cost[train, : table.n_decision_nodes].std()), 1e-6)


def projection(table: TransitionTable, rank: int) -> dict[str, Any]:
    """Return the `policy_kwargs` that put a projection before a policy; `fit` it once the policy is there."""
    parts, dimensions = table.texts.shape[2], table.vectors.shape[1]
    return {
        "features_extractor_class": Projection,
        "features_extractor_kwargs": {
            "parts": parts,
            "dimensions": dimensions,
            "rank": min(rank, dimensions, len(table.vectors) - 1),
        },
    }


def fit(policy: torch.nn.Module, table: TransitionTable) -> None:
    """Fit every projection within a policy."""
    for module in policy.modules():
        if isinstance(module, Projection):
            module.fit(table)
