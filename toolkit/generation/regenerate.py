"""Generates a sample of a suite's cached responses again and says how many change, and what that does to the ranking.

Greedy decoding is not bitwise stable: another batch adds up in another order, and a close call between two tokens goes the
other way. The cache makes transitions deterministic; how much a cache made with other batches would have differed is measured
here. Nothing is written.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import NamedTuple
from uuid import UUID

import numpy as np
from scipy.stats import kendalltau

from toolkit.core.errors import IncompleteCacheError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, OpenEngine, Prompt, open_engine
from toolkit.engines.guard import Guard, TokenBudget
from toolkit.generation.recheck import same_models
from toolkit.generation.scoring import Scoring, check, score
from toolkit.replay.costs import hop_cost, in_cost_units
from toolkit.replay.exact import benchmark_weights, node_outcome
from toolkit.replay.table import EXCLUDED, Floats, TransitionTable, load_table
from toolkit.store import Cache
from toolkit.suites.suite import Suite, metric_of

AS_GENERATED = "as generated"
"""The batches that the suite's own run forms: its token token_budget, longest prompts first."""


class Sampled(NamedTuple):
    """A cached response that is generated again."""

    generation: UUID
    prompt: Prompt
    response: str


class Changes(NamedTuple):
    """What regenerating did to the responses of one model.

    Attributes:
        batch: How prompts were batched: as generated, or their number.
        model: Name of the model.
        dtype: Its precision.
        regenerated: Responses generated again.
        changed: How many of them differ from the cached ones.
        failed: How many have no answer this time.
        share: changed / regenerated.
        quality: Mean quality of the cached responses over the nodes that share them.
        quality_again: The same of the regenerated ones.
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
    """What the changed responses do to the order of all fixed paths (of every length, each model alone among them) by mean R.

    Attributes:
        batch: How prompts were batched.
        replaced: Share of the suite's nodes whose response was generated again; the others keep theirs, and so do the
            contexts below a changed answer.
        policies: Number of fixed paths compared.
        moved: How many of them change their place.
        kendall: Kendall's tau between the two orders; 1 where they are the same.
        best: The path with the highest mean reward with the cached responses.
        best_again: The same with the regenerated ones.
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


class Regenerated(NamedTuple):
    """All of it; there is no ranking of a suite that is not whole."""

    changes: tuple[Changes, ...]
    rankings: tuple[Ranking, ...]


def regenerate(
    suite: Suite,
    cache: Cache,
    workspace: Workspace,
    share: float,
    batch_sizes: Sequence[int] = (),
    seed: int = 0,
    engine: OpenEngine = open_engine,
) -> Regenerated:
    """Generate a seeded sample of a suite's responses again: in the batches of its own run, and in batches of other sizes.

    Args:
        suite: The recorded suite.
        cache: Its cache, which is only read.
        workspace: The suite file's folder, and the folder of downloads.
        share: Share of the responses to generate again, in (0, 1]; whole batches are drawn until it is reached.
        batch_sizes: Further numbers of prompts a batch.
        seed: Another seed draws other batches.
        engine: Opens an engine for a model.

    Raises:
        CheckpointError: The weights at hand are not those that generated the cache, or cannot be had.
        SandboxError: The suite's quality means running code, and that is not allowed here.
    """
    check(suite.config, suite.questions)
    same_models(suite, workspace)
    drawn = _draw(suite, cache, share, seed)
    outcomes: dict[str, dict[UUID, Completion | None]] = {name: {} for name in (AS_GENERATED, *map(str, batch_sizes))}
    for model, config in zip(suite.models, suite.config.models, strict=True):
        batches = [_fetch(cache, batch) for batch in drawn.get(model.key, [])]
        if not batches:
            continue
        everything = sorted((one for batch in batches for one in batch), key=lambda one: -one.prompt.tokens)
        opened = partial(engine, suite.config.engine, config, workspace)
        with closing(Guard(opened, config.max_tokens, TokenBudget(0), suite.config.engine.batch_timeout)) as guard:
            outcomes[AS_GENERATED] |= _again(guard, batches)
            for size in batch_sizes:
                outcomes[str(size)] |= _again(guard, _cut(everything, size))
    return _compare(suite, cache, outcomes)


