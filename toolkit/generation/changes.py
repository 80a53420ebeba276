"""What regenerated responses change: how many of them, their quality, and the ranking of the fixed paths.

Knows nothing of engines or of how the responses were generated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import numpy as np
from scipy.stats import kendalltau

from toolkit.core.errors import IncompleteCacheError
from toolkit.engines import Completion
from toolkit.generation.scoring import Scoring, score
from toolkit.replay.costs import hop_cost, in_cost_units
from toolkit.replay.exact import node_means, node_outcome
from toolkit.replay.table import EXCLUDED, Floats, TransitionTable, load_table
from toolkit.store import Cache, ScoredNode
from toolkit.suites.resolving import metric_of
from toolkit.suites.suite import Suite

Completions = Mapping[UUID, Completion | None]
"""What was regenerated, by generation; None for a failure."""


class Changes(NamedTuple):
    """How regenerating changed the responses of one model.

    Attributes:
        batch: How prompts were batched: as generated, or their number per batch.
        model: Name of the model.
        dtype: Its precision.
        regenerated: Responses that were generated again.
        changed: How many of them differ from the cached ones.
        failed: How many failed this time.
        share: changed / regenerated.
        quality: Mean quality of the cached responses over the nodes that share them.
        quality_again: The same of the regenerated responses.
    """

    batch: str
    model: str
    dtype: str
    regenerated: int
    changed: int
    failed: int
    share: float
    quality: float
    quality_again: float


class Ranking(NamedTuple):
    """How the changed responses affect the order of all fixed paths, of every length, by mean reward.

    Attributes:
        batch: How prompts were batched.
        replaced: Share of the suite's nodes whose response was generated again; the others keep theirs, and so do the
            contexts below a changed response.
        policies: Number of fixed paths compared.
        moved: How many of them change their rank.
        kendall: Kendall's tau between the two orders; 1 if they are the same.
        best: The path with the highest mean reward with the cached responses.
        best_again: The same with the regenerated responses.
        largest: Largest change of a path's mean reward.
    """

    batch: str
    replaced: float
    policies: int
    moved: int
    kendall: float
    best: str
    best_again: str
    largest: float


class Regeneration(NamedTuple):
    """All changes; there are no rankings of a suite that is incomplete."""

    changes: tuple[Changes, ...]
    rankings: tuple[Ranking, ...]


class RegeneratedNode(NamedTuple):
    """A node whose response was generated again.

    Attributes:
        cached: The node as cached.
        completion: What was generated now; None for a failure.
        quality: Quality of the new response, or of the cached one after a failure.
    """

    cached: ScoredNode
    completion: Completion | None
    quality: float


def compare(suite: Suite, cache: Cache, completions: Mapping[str, Completions]) -> Regeneration:
    """Compare regenerated responses with the cached ones.

    Args:
        suite: The recorded suite.
        cache: Its cache.
        completions: What was regenerated, by how prompts were batched; the same generations for each.
    """
    cached = cache.generations.scored_nodes(suite.key, list(next(iter(completions.values()))))
    try:
        table = load_table(cache, suite)
    except IncompleteCacheError:
        table = None
    changes, rankings = [], []
    for batch, regenerated in completions.items():
        nodes = _score(suite, cached, regenerated)
        changes += _changes(batch, suite, nodes)
        if table:
            rankings.append(_rank(batch, suite, cache, table, nodes))
    return Regeneration(changes=tuple(changes), rankings=tuple(rankings))


def _score(suite: Suite, cached: Sequence[ScoredNode], completions: Completions) -> list[RegeneratedNode]:
    """Score the regenerated responses by the suite's quality metric."""
    questions = {question.key: question for question in suite.questions}
    pairs = sorted({(node.question, completion.response) for node in cached if (completion := completions[node.generation])})
    scorings = [
        Scoring(question=questions[question], response=response, metric=metric_of(questions[question]))
        for question, response in pairs
    ]
    scores = score(scorings, suite.config.code.sandbox)
    quality = {pair: row["value"] for pair, row in zip(pairs, scores, strict=True)}
    nodes = []
    for node in cached:
        completion = completions[node.generation]
        new_quality = quality[node.question, completion.response] if completion else node.quality
        nodes.append(RegeneratedNode(cached=node, completion=completion, quality=new_quality))
    return nodes


def _changes(batch: str, suite: Suite, nodes: Sequence[RegeneratedNode]) -> list[Changes]:
    """Summarise the changes of each model that generated any of the responses."""
    changes = []
    for model in suite.models:
        model_nodes = [node for node in nodes if node.cached.model == model.key]
        if not model_nodes:
            continue
        generations = {node.cached.generation: node for node in model_nodes}.values()
        changed = sum(node.completion is not None and node.completion.response != node.cached.response for node in generations)
        changes.append(
            Changes(
                batch=batch,
                model=model.name,
                dtype=str(model.identity["dtype"]),
                regenerated=len(generations),
                changed=changed,
                failed=sum(node.completion is None for node in generations),
                share=changed / len(generations),
                quality=float(np.mean([node.cached.quality for node in model_nodes])),
                quality_again=float(np.mean([node.quality for node in model_nodes])),
            )
        )
    return changes


def _rank(batch: str, suite: Suite, cache: Cache, table: TransitionTable, nodes: Sequence[RegeneratedNode]) -> Ranking:
    """Rank the fixed paths with the cached and with the regenerated responses."""
    regenerated = _replace_responses(suite, cache, table, nodes)
    before, after = (_rewards(either, suite.config.train.alpha) for either in (table, regenerated))
    ranks_before, ranks_after = ((-rewards).argsort(kind="stable").argsort(kind="stable") for rewards in (before, after))
    same_order = bool((ranks_before == ranks_after).all())
    rows, tree_nodes = table.quality.shape
    return Ranking(
        batch=batch,
        replaced=len(nodes) / (rows * (tree_nodes - 1)),
        policies=len(before),
        moved=int((ranks_before != ranks_after).sum()),
        kendall=1.0 if same_order else float(kendalltau(before, after).statistic),
        best=table.path_name(int(before.argmax()) + 1),
        best_again=table.path_name(int(after.argmax()) + 1),
        largest=float(np.abs(after - before).max()),
    )


def _replace_responses(suite: Suite, cache: Cache, table: TransitionTable, nodes: Sequence[RegeneratedNode]) -> TransitionTable:
    """Return the table with the quality and cost of the regenerated responses; failures keep the cached ones."""
    cost_unit = cache.suites.cost_unit(suite.key)
    assert cost_unit is not None  # the table is complete
    models = {model.key: model for model in suite.models}
    quality, costs = table.quality.copy(), table.hop_cost.copy()
    for node in nodes:
        if node.completion:
            place = node.cached.position, node.cached.number
            model = models[node.cached.model]
            tokens = float(node.cached.prompt_tokens), float(node.completion.completion_tokens)
            quality[place] = node.quality
            costs[place] = in_cost_units(hop_cost(*tokens, model.rate_in, model.rate_out), cost_unit)
    return replace(table, quality=quality, hop_cost=costs)


def _rewards(table: TransitionTable, alpha: float) -> Floats:
    """Return the mean reward of every fixed path, of every length, over benchmarks, `(nodes below the root,)`."""
    rows = np.flatnonzero(table.split != EXCLUDED)
    nodes = np.arange(1, table.quality.shape[1])
    return node_means(table, rows, nodes, node_outcome(table, rows[:, None], nodes).reward(alpha), missing=0.0)
