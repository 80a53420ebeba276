"""What a policy observes at a decision node. Knows nothing of episodes."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from toolkit.core import tree
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.replay.terms import terms_in_questions, terms_in_responses

Observations = npt.NDArray[np.float32]


class Layout(NamedTuple):
    """The parts of an observation, in this order; with `with_alpha`, alpha follows as the last number.

    Attributes:
        parts: Number of embeddings.
        dimensions: Size of each.
        terms: Number of terms, each 1 if the question contains it.
        response_terms: Number of terms, each 1 if the newest response contains it.
        horizon: Number of hops L: one-hot, how many models have responded.
        models: Size of the pool M: for each of the first L - 1 hops, one-hot, which model responded; zeros if none has. The
            cost so far follows.
        allowed: M if some responses are missing, for each model 1 if it may be chosen; else 0.
    """

    parts: int
    dimensions: int
    terms: int
    horizon: int
    models: int
    allowed: int = 0
    response_terms: int = 0

    @property
    def embeddings(self) -> int:
        """Size of all embeddings together."""
        return self.parts * self.dimensions

    @property
    def texts(self) -> int:
        """Size of what describes texts: embeddings and terms."""
        return self.embeddings + self.terms + self.response_terms

    @property
    def path(self) -> int:
        """Size of the path: hop and models."""
        return self.horizon + (self.horizon - 1) * self.models

    @property
    def features(self) -> int:
        """Size of what describes the question and the path: all but which models may be chosen, and alpha."""
        return self.texts + self.path + 1

    @property
    def size(self) -> int:
        """Size of an observation without alpha."""
        return self.features + self.allowed


class Observer:
    """Turns (row, decision node) into observations, `(n, features)`, laid out as in `Layout`.

    The path is part of it, because two nodes with equal responses can still have different futures: only with the path are
    observations the states of a Markov decision process.

    Args:
        table: The table.
        terms: Terms of which the policy observes whether the question contains them.
        blind: Whether the policy sees neither the responses nor what they have cost: an ablation, to measure what reading
            them is worth.
        with_alpha: Whether alpha is observed too, as the last feature.
        masked: Whether the policy observes which models may be chosen; None if it does where some responses are missing.
        response_terms: Terms of which the policy observes whether the newest response contains them; none if it is blind.
    """

    def __init__(
        self,
        table: TransitionTable,
        terms: Sequence[str] = (),
        blind: bool = False,
        with_alpha: bool = False,
        masked: bool | None = None,
        response_terms: Sequence[str] = (),
    ) -> None:
        self.table = table
        self.terms = tuple(terms)
        self.response_terms = () if blind else tuple(response_terms)
        self.blind = blind
        self.with_alpha = with_alpha
        parts, dimensions = table.texts.shape[2], table.vectors.shape[1]
        masked = table.available is not None if masked is None else masked
        allowed = table.n_models if masked else 0
        sizes = (parts, dimensions, len(self.terms), table.horizon, table.n_models, allowed, len(self.response_terms))
        self.layout = Layout(*sizes)
        self.path = _paths(table)
        nodes = table.n_decision_nodes
        self.cost = np.zeros((len(table.split), nodes), np.float32) if blind else table.cost[:, :nodes].astype(np.float32)
        self.size = self.layout.size + with_alpha

    @cached_property
    def texts(self) -> npt.NDArray[np.int32]:
        """Rows of the table's vectors that each decision node observes, `(rows, D, parts)`; if blind, those of the root."""
        texts = self.table.texts
        return np.broadcast_to(texts[:, :1], texts.shape) if self.blind else texts

    @cached_property
    def contained(self) -> npt.NDArray[np.float32]:
        """Which terms each row's question contains, `(rows, terms)`."""
        return terms_in_questions(self.table, self.terms)

    @cached_property
    def contained_in_responses(self) -> npt.NDArray[np.float32]:
        """Which response terms each of the table's texts contains if it is a response, `(texts, response terms)`."""
        return terms_in_responses(self.table, self.response_terms)

    @property
    def space(self) -> "spaces.Box[np.floating[Any]]":
        """The observation space."""
        return spaces.Box(-np.inf, np.inf, (self.size,), np.float32)

    def __call__(self, rows: Ints, nodes: Ints, alpha: Floats | float = 0.0) -> Observations:
        """Observe decision nodes, each at an alpha, `(n,)`, or all at one; a node past the last hop gives zeros."""
        ended = np.flatnonzero(nodes >= self.table.n_decision_nodes)
        if len(ended):
            nodes = nodes.copy()
            nodes[ended] = 0
        layout, observations = self.layout, np.empty((len(rows), self.size), dtype=np.float32)
        texts = self.texts[rows, nodes]
        for part in range(layout.parts):
            embedding = observations[:, part * layout.dimensions : (part + 1) * layout.dimensions]
            np.take(self.table.vectors, texts[:, part], axis=0, out=embedding, mode="clip")  # other modes copy once more
        path, responses = layout.texts, layout.embeddings + layout.terms
        if layout.terms:
            observations[:, layout.embeddings : responses] = self.contained[rows]
        if layout.response_terms:
            observations[:, responses:path] = self.contained_in_responses[texts[:, -1]]
        observations[:, path : path + layout.path] = self.path[nodes]
        observations[:, layout.features - 1] = self.cost[rows, nodes]
        if layout.allowed:
            observations[:, layout.features : layout.size] = self.table.allowed[rows, nodes]
        if self.with_alpha:
            observations[:, -1] = alpha
        observations[ended] = 0
        return observations

    def all_nodes(self, rows: Ints, alpha: float = 0.0) -> Observations:
        """Observe every decision node of some rows at an alpha, `(D * rows, features)`: the first node on all rows, ..."""
        nodes = np.arange(self.table.n_decision_nodes)
        return self(np.tile(rows, len(nodes)), np.repeat(nodes, len(rows)), alpha)


def _paths(table: TransitionTable) -> npt.NDArray[np.float32]:
    """Return hop and path of every decision node, one-hot, `(D, L + (L - 1) * M)`."""
    paths = tree.paths(table.n_models, table.horizon - 1)
    encoded = np.zeros((len(paths), table.horizon + (table.horizon - 1) * table.n_models), dtype=np.float32)
    for node, path in enumerate(paths):
        encoded[node, len(path)] = 1
        for hop, action in enumerate(path):
            encoded[node, table.horizon + hop * table.n_models + action] = 1
    return encoded