def _draw(suite: Suite, cache: Cache, share: float, seed: int) -> dict[UUID, list[list[UUID]]]:
    """Draw batches until they hold a share of the suite's responses; returns the keys of their generations by model."""
    rows = cache.arrow(
        "SELECT g.model, min(n.depth) AS depth, g.generation, g.prompt_tokens, g.status FROM suite_questions AS q"
        " JOIN nodes AS n ON n.root = q.root AND n.depth > 0 JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path"
        " JOIN generations AS g ON g.generation = n.generation WHERE q.suite = $suite"
        " GROUP BY g.model, g.generation, g.prompt_tokens, g.status, g.prompt, g.sample"
        " ORDER BY g.model, depth, g.prompt_tokens DESC, g.prompt, g.sample",
        {"suite": suite.key},
    ).to_pylist()
    hops: dict[tuple[UUID, int], list[tuple[UUID, int, bool]]] = defaultdict(list)
    for row in rows:
        hops[UUID(row["model"]), row["depth"]].append((UUID(row["generation"]), row["prompt_tokens"], row["status"] == "ok"))
    longest = {model.key: config.max_tokens for model, config in zip(suite.models, suite.config.models, strict=True)}
    token_budget = TokenBudget(suite.config.engine.token_budget)
    batches: list[tuple[UUID, list[UUID]]] = []
    for (model, _), jobs in hops.items():
        start = 0
        while start < len(jobs):
            rows_of_batch = token_budget.rows(jobs[start][1] + longest[model])
            part = [generation for generation, _, answered in jobs[start : start + rows_of_batch] if answered]
            start += rows_of_batch
            if part:
                batches.append((model, part))
    batches.sort(key=lambda batch: hashlib.sha256(f"{seed} {batch[1][0]}".encode()).digest())
    wanted, count = math.ceil(share * sum(len(part) for _, part in batches)), 0
    drawn: dict[UUID, list[list[UUID]]] = defaultdict(list)
    for model, part in batches:
        if count < wanted:
            drawn[model].append(part)
            count += len(part)
    return dict(drawn)


def _fetch(cache: Cache, generations: Sequence[UUID]) -> list[Sampled]:
    """Read a batch, in its order."""
    rows = cache.arrow(
        "SELECT generation, prompt, prompt_tokens, response FROM generations WHERE generation IN"
        " (SELECT unnest($keys::UUID[]))",
        {"keys": [str(generation) for generation in generations]},
    ).to_pylist()
    found = {UUID(row["generation"]): row for row in rows}
    return [
        Sampled(key, Prompt(found[key]["prompt"], found[key]["prompt_tokens"], key.int % 2**63), found[key]["response"])
        for key in generations
    ]


def _cut(sampled: Sequence[Sampled], size: int) -> Iterator[Sequence[Sampled]]:
    for start in range(0, len(sampled), size):
        yield sampled[start : start + size]


def _again(guard: Guard, batches: Iterator[Sequence[Sampled]] | list[list[Sampled]]) -> dict[UUID, Completion | None]:
    """Answer batches as they are, but for what memory does not allow."""
    found: dict[UUID, Completion | None] = {}
    for batch in batches:
        guard.token_budget.tokens = len(batch) * (batch[0].prompt.tokens + guard.max_tokens)
        answers = guard.generate([one.prompt for one in batch])
        found |= {
            one.generation: answer if isinstance(answer, Completion) else None
            for one, answer in zip(batch, answers, strict=True)
        }
    return found


class _Node(NamedTuple):
    """A node whose response was generated again."""

    generation: UUID
    position: int
    number: int
    question: UUID
    model: UUID
    prompt_tokens: int
    response: str
    quality: float


def _nodes(suite: Suite, cache: Cache, generations: Sequence[UUID]) -> list[_Node]:
    rows = cache.arrow(
        "SELECT n.generation, q.position, p.number, q.question, g.model, g.prompt_tokens, g.response, c.value AS quality"
        " FROM suite_questions AS q JOIN nodes AS n ON n.root = q.root"
        " JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path"
        " JOIN generations AS g ON g.generation = n.generation"
        " JOIN scores AS c ON c.question = q.question AND c.text = g.text AND c.metric = q.metric"
        " WHERE q.suite = $suite AND n.generation IN (SELECT unnest($keys::UUID[]))",
        {"suite": suite.key, "keys": [str(generation) for generation in generations]},
    ).to_pylist()
    return [
        _Node(**row | {"generation": UUID(row["generation"]), "question": UUID(row["question"]), "model": UUID(row["model"])})
        for row in rows
    ]


