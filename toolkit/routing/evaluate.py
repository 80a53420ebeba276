"""Evaluation: what a router and its baselines are worth on a split, exactly, with intervals over questions.

Nothing is rolled out: values are weighted by the policy's action probabilities. Whatever is selected (models, fixed paths) is
selected on the training split. Baselines may stop where the router may.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from scipy.stats import bootstrap

from toolkit.core import tree
from toolkit.replay.exact import (
    Outcome,
    benchmark_weights,
    best_fixed_path,
    best_fixed_path_per_benchmark,
    ends,
    node_outcome,
    oracle,
    outcome,
    path_shares,
    rows_by_benchmark,
)
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.baselines import predictors
from toolkit.routing.overhead import Overhead, decisions
from toolkit.routing.router import Router
from toolkit.store import Cache, now
from toolkit.suites.suite import Split, Suite

OVERALL = "overall"
STOP = "stop"
"""The action that ends an episode, as it is recorded."""
RESAMPLES = 2000
COLLAPSED = 0.95
"""A router that takes one path more often than this has stopped routing."""


class Estimate(NamedTuple):
    """A mean over questions and its 95% interval; the interval is nan where there is only one question."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """One policy on one benchmark, or overall.

    Attributes:
        policy: router, router (greedy), a model or fixed path, best of them (overall, or of each benchmark), kNN, linear,
            random or oracle.
        benchmark: A benchmark, or `overall`, the unweighted mean of benchmarks.
        synthetic: Whether a program made up the questions (of any benchmark, for overall).
        questions: Number of rows.
        quality: Q, in [0, 1].
        cost: C, in cost units.
        reward: R = Q - alpha * C.
        lead: How far the router's reward is above this policy's, question by question.
        improvement: Probability that the router's reward is above this policy's on a question, ties counted half.
        multiple: The router's quality divided by this policy's; inf or nan where that is 0.
        share: The router's reward divided by this policy's; nan where that is not above 0.
        paths: Share of each path taken, largest first.
    """

    policy: str
    benchmark: str
    synthetic: bool
    questions: int
    quality: Estimate
    cost: Estimate
    reward: Estimate
    lead: Estimate
    improvement: Estimate
    multiple: Estimate
    share: Estimate
    paths: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """All results of one evaluation; its overhead is what was measured of the router, None where nothing was."""

    run: str
    suite: str
    split: Split
    alpha: float
    best_model: str
    best_fixed_path: str
    results: tuple[Result, ...]
    overhead: Overhead | None = None

    def result(self, policy: str, benchmark: str = OVERALL) -> Result:
        """Return one result."""
        return next(r for r in self.results if (r.policy, r.benchmark) == (policy, benchmark))

    @property
    def policies(self) -> list[str]:
        """Names of the policies, in the order shown."""
        return list(dict.fromkeys(result.policy for result in self.results))

    @property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks that have questions in the split, `overall` left out."""
        return [name for name in dict.fromkeys(result.benchmark for result in self.results) if name != OVERALL]


class Policy(NamedTuple):
    """A policy as evaluated: what it is worth on each row, and which path it takes, `(rows, paths)`."""

    outcome: Outcome
    paths: tuple[str, ...]
    shares: Floats


class Resampled(NamedTuple):
    """Means over the questions of one benchmark, `(values,)`, and over bootstrap resamples of them, `(values, RESAMPLES)`."""

    mean: Floats
    replicates: Floats


def best_model(table: TransitionTable, rows: Ints, alpha: float) -> int:
    """Return the node of the model with the highest mean reward over benchmarks when asked once, selected on the given rows."""
    weights = benchmark_weights(table, rows)
    first = np.arange(1, 1 + table.n_models)
    return int(first[(weights @ node_outcome(table, rows[:, None], first).reward(alpha)).argmax()])


def best_model_per_benchmark(table: TransitionTable, rows: Ints, alpha: float) -> Ints:
    """Return the node of the best model of every benchmark, `(benchmarks,)`, selected on the given rows.

    A benchmark without rows there gets the model that is best overall.
    """
    return np.array([best_model(table, here, alpha) for here in rows_by_benchmark(table, rows)])


