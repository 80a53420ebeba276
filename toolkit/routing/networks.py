"""The features of a policy: a fixed transformation of an observation, fitted to the training split, with nothing to learn.

Embeddings may be projected on their principal components; a first layer may have weights of its own for each decision node.
It is part of the policy and saved with it, so a policy still takes whole observations. `node_features` returns the features of
all decision nodes of a table's rows, and computes once what the nodes share.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from toolkit.core import tree
from toolkit.replay.observations import Layout, Observations, Observer
from toolkit.replay.table import Ints
from toolkit.routing.statistics import evenly_spread

Device = torch.device | str
FirstLayer = Literal["shared", "hop", "node"]

CHUNK_ROWS = 64
"""Rows whose nodes are observed together: few enough for the processor's cache."""
MAX_KNOTS = 5
"""Alphas between which a conditioned policy's first layer is interpolated (docs/design/learning.md)."""
MAX_FITTED_TEXTS = 4096
"""Texts that components are fitted on: more do not change the axes, and would take longer than learning."""
MAX_FITTED_ROWS = 256
"""Rows whose decision nodes the first layer is scaled by."""
RESPONSE_TERMS_WEIGHT = 3
"""Standard deviation of all terms of responses together; that of one component is 1 on average."""
MAX_NODE_GROUPS = 64
"""Decision nodes up to which each has weights of its own; in larger trees, each hop with each last model has."""


