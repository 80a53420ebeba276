"""What a policy makes of an observation before it learns: features extractors of stable-baselines3 without parameters to learn.

They are part of the policy and saved with it: a policy still takes whole observations.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor

from toolkit.replay.environments import Observer
from toolkit.replay.table import Ints, TransitionTable

CHUNK = 64
"""Rows whose nodes are observed together: few enough for the processor's cache."""
KNOTS = 5
"""Alphas between which a conditioned policy's first layer is interpolated (docs/design/learning.md)."""
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
        pieces = [self.project(piece, n) for n, piece in enumerate(torch.split(texts, self.dimensions, dim=1))]
        return torch.cat([*pieces, rest * self.scale], 1)

    def project(self, vectors: torch.Tensor, part: int) -> torch.Tensor:
        """Return `(n, rank)` of embeddings, `(n, dimensions)`, that stand in that place of an observation."""
        return vectors @ self.components[part] - self.offset[part * self.rank : (part + 1) * self.rank]

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


class PerHop(BaseFeaturesExtractor):
    """Gives every hop a first layer of its own: features are repeated for each hop, 0 but for the hop of the observation.

    Args:
        observation_space: Of the environment; the hop is one-hot before the last number, the cost.
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
        """Return `(n, horizon * features)` of observations, `(n, features)`."""
        return self.at(self.base(observations), observations[:, -1 - self.horizon : -1])

    def at(self, features: torch.Tensor, hops: torch.Tensor) -> torch.Tensor:
        """Return features of `base`, `(..., n, features)`, at hops, `(n, horizon)`, as `(..., n, horizon * features)`."""
        return torch.einsum("nh,...nf->...nhf", hops, features).flatten(-2)


class Conditioned(BaseFeaturesExtractor):
    """Lets a policy depend on alpha, the last number of an observation, by interpolation between knots.

    The features of an observation are those of the rest of it, once for each knot, weighted by how near alpha is to the knot:
    at a knot its own weight is 1, between two knots theirs fall linearly. A layer over such features has weights of its own at
    each knot, and interpolated ones between. Alphas outside the knots count as the nearest.

    Args:
        observation_space: Of the environment.
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
        """Return `(n, knots * features)` of observations, `(n, features + 1)`."""
        return self.at(self.base(observations[:, :-1]), observations[:, -1])

    def at(self, features: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Return features of `base`, `(n, ..., features)`, at an alpha each, `(n,)`, as `(n, ..., knots * features)`."""
        weights = self.nearness(alphas)
        return torch.einsum("nk,n...f->n...kf", weights, features).flatten(-2)

    def nearness(self, alphas: torch.Tensor) -> torch.Tensor:
        """Return the weight of every knot at some alphas, `(n, knots)`; each row sums to 1."""
        knots, last = self.knots, len(self.knots) - 1
        if not last:
            return torch.ones(len(alphas), 1, device=alphas.device)
        inside = alphas.clamp(knots[0], knots[-1])
        left = (torch.searchsorted(knots, inside, right=True) - 1).clamp(max=last - 1)
        share = (inside - knots[left]) / (knots[left + 1] - knots[left])
        weights = torch.zeros(len(alphas), last + 1, device=alphas.device)
        weights.scatter_(1, left[:, None], 1 - share[:, None])
        return weights.scatter_(1, left[:, None] + 1, share[:, None])


@torch.no_grad()
def of_nodes(
    extractor: BaseFeaturesExtractor,
    observer: Observer,
    rows: Ints,
    alpha: float = 0.0,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Return the features of all decision nodes of some rows, `(rows, D, features)`.

    They are what the extractor makes of the observations; but a text that all nodes of a row observe, the question, is
    projected once.

    Args:
        extractor: Of a policy.
        observer: Of the table.
        rows: Of the table.
        alpha: What a conditioned policy is told.
        device: The policy's.
    """
    if isinstance(extractor, Conditioned):
        alphas = extractor.knots.new_full((len(rows),), alpha)
        return extractor.at(of_nodes(extractor.base, observer, rows, device=device), alphas)
    if isinstance(extractor, PerHop):
        return extractor.at(
            of_nodes(extractor.base, observer, rows, device=device), torch.from_numpy(observer.one_hot).to(device)
        )
    if isinstance(extractor, Projection):
        return _projected(extractor, observer, rows)
    (size,) = extractor._observation_space.shape or ()
    found: torch.Tensor = extractor(torch.from_numpy(observer.everywhere(rows, alpha)[:, :size]).to(device))
    return found.view(len(rows), observer.table.n_decision_nodes, -1)


def _projected(projection: Projection, observer: Observer, rows: Ints) -> torch.Tensor:
    table, rank = observer.table, projection.rank
    count = table.n_decision_nodes
    result = projection.offset.new_empty(len(rows), count, projection.features_dim)
    for part in range(projection.parts):
        texts = table.texts[rows, :, part]
        if (texts == texts[:, :1]).all():
            texts = texts[:, :1]
        vectors = torch.from_numpy(table.vectors[texts.ravel()]).to(result.device)
        result[..., part * rank : (part + 1) * rank] = projection.project(vectors, part).view(*texts.shape, rank)
    rest = [np.broadcast_to(observer.one_hot, (len(rows), count, table.horizon)), observer.cost[rows, :, None]]
    result[..., projection.parts * rank :] = torch.from_numpy(np.concatenate(rest, 2)).to(result.device) * projection.scale
    return result


def of_table(
    extractor: BaseFeaturesExtractor, observer: Observer, rows: Ints, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Return the same of many rows, few at a time."""
    found = torch.empty(len(rows), observer.table.n_decision_nodes, extractor.features_dim, device=device)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        found[part] = of_nodes(extractor, observer, rows[part], device=device)
    return found


def extractor(table: TransitionTable, rank: int, per_hop: bool = False, alphas: Sequence[float] = ()) -> dict[str, Any]:
    """Return the `policy_kwargs` that name a policy's features extractor; `fit` it once the policy is there.

    Args:
        table: The table.
        rank: Components that are kept of each embedding; 0 keeps it as it is.
        per_hop: Whether every hop has a first layer of its own.
        alphas: Those that the policy is conditioned on, if it is.
    """
    parts, dimensions = table.texts.shape[2], table.vectors.shape[1]
    kind: type[BaseFeaturesExtractor] = FlattenExtractor
    kwargs: dict[str, Any] = {}
    if rank:
        kind = Projection
        kwargs = {"parts": parts, "dimensions": dimensions, "rank": min(rank, dimensions, len(table.vectors) - 1)}
    if per_hop:
        kind, kwargs = PerHop, {"horizon": table.horizon, "base": kind, "base_kwargs": kwargs}
    if alphas:
        every = sorted(set(alphas))
        places = np.unique(np.linspace(0, len(every) - 1, min(KNOTS, len(every))).round().astype(int))
        kind, kwargs = Conditioned, {"knots": [every[place] for place in places], "base": kind, "base_kwargs": kwargs}
    return {"features_extractor_class": kind, "features_extractor_kwargs": kwargs}


def fit(policy: torch.nn.Module, table: TransitionTable) -> None:
    """Fit every projection within a policy."""
    for module in policy.modules():
        if isinstance(module, Projection):
            module.fit(table)