def policies(
    table: TransitionTable,
    split: Split,
    alpha: float,
    probabilities: Sequence[Floats],
    baselines: bool = True,
    overhead: Overhead | None = None,
) -> dict[str, Policy]:
    """Put a router beside its baselines on a split.

    Args:
        table: The table.
        split: The split.
        alpha: Price of cost, for the oracle and the choice of the best fixed path.
        probabilities: Of every action at every decision node of its rows, `(rows, D, M)`, or `(rows, D, M + 1)` where the
            router may stop; the oracle and the fixed paths may then, too. Of several routers, one draws for each question.
        baselines: Whether to fit kNN and the linear predictor and to list every fixed path.
        overhead: What is charged of the router at each decision, and of kNN and the linear predictor for the question.
    """
    actions = probabilities[0].shape[-1]
    allow_stop = actions > table.n_models
    at, train, rows = ends(table, allow_stop), table.rows("train"), table.rows(split)
    names = tuple(table.path_name(node) for node in range(at.start, at.stop))

    def of_chances(chances: Sequence[Floats], decision: float = 0.0) -> Policy:
        shares = np.mean([path_shares(table, one) for one in chances], axis=0)
        return Policy(outcome(table, rows, shares).charged(decision * decisions(table, shares)), names, shares)

    def of_nodes(nodes: Ints, question: float = 0.0) -> Policy:
        chosen, place = np.unique(nodes, return_inverse=True)
        value = node_outcome(table, rows, nodes).charged(question)
        return Policy(value, tuple(map(table.path_name, chosen)), np.eye(len(chosen))[place])

    def of_node(node: int) -> Policy:
        return Policy(node_outcome(table, rows, node), (table.path_name(node),), np.ones((len(rows), 1)))

    decision, question = (overhead.decision, overhead.question) if overhead else (0.0, 0.0)
    greedy = [most_probable(one) for one in probabilities]
    found = {"router": of_chances(probabilities, decision), "router (greedy)": of_chances(greedy, decision)}
    repeated = {}
    for action in range(table.n_models):
        for hops in range(1, table.horizon + 1):
            node = tree.node_of((action,) * hops, table.n_models)
            repeated[node] = table.models[action] + (f" x{hops}" if hops > 1 else "")
            found[repeated[node]] = of_node(node)
    found["best model"] = of_node(best_model(table, train, alpha))
    found["best fixed path"] = of_node(int(best_fixed_path(table, train, alpha, allow_stop)))
    benchmark = table.benchmark[rows]
    found["best model per benchmark"] = of_nodes(best_model_per_benchmark(table, train, alpha)[benchmark])
    found["best path per benchmark"] = of_nodes(best_fixed_path_per_benchmark(table, train, alpha, allow_stop)[benchmark])
    if baselines:
        fitted = predictors(table, split, allow_stop)
        found |= {name: of_nodes(predictor.choose(alpha), question) for name, predictor in fitted.items()}
    found["random"] = of_chances([np.full((len(rows), table.n_decision_nodes, actions), 1 / actions)])
    found["oracle"] = of_nodes(oracle(table, rows, alpha, allow_stop))
    if baselines:
        found |= {table.path_name(node): of_node(node) for node in range(at.start, at.stop) if node not in repeated}
    return found


def most_probable(probabilities: Floats) -> Floats:
    """Put all probability on the most probable action: what `predict(deterministic=True)` takes."""
    chosen: Floats = np.eye(probabilities.shape[-1])[probabilities.argmax(-1)]
    return chosen