class RouterFeatures(BaseFeaturesExtractor):
    """Turns observations into features, for a first layer that is shared by all decision nodes or has a part for each group.

    The *base* features are the embeddings (or their principal components), the terms, the path and the cost, scaled. Which
    models may be chosen is no feature: a policy only rules those out that may not (`toolkit.routing.masked_policy`). With
    knots, they are repeated for each knot, weighted by how near alpha is to it: a knot's weight is 1 at the knot and falls
    linearly to 0 at its neighbours, so that a linear layer has its own weights at each knot and interpolated ones in between.
    With groups of nodes, they are repeated once more: the first copy is for all nodes alike, and each further one is zero
    except for the nodes of its group. `toolkit.routing.dense` never makes these zeros.

    Args:
        observation_space: The environment's.
        parts: As in `Layout`, like the next four.
        dimensions: See `Layout`.
        terms: See `Layout`.
        horizon: See `Layout`.
        models: See `Layout`.
        rank: Number of principal components kept of each embedding; 0 keeps it as it is.
        groups: Number of groups of nodes: 0 (all nodes share the first layer), L (one for each hop), the number of decision
            nodes, or that of hops and last models.
        knots: Alphas, ascending, for a policy that observes alpha.
        allowed: As in `Layout`.
        response_terms: See `Layout`.
    """

    def __init__(
        self,
        observation_space: "spaces.Box[Any]",
        parts: int,
        dimensions: int,
        terms: int,
        horizon: int,
        models: int,
        rank: int = 0,
        groups: int = 0,
        knots: Sequence[float] = (),
        allowed: int = 0,
        response_terms: int = 0,
    ) -> None:
        layout = Layout(parts, dimensions, terms, horizon, models, allowed, response_terms)
        (size,) = observation_space.shape
        if size != layout.size + bool(len(knots)):
            raise ValueError(f"observations have {size} numbers, and the features are of {layout.size + bool(len(knots))}")
        base_size = parts * (rank or dimensions) + terms + response_terms + layout.path + 1
        super().__init__(observation_space, (1 + groups) * max(1, len(knots)) * base_size)
        self.layout, self.rank, self.groups, self.base_size = layout, rank, groups, base_size
        self.components: torch.Tensor
        self.offset: torch.Tensor
        self.scale: torch.Tensor
        self.knots: torch.Tensor
        self.register_buffer("components", torch.zeros(parts, dimensions, rank))
        self.register_buffer("offset", torch.zeros(base_size))
        self.register_buffer("scale", torch.ones(base_size))
        self.register_buffer("knots", torch.tensor(knots, dtype=torch.float32))

    @property
    def grouped_size(self) -> int:
        """Number of features of one group: the base features at every knot."""
        return self.base_size * max(1, len(self.knots))

    @property
    def text_size(self) -> int:
        """Number of base features that come from texts: embeddings and terms, the first ones."""
        return self.base_size - self.layout.path - 1

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Return the features of observations, `(n, features)`, zeros included."""
        texts, rest = torch.split(observations[:, : self.layout.features], [self.layout.embeddings, self._rest], dim=1)
        parts = torch.split(texts, self.layout.dimensions, dim=1)
        base = torch.cat([*(self._project(vectors, part) for part, vectors in enumerate(parts)), rest], 1)
        features = self.at((base - self.offset) * self.scale, observations[:, -1])
        if not self.groups:
            return features
        path = observations[:, self.layout.texts : self.layout.features - 1]
        one_hot = nn.functional.one_hot(self.group_of(path), self.groups).to(features.dtype)
        return torch.cat([features, torch.einsum("ng,nf->ngf", one_hot, features).flatten(1)], 1)

    @property
    def _rest(self) -> int:
        return self.layout.features - self.layout.embeddings

    def _project(self, vectors: torch.Tensor, part: int) -> torch.Tensor:
        """Project embeddings, `(n, dimensions)`, that are the given part of an observation to `(n, rank)`."""
        return vectors @ self.components[part] if self.rank else vectors

    def group_of(self, path: torch.Tensor) -> torch.Tensor:
        """Return the group of paths that are encoded as in an observation, `(n, path)`, as `(n,)`."""
        hop = path[:, : self.layout.horizon].argmax(1)
        if self.groups == self.layout.horizon:
            return hop
        models = path[:, self.layout.horizon :].reshape(len(path), self.layout.horizon - 1, self.layout.models)
        actions, node = models.argmax(2), torch.zeros_like(hop)
        last_models = self.groups != tree.n_decision_nodes(self.layout.models, self.layout.horizon)
        for depth in range(1, self.layout.horizon):
            parent = (depth - 1) * self.layout.models if last_models else node * self.layout.models
            node = torch.where(hop >= depth, parent + 1 + actions[:, depth - 1], node)
        return node

    def at(self, features: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Weight base features, `(..., n, base)`, by the knots near alphas, `(n,)`: `(..., n, knots * base)`."""
        if not len(self.knots):
            return features
        return torch.einsum("nk,...nf->...nkf", self.knot_weights(alphas), features).flatten(-2)

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

    def node_features(self, observer: Observer, rows: Ints, device: Device = "cpu") -> torch.Tensor:
        """Return the base features of all decision nodes, `(D, rows, base)`; a text that they all observe is projected once."""
        table, width, layout = observer.table, self.rank or self.layout.dimensions, self.layout
        features = torch.empty(table.n_decision_nodes, len(rows), self.base_size, device=device)
        for part in range(layout.parts):
            texts = observer.texts[rows, :, part].T
            if (texts == texts[:1]).all():
                texts = texts[:1]
            vectors = torch.from_numpy(table.vectors[texts.ravel()]).to(device)
            features[..., part * width : (part + 1) * width] = self._project(vectors, part).view(*texts.shape, width)
        terms = layout.parts * width
        responses = terms + layout.terms
        path = responses + layout.response_terms
        if layout.terms:
            features[..., terms:responses] = torch.from_numpy(observer.contained[rows]).to(device)
        if layout.response_terms:
            contained = observer.contained_in_responses[observer.texts[rows, :, -1].T]
            features[..., responses:path] = torch.from_numpy(contained).to(device)
        features[..., path:-1] = torch.from_numpy(observer.path).to(device)[:, None]
        features[..., -1] = torch.from_numpy(observer.cost[rows].T).to(device)
        return features.sub_(self.offset).mul_(self.scale)

    @torch.no_grad()
    def fit(self, observer: Observer) -> None:
        """Fit components, and the scales of terms and cost, on the training split."""
        table, layout = observer.table, self.layout
        train = table.rows("train")
        width = self.rank or layout.dimensions
        for part in range(layout.parts) if self.rank else ():
            texts = np.unique(observer.texts[train, :, part])
            texts = texts[texts > 0]
            if not len(texts):  # with one hop, no response is ever observed
                continue
            vectors = table.vectors[texts[:: -(-len(texts) // MAX_FITTED_TEXTS)]]
            mean = vectors.mean(0, dtype=np.float64)
            centred = vectors - mean.astype(np.float32)
            variances, axes = np.linalg.eigh((centred.T @ centred / len(centred)).astype(np.float64))
            top = np.argsort(-variances)[: self.rank]
            components = torch.from_numpy(axes[:, top] / np.sqrt(max(variances[top].mean(), 1e-12)))
            self.components[part] = components
            self.offset[part * width : (part + 1) * width] = torch.from_numpy(mean) @ components
        first = layout.parts * width
        if layout.terms:
            self._fit_terms(slice(first, first + layout.terms), observer.contained[train], weight=1)
        if layout.response_terms:
            first += layout.terms
            texts = np.unique(observer.texts[train, 1:, -1])
            weight = RESPONSE_TERMS_WEIGHT
            self._fit_terms(slice(first, first + layout.response_terms), observer.contained_in_responses[texts], weight)
        self.scale[-1] = 1 / max(float(observer.cost[train].std()), 1e-6)

    def _fit_terms(self, place: slice, contained: Observations, weight: float) -> None:
        """Scale terms such that all of them together have the variance of `weight ** 2` components."""
        self.offset[place] = torch.from_numpy(contained.mean(0))
        self.scale[place] = weight / max(float(np.sqrt(contained.var(0).sum())), 1e-6)


def node_groups(extractor: BaseFeaturesExtractor, observer: Observer) -> torch.Tensor:
    """Return the group of every decision node, `(D,)`; none for features without groups."""
    if not isinstance(extractor, RouterFeatures) or not extractor.groups:
        return torch.empty(0, dtype=torch.int64)
    return extractor.group_of(torch.from_numpy(observer.path))


def group_size(extractor: BaseFeaturesExtractor) -> int:
    """Return the number of features of one group; all features, if there are no groups."""
    return extractor.grouped_size if isinstance(extractor, RouterFeatures) else extractor.features_dim


@torch.no_grad()
def node_features(
    extractor: BaseFeaturesExtractor, observer: Observer, rows: Ints, alpha: float | None = None, device: Device = "cpu"
) -> torch.Tensor:
    """Return the features of one group for all decision nodes of some rows, `(D, rows, features)`.

    Args:
        extractor: A policy's features extractor.
        observer: The table's observer.
        rows: Rows of the table.
        alpha: The alpha that a conditioned policy observes; None for base features, without alpha.
        device: The policy's device.
    """
    if not isinstance(extractor, RouterFeatures):
        features: torch.Tensor = extractor(torch.from_numpy(observer.all_nodes(rows, alpha or 0.0)).to(device))
        return features.view(observer.table.n_decision_nodes, len(rows), -1)
    features = extractor.node_features(observer, rows, device)
    return features if alpha is None else extractor.at(features, features.new_full((len(rows),), alpha))


def all_node_features(extractor: BaseFeaturesExtractor, observer: Observer, rows: Ints, device: Device = "cpu") -> torch.Tensor:
    """Return base features for many rows, `CHUNK_ROWS` at a time."""
    chunks = [rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS)]
    return torch.cat([node_features(extractor, observer, chunk, device=device) for chunk in chunks], 1)


def features_kwargs(observer: Observer, rank: int, first_layer: FirstLayer, alphas: Sequence[float] = ()) -> dict[str, Any]:
    """Return the `policy_kwargs` of a policy's features; call `fit_features` once the policy exists.

    Args:
        observer: The observer of the table.
        rank: Number of components kept of each embedding; 0 keeps the whole embedding.
        first_layer: Whether decision nodes share the first layer, or each hop or each node has weights of its own too.
        alphas: The alphas that the policy is conditioned on, if any.
    """
    layout, table = observer.layout, observer.table
    kwargs: dict[str, Any] = layout._asdict()
    for name in ("allowed", "response_terms"):
        if not kwargs[name]:
            del kwargs[name]
    kwargs["rank"] = min(rank, layout.dimensions, len(table.vectors) - 1)
    by_last_model = 1 + (table.horizon - 1) * table.n_models
    by_node = table.n_decision_nodes if table.n_decision_nodes <= MAX_NODE_GROUPS else by_last_model
    kwargs["groups"] = {"shared": 0, "hop": table.horizon, "node": by_node}[first_layer] if table.horizon > 1 else 0
    if alphas:
        kwargs["knots"] = evenly_spread(sorted(set(alphas)), MAX_KNOTS).tolist()
    return {"features_extractor_class": RouterFeatures, "features_extractor_kwargs": kwargs}


@torch.no_grad()
def fit_features(policy: nn.Module, observer: Observer) -> None:
    """Fit the features of a policy to the training split, and scale its first hidden layers to them.

    After scaling, a hidden unit's input has unit variance over decision nodes, as with layer-sequential unit-variance
    initialisation (Mishkin and Matas 2016): with most of a grouped layer's inputs 0, it would else start almost linear.
    """
    for module in policy.modules():
        if isinstance(module, RouterFeatures):
            module.fit(observer)
    if not isinstance(policy, ActorCriticPolicy):
        return
    rows = observer.table.rows("train")
    rows = rows[:: -(-len(rows) // MAX_FITTED_ROWS)]
    for extractor, layers in (
        (policy.pi_features_extractor, policy.mlp_extractor.policy_net),
        (policy.vf_features_extractor, policy.mlp_extractor.value_net),
    ):
        first = next((layer for layer in layers if isinstance(layer, nn.Linear)), None)
        if first is None or not isinstance(extractor, RouterFeatures):
            continue
        features = node_features(extractor, observer, rows, float(extractor.knots.mean()) if len(extractor.knots) else None)
        shared = first.weight[:, : extractor.grouped_size]
        shared /= max(float((features.flatten(0, 1) @ shared.t()).std()), 1e-6)
        first.weight[:, extractor.grouped_size :] *= 0  # groups start from what all nodes share
