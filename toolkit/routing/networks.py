"""Features extractors for stable-baselines3 policies: fixed transformations of an observation, with nothing to learn.

They are part of the policy and saved with it, so a policy still takes whole observations. Each has a method `node_features`,
which returns the features of all decision nodes of a table's rows and computes what the nodes share only once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor

from toolkit.replay.observations import Observer
from toolkit.replay.table import Ints, TransitionTable

Device = torch.device | str

CHUNK_ROWS = 64
"""Rows whose nodes are observed together: few enough for the processor's cache."""
MAX_KNOTS = 5
"""Alphas between which a conditioned policy's first layer is interpolated (docs/design/learning.md)."""
MAX_FITTED_TEXTS = 4096
"""Texts that components are fitted on: more do not change the axes, and would take longer than learning."""


class Projection(BaseFeaturesExtractor):
    """Projects each embedding of an observation on its principal components, and scales everything to unit variance.

    Args:
        observation_space: The environment's.
        parts: Number of embeddings at the head of an observation.
        dimensions: Size of each.
        rank: Number of components kept of each.
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
        """Return the features of observations, `(n, features)`, as `(n, parts * rank + rest)`."""
        texts, rest = torch.split(observations, [self.parts * self.dimensions, len(self.scale)], dim=1)
        projected = [self.project(vectors, part) for part, vectors in enumerate(torch.split(texts, self.dimensions, dim=1))]
        return torch.cat([*projected, rest * self.scale], 1)

    def project(self, vectors: torch.Tensor, part: int) -> torch.Tensor:
        """Project embeddings, `(n, dimensions)`, that are the given part of an observation to `(n, rank)`."""
        return vectors @ self.components[part] - self.offset[part * self.rank : (part + 1) * self.rank]

    def node_features(self, observer: Observer, rows: Ints, alpha: float = 0.0, device: Device = "cpu") -> torch.Tensor:
        """Return the features of all decision nodes, `(rows, D, features)`; a text that they all observe is projected once."""
        table, rank, n_nodes = observer.table, self.rank, observer.table.n_decision_nodes
        features = torch.empty(len(rows), n_nodes, self.features_dim, device=device)
        for part in range(self.parts):
            texts = table.texts[rows, :, part]
            if (texts == texts[:, :1]).all():
                texts = texts[:, :1]
            vectors = torch.from_numpy(table.vectors[texts.ravel()]).to(device)
            features[..., part * rank : (part + 1) * rank] = self.project(vectors, part).view(*texts.shape, rank)
        hops = np.broadcast_to(observer.one_hot, (len(rows), n_nodes, table.horizon))
        rest = torch.from_numpy(np.concatenate([hops, observer.cost[rows, :, None]], 2)).to(device)
        features[..., self.parts * rank :] = rest * self.scale
        return features

    def fit(self, table: TransitionTable) -> None:
        """Fit the components on the training split's texts, on every n-th if there are more than `MAX_FITTED_TEXTS`."""
        train = table.rows("train")
        for part in range(self.parts):
            texts = np.unique(table.texts[train, :, part])
            texts = texts[texts > 0]
            if not len(texts):  # with one hop, no response is ever observed
                continue
            vectors = table.vectors[texts[:: -(-len(texts) // MAX_FITTED_TEXTS)]]
            mean = vectors.mean(0, dtype=np.float64)
            centred = vectors - mean.astype(np.float32)
            variances, axes = np.linalg.eigh((centred.T @ centred / len(centred)).astype(np.float64))
            top = np.argsort(-variances)[: self.rank]
            size = np.sqrt(max(variances[top].mean(), 1e-12))
            components = torch.from_numpy(axes[:, top] / size)
            self.components[part] = components
            self.offset[part * self.rank : (part + 1) * self.rank] = torch.from_numpy(mean) @ components
        self.scale[-1] = 1 / max(float(table.cost[train, : table.n_decision_nodes].std()), 1e-6)


class PerHop(BaseFeaturesExtractor):
    """Gives each hop a first layer of its own: features are repeated for each hop, and zero except for the observation's hop.

    Args:
        observation_space: The environment's, without alpha; the hop is one-hot before the last number, the cost.
        horizon: Number of hops.
        base: The features extractor of an observation.
        base_kwargs: Its arguments.
    """

    def __init__(
        self,
        observation_space: "spaces.Box[Any]",
        horizon: int,
        base: type[BaseFeaturesExtractor] = FlattenExtractor,
        base_kwargs: dict[str, Any] | None = None,
    ) -> None:
        extractor = base(observation_space, **base_kwargs or {})
        super().__init__(observation_space, horizon * extractor.features_dim)
        self.base = extractor
        self.horizon = horizon

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the features of observations, `(n, features)`, as `(n, horizon * features)`."""
        return self.at(self.base(observations), observations[:, -1 - self.horizon : -1])

    def at(self, features: torch.Tensor, hops: torch.Tensor) -> torch.Tensor:
        """Place features of `base`, `(..., n, features)`, at hops, `(n, horizon)`: `(..., n, horizon * features)`."""
        return torch.einsum("nh,...nf->...nhf", hops, features).flatten(-2)

    def node_features(self, observer: Observer, rows: Ints, alpha: float = 0.0, device: Device = "cpu") -> torch.Tensor:
        """Return the features of all decision nodes, `(rows, D, features)`."""
        features = node_features(self.base, observer, rows, alpha, device)
        return self.at(features, torch.from_numpy(observer.one_hot).to(device))


class Conditioned(BaseFeaturesExtractor):
    """Makes a policy depend on alpha, the last number of an observation, by interpolation between knots.

    The features of the rest of the observation are repeated for each knot, weighted by how near alpha is to it: a knot's weight
    is 1 at the knot and falls linearly to 0 at its neighbours. A linear layer over these features thus has its own weights at
    each knot, and interpolated ones in between. Alphas outside the knots are treated as the nearest knot.

    Args:
        observation_space: The environment's.
        knots: Alphas, ascending.
        base: The features extractor of the rest of an observation.
        base_kwargs: Its arguments.
    """

    def __init__(
        self,
        observation_space: "spaces.Box[Any]",
        knots: Sequence[float],
        base: type[BaseFeaturesExtractor] = FlattenExtractor,
        base_kwargs: dict[str, Any] | None = None,
    ) -> None:
        rest = spaces.Box(-np.inf, np.inf, (observation_space.shape[0] - 1,), np.float32)
        extractor = base(rest, **base_kwargs or {})
        super().__init__(observation_space, extractor.features_dim * len(knots))
        self.base = extractor
        self.knots: torch.Tensor
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float32))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the features of observations, `(n, features + 1)`, as `(n, knots * features)`."""
        return self.at(self.base(observations[:, :-1]), observations[:, -1])

    def at(self, features: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Weight features of `base`, `(n, ..., features)`, by the knots near alphas, `(n,)`: `(n, ..., knots * features)`."""
        return torch.einsum("nk,n...f->n...kf", self.knot_weights(alphas), features).flatten(-2)

    def knot_weights(self, alphas: torch.Tensor) -> torch.Tensor:
        """Return the weight of every knot at alphas, `(n,)`, as `(n, knots)`; each row sums to 1."""
        knots, last = self.knots, len(self.knots) - 1
        if not last:
            return torch.ones(len(alphas), 1, device=alphas.device)
        inside = alphas.clamp(knots[0], knots[-1])
        left = (torch.searchsorted(knots, inside, right=True) - 1).clamp(max=last - 1)
        share = (inside - knots[left]) / (knots[left + 1] - knots[left])
        weights = torch.zeros(len(alphas), last + 1, device=alphas.device)
        weights.scatter_(1, left[:, None], 1 - share[:, None])
        return weights.scatter_(1, left[:, None] + 1, share[:, None])

    def node_features(self, observer: Observer, rows: Ints, alpha: float = 0.0, device: Device = "cpu") -> torch.Tensor:
        """Return the features of all decision nodes, `(rows, D, features)`."""
        features = node_features(self.base, observer, rows, alpha, device)
        return self.at(features, self.knots.new_full((len(rows),), alpha))


@torch.no_grad()
def node_features(
    extractor: BaseFeaturesExtractor, observer: Observer, rows: Ints, alpha: float = 0.0, device: Device = "cpu"
) -> torch.Tensor:
    """Return the features of all decision nodes of some rows, `(rows, D, features)`.

    They equal the extractor's features of the observations. An extractor without a method `node_features` gets these.

    Args:
        extractor: A policy's features extractor.
        observer: The table's observer.
        rows: Rows of the table.
        alpha: The alpha that a conditioned policy observes.
        device: The policy's device.
    """
    own_method = getattr(extractor, "node_features", None)
    if own_method is not None:
        features: torch.Tensor = own_method(observer, rows, alpha, device)
        return features
    (size,) = extractor._observation_space.shape or ()  # an extractor inside of `Conditioned` does not see alpha
    features = extractor(torch.from_numpy(observer.all_nodes(rows, alpha)[:, :size]).to(device))
    return features.view(len(rows), observer.table.n_decision_nodes, -1)


def all_node_features(extractor: BaseFeaturesExtractor, observer: Observer, rows: Ints, device: Device = "cpu") -> torch.Tensor:
    """Return the same for many rows, `CHUNK_ROWS` at a time."""
    features = torch.empty(len(rows), observer.table.n_decision_nodes, extractor.features_dim, device=device)
    for start in range(0, len(rows), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        features[chunk] = node_features(extractor, observer, rows[chunk], device=device)
    return features


def extractor_kwargs(table: TransitionTable, rank: int, per_hop: bool = False, alphas: Sequence[float] = ()) -> dict[str, Any]:
    """Return the `policy_kwargs` of a policy's features extractor; call `fit_projections` once the policy exists.

    Args:
        table: The table.
        rank: Number of components kept of each embedding; 0 keeps the whole embedding.
        per_hop: Whether each hop has a first layer of its own.
        alphas: The alphas that the policy is conditioned on, if any.
    """
    parts, dimensions = table.texts.shape[2], table.vectors.shape[1]
    base: type[BaseFeaturesExtractor] = FlattenExtractor
    kwargs: dict[str, Any] = {}
    if rank:
        base = Projection
        kwargs = {"parts": parts, "dimensions": dimensions, "rank": min(rank, dimensions, len(table.vectors) - 1)}
    if per_hop:
        base, kwargs = PerHop, {"horizon": table.horizon, "base": base, "base_kwargs": kwargs}
    if alphas:
        distinct = sorted(set(alphas))
        places = np.unique(np.linspace(0, len(distinct) - 1, min(MAX_KNOTS, len(distinct))).round().astype(int))
        base, kwargs = Conditioned, {"knots": [distinct[place] for place in places], "base": base, "base_kwargs": kwargs}
    return {"features_extractor_class": base, "features_extractor_kwargs": kwargs}


def fit_projections(policy: torch.nn.Module, table: TransitionTable) -> None:
    """Fit every projection within a policy."""
    for module in policy.modules():
        if isinstance(module, Projection):
            module.fit(table)