def resample(values: Floats, seed: int = 0) -> Resampled:
    """Resample the questions of one benchmark, all values of a question together, so that differences stay paired.

    Args:
        values: Per-question values, `(values, questions)`.
        seed: Seed of the resampling.
    """
    n = values.shape[1]
    if n < 2:
        return Resampled(values.mean(1), np.full((len(values), RESAMPLES), np.nan))

    def means(drawn: Ints, axis: int) -> Floats:
        """Return the means of resamples, `(values, resamples)`, from the numbers of their questions, `(resamples, n)`."""
        flat = drawn.reshape(-1, n)
        counts = np.bincount((flat + n * np.arange(len(flat))[:, None]).ravel(), minlength=flat.size).reshape(len(flat), n)
        found: Floats = values @ (counts.T / n)
        return found.reshape(len(values), *drawn.shape[:-1])

    found = bootstrap(
        (np.arange(n),), means, n_resamples=RESAMPLES, batch=200, method="percentile", rng=np.random.default_rng(seed)
    )
    return Resampled(values.mean(1), found.bootstrap_distribution)


def together(parts: Sequence[Resampled]) -> Resampled:
    """Return the unweighted mean of benchmark means, of which each is resampled apart."""
    return Resampled(np.mean([part.mean for part in parts], axis=0), np.mean([part.replicates for part in parts], axis=0))


def estimate(found: Resampled) -> list[Estimate]:
    """Return each value with its 95% interval."""
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(found.replicates, [2.5, 97.5], axis=1)
    return [Estimate(*map(float, one)) for one in zip(found.mean, low, high, strict=True)]


def quotient(found: Resampled, above: int, below: Ints) -> Resampled:
    """Divide one value by others, resample by resample; nan where 0 is divided by 0, or by less than 0."""

    def divided(values: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values[below] < 0, np.nan, values[above] / values[below])

    return Resampled(divided(found.mean), divided(found.replicates))


def better(left: Floats, right: Floats) -> Floats:
    """Return the chance that `left` is the higher of two rewards on the same question: 0, 1, or a half where they are equal."""
    return np.where(np.isclose(left, right, rtol=0, atol=1e-9), 0.5, left > right)


def compare(
    table: TransitionTable, rows: Ints, alpha: float, found: Mapping[str, Policy], synthetic: Mapping[str, bool]
) -> tuple[Result, ...]:
    """Return the results of policies by benchmark and overall; `router` is what the others are compared with."""
    benchmark = table.benchmark[rows]
    groups = {table.benchmarks[n]: np.flatnonzero(benchmark == n) for n in np.unique(benchmark)}
    routed = found["router"].outcome.reward(alpha)
    measures = np.stack(
        [
            (policy.outcome.quality, policy.outcome.cost, reward, routed - reward, better(routed, reward))
            for policy in found.values()
            for reward in [policy.outcome.reward(alpha)]
        ]
    )
    flat = measures.reshape(-1, len(rows))
    parts = {name: resample(flat[:, members], seed) for seed, (name, members) in enumerate(groups.items())}
    results: list[Result] = []
    for group, names in [*((name, [name]) for name in groups), (OVERALL, list(groups))]:
        mean = together([parts[name] for name in names])
        estimates, each = estimate(mean), measures.shape[1]
        routers = list(found).index("router") * each
        multiples, parities = (
            estimate(quotient(mean, routers + measure, np.arange(measure, len(estimates), each))) for measure in (0, 2)
        )
        for n, (name, policy) in enumerate(found.items()):
            quality, cost, reward, lead, improvement = estimates[n * each : (n + 1) * each]
            shares = np.mean([policy.shares[groups[g]].mean(0) for g in names], axis=0)
            results.append(
                Result(
                    name,
                    group,
                    any(synthetic[g] for g in names),
                    sum(len(groups[g]) for g in names),
                    *(quality, cost, reward, lead, improvement, multiples[n], parities[n]),
                    {policy.paths[k]: float(shares[k]) for k in np.argsort(-shares, kind="stable") if shares[k] > 0},
                )
            )
    return tuple(results)


def evaluate(
    table: TransitionTable,
    router: Router,
    split: Split,
    synthetic: Mapping[str, bool],
    baselines: bool = True,
    alpha: float | None = None,
    overhead: Overhead | None = None,
) -> tuple[Evaluation, Floats]:
    """Evaluate a router and its baselines exactly on a split.

    Args:
        table: The table.
        router: The trained router.
        split: The split.
        synthetic: Of every benchmark, whether a program made it up.
        baselines: Whether to fit kNN and the linear predictor and to list every fixed path.
        alpha: Price of cost; None for the router's own.
        overhead: What was measured of the router, and the rate at which it is charged.

    Returns:
        The results, and the router's action probabilities, `(rows, D, actions)`.
    """
    evaluation, (probabilities,) = evaluate_together(
        table, [router], split, synthetic, baselines, alpha=alpha, overhead=overhead
    )
    return evaluation, probabilities


