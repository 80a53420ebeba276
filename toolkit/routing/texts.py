"""Decisions from texts alone: a question and the responses so far become a table of one row each, which a router observes.

What the policy observes of that table is what it observes of a table from a cache, because the same code observes both
(`toolkit.replay.observations`). Knows no cache and no engine.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from toolkit.core import tree
from toolkit.core.errors import PolicyError, did_you_mean
from toolkit.core.text import printable
from toolkit.engines.encoder import Encode
from toolkit.replay.table import STOP, Floats, Ints, TransitionTable, existing_nodes
from toolkit.suites.config import SuiteConfig

Mask = npt.NDArray[np.bool_]
"""Whether a router may choose each node of a tree, `(N,)`."""


class TableRouter(Protocol):
    """What decides on a table: a trained router."""

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float | None = None) -> Floats:
        """Return the action probabilities at every decision node of some rows, `(rows, D, actions)`."""
        ...


class Response(NamedTuple):
    """What a model of the pool returned at a hop.

    Attributes:
        model: Name of the model.
        text: The response.
        cost: Cost of this hop alone, in cost units.
        prompt_tokens: Tokens of the prompt; None if they are not known.
        completion_tokens: Tokens of the response; likewise.
        finish_reason: Why the response ended: `stop`, `length` or `content_filter`; None if that is not known.
        cached: Whether it came from the cache, so that no model had to respond.
    """

    model: str
    text: str
    cost: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    cached: bool = False


class Context(NamedTuple):
    """A question, the responses so far, and the nodes that may be chosen; None for all that the suite's tree has."""

    question: str
    responses: tuple[Response, ...] = ()
    available: Mask | None = None


class Decision(NamedTuple):
    """What a greedy router decides.

    Attributes:
        action: The most probable action: the name of a model, or `stop`.
        probabilities: The probability of each action, by name; they sum to 1.
    """

    action: str
    probabilities: Mapping[str, float]

    @property
    def stops(self) -> bool:
        """Whether the router ends with the current response."""
        return self.action == STOP


def decide(
    router: TableRouter, contexts: Sequence[Context], config: SuiteConfig, encode: Encode, alpha: float | None = None
) -> list[Decision]:
    """Return what a greedy router does in each context.

    Args:
        router: The router.
        contexts: The contexts; each has fewer responses than there are hops.
        config: The suite, for its pool, its tree and its features.
        encode: The suite's encoder.
        alpha: The alpha that a conditioned router observes; None for its run's.

    Raises:
        PolicyError: The router was trained for another pool, horizon or encoder; or a context is none of the suite's.
    """
    models = [model.name for model in config.models]
    nodes = [_node(context, models, config.horizon) for context in contexts]
    table = text_table(contexts, nodes, config, encode)
    rows = np.arange(len(contexts))
    probabilities = router.probabilities(table, rows, alpha)[rows, nodes]
    actions = [*models, STOP][: probabilities.shape[1]]
    return [
        Decision(actions[int(of_actions.argmax())], dict(zip(actions, of_actions.tolist(), strict=True)))
        for of_actions in probabilities
    ]


def _node(context: Context, models: Sequence[str], horizon: int) -> int:
    """Return the number of the decision node that a context is at.

    Raises:
        PolicyError: A response is of no model of the pool, or the last hop is over.
    """
    path = [response.model for response in context.responses]
    for name in path:
        if name not in models:
            raise PolicyError(f"The pool has no model {printable(name)!r}: {did_you_mean(name, models)}.")
    if len(path) >= horizon:
        raise PolicyError(f"There is nothing to decide after {len(path)} responses: the router has {horizon} hops.")
    return tree.node_of(tuple(models.index(name) for name in path), len(models))


def text_table(contexts: Sequence[Context], nodes: Sequence[int], config: SuiteConfig, encode: Encode) -> TransitionTable:
    """Return the table of some contexts, each at its node; what other nodes would observe is left out.

    Args:
        contexts: The contexts, one per row.
        nodes: The decision node of each.
        config: The suite.
        encode: The suite's encoder.
    """
    models, horizon = tuple(model.name for model in config.models), config.horizon
    rows, exists, is_newest = len(contexts), existing_nodes(config), config.features.text == "newest"
    hop_cost = np.zeros((rows, len(exists)))
    texts = np.zeros((rows, tree.n_decision_nodes(len(models), horizon), 2 if is_newest else 1), dtype=np.int32)
    index: dict[str, int] = {}  # of each text in `vectors`, whose row 0 stands for no text
    for row, (context, node) in enumerate(zip(contexts, nodes, strict=True)):
        path = tree.path_of(node, len(models))
        for depth, response in enumerate(context.responses, start=1):
            hop_cost[row, tree.node_of(path[:depth], len(models))] = response.cost
        observed = [context.question, *(response.text for response in context.responses)]
        if is_newest:
            texts[row, :, 0] = index.setdefault(context.question, 1 + len(index))
        if not is_newest or node:
            text = observed[-1] if is_newest else "\n\n".join(observed)
            texts[row, node, -1] = index.setdefault(text, 1 + len(index))
    embeddings = encode(list(index))
    newest = {context.responses[-1].text for context in contexts if context.responses}
    return TransitionTable(
        models=models,
        horizon=horizon,
        benchmarks=("",),
        benchmark=np.zeros(rows, dtype=np.int64),
        split=np.array(["test"] * rows),
        quality=np.zeros((rows, len(exists))),
        hop_cost=hop_cost,
        vectors=np.vstack([np.zeros((1, embeddings.shape[1]), np.float32), embeddings]),
        texts=texts,
        questions=tuple(context.question for context in contexts),
        responses=("", *(text if text in newest else "" for text in index)) if is_newest and horizon > 1 else (),
        available=_available(contexts, exists),
        exists=None if exists.all() else exists,
    )


def _available(contexts: Sequence[Context], exists: Mask) -> npt.NDArray[np.bool_] | None:
    """Return which nodes may be chosen in each context, `(contexts, N)`; None if all may be."""
    if exists.all() and all(context.available is None for context in contexts):
        return None
    return np.stack([exists if context.available is None else context.available for context in contexts])