def _compare(suite: Suite, cache: Cache, outcomes: Mapping[str, Mapping[UUID, Completion | None]]) -> Regenerated:
    nodes = _nodes(suite, cache, list(outcomes[AS_GENERATED]))
    questions = {question.key: question for question in suite.questions}
    try:
        table = load_table(cache, suite)
    except IncompleteCacheError:
        table = None
    changes, rankings = [], []
    for batch, answers in outcomes.items():
        pairs = sorted({(node.question, answer.response) for node in nodes if (answer := answers[node.generation])})
        scorings = [Scoring(questions[question], response, metric_of(questions[question])) for question, response in pairs]
        values = [row["value"] for row in score(scorings, suite.config.code.sandbox)]
        quality = partial(_quality, answers, dict(zip(pairs, values, strict=True)))

        for model in suite.models:
            here = [node for node in nodes if node.model == model.key]
            cached = {node.generation: node.response for node in here}
            if not cached:
                continue
            changed = sum((answer := answers[key]) is not None and answer.response != old for key, old in cached.items())
            failed = sum(answers[key] is None for key in cached)
            changes.append(
                Changes(
                    *(batch, model.name, str(model.identity["dtype"]), len(cached), changed, failed, changed / len(cached)),
                    float(np.mean([node.quality for node in here])),
                    float(np.mean([quality(node) for node in here])),
                )
            )
        if table:
            rankings.append(_rank(batch, suite, cache, table, nodes, answers, quality))
    return Regenerated(tuple(changes), tuple(rankings))


def _quality(answers: Mapping[UUID, Completion | None], scores: Mapping[tuple[UUID, str], float], node: _Node) -> float:
    """Return the quality of a node's new response, or of the cached one where there is none."""
    answer = answers[node.generation]
    return scores[node.question, answer.response] if answer else node.quality


def _rank(
    batch: str,
    suite: Suite,
    cache: Cache,
    table: TransitionTable,
    nodes: Sequence[_Node],
    answers: Mapping[UUID, Completion | None],
    quality: Callable[[_Node], float],
) -> Ranking:
    unit = cache.arrow("SELECT cost_unit FROM suites WHERE suite = $suite", {"suite": suite.key})["cost_unit"][0].as_py()
    rates = {model.key: (model.rate_in, model.rate_out) for model in suite.models}
    qualities, costs = table.quality.copy(), table.hop_cost.copy()
    for node in nodes:
        answer = answers[node.generation]
        if answer:
            qualities[node.position, node.number] = quality(node)
            raw = hop_cost(float(node.prompt_tokens), float(answer.completion_tokens), *rates[node.model])
            costs[node.position, node.number] = in_cost_units(raw, unit)
    before, after = (
        _rewards(one, suite.config.train.alpha) for one in (table, replace(table, quality=qualities, hop_cost=costs))
    )
    places = [(-rewards).argsort(kind="stable").argsort(kind="stable") for rewards in (before, after)]
    tau = 1.0 if (places[0] == places[1]).all() else float(kendalltau(before, after).statistic)
    return Ranking(
        batch,
        len(nodes) / (table.quality.shape[0] * (table.quality.shape[1] - 1)),
        len(before),
        int((places[0] != places[1]).sum()),
        tau,
        table.path_name(int(before.argmax()) + 1),
        table.path_name(int(after.argmax()) + 1),
        float(np.abs(after - before).max()),
    )


def _rewards(table: TransitionTable, alpha: float) -> Floats:
    """Return the mean reward of every fixed path, of every length, over benchmarks; `(nodes below the root,)`."""
    rows = np.flatnonzero(table.split != EXCLUDED)
    below = np.arange(1, table.quality.shape[1])
    found: Floats = benchmark_weights(table, rows) @ node_outcome(table, rows[:, None], below).reward(alpha)
    return found