def evaluate_together(
    table: TransitionTable,
    routers: Sequence[Router],
    split: Split,
    synthetic: Mapping[str, bool],
    baselines: bool = True,
    greedy: bool = False,
    alpha: float | None = None,
    overhead: Overhead | None = None,
) -> tuple[Evaluation, list[Floats]]:
    """Evaluate routers that differ in nothing but their seed as one, which draws one of them for each question.

    Its reward on a question is the mean of theirs; intervals are over questions, as for a single router.

    Args:
        table: The table.
        routers: The routers, of one alpha; the evaluation bears the name of the first.
        split: The split.
        synthetic: Of every benchmark, whether a program made it up.
        baselines: Whether to fit kNN and the linear predictor and to list every fixed path.
        greedy: Whether `router` takes the most probable action instead of drawing one.
        alpha: Price of cost; None for the routers' own.
        overhead: What was measured of the routers, and the rate at which it is charged.

    Returns:
        The results, and the action probabilities of each router, `(rows, D, actions)`.
    """
    rows, card = table.rows(split), routers[0].card
    alpha = float(card["alpha"] if alpha is None else alpha)
    probabilities = [router.probabilities(table, rows, alpha) for router in routers]
    if greedy:
        probabilities = list(map(most_probable, probabilities))
    results = compare(table, rows, alpha, policies(table, split, alpha, probabilities, baselines, overhead), synthetic)
    train, allow_stop = table.rows("train"), probabilities[0].shape[-1] > table.n_models
    fixed = table.path_name(int(best_fixed_path(table, train, alpha, allow_stop)))
    model = table.path_name(best_model(table, train, alpha))
    return Evaluation(card["run"], card["suite"], split, alpha, model, fixed, results, overhead), probabilities


def as_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Write an evaluation as rows of the cache's `evaluations`."""
    when = now()
    return [
        {
            "run": evaluation.run,
            "split": evaluation.split,
            "policy": result.policy,
            "benchmark": result.benchmark,
            "generated": result.synthetic,
            "questions": result.questions,
            "alpha": evaluation.alpha,
            "overhead_rate": evaluation.overhead.rate if evaluation.overhead else 0.0,
            **{
                name + suffix: value
                for name, estimated in (
                    ("quality", result.quality),
                    ("cost", result.cost),
                    ("reward", result.reward),
                    ("lead", result.lead),
                    ("improvement", result.improvement),
                )
                for suffix, value in zip(("", "_low", "_high"), estimated, strict=True)
            },
            "paths": json.dumps(result.paths),
            "evaluated": when,
        }
        for result in evaluation.results
    ]


def record(cache: Cache, suite: Suite, table: TransitionTable, evaluation: Evaluation, probabilities: Floats) -> None:
    """Keep an evaluation in the cache: its results, and the action probabilities at every decision node of the split."""
    nodes = cache.arrow(
        "SELECT q.position, p.number, n.node FROM suite_questions AS q JOIN suites AS s USING (suite)"
        " JOIN nodes AS n ON n.root = q.root AND n.depth < s.horizon"
        " JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path WHERE q.suite = $suite",
        {"suite": suite.key},
    )
    place = {int(row): n for n, row in enumerate(table.rows(evaluation.split))}
    actions = (*table.models, STOP)[: probabilities.shape[-1]]
    decisions = [
        {"run": evaluation.run, "node": UUID(node), "action": model, "probability": float(p)}
        for position, number, node in zip(*(nodes[c].to_pylist() for c in ("position", "number", "node")), strict=True)
        if position in place
        for model, p in zip(actions, probabilities[place[position], number], strict=True)
    ]
    cache.add_evaluation(evaluation.run, evaluation.split, as_rows(evaluation), decisions)
