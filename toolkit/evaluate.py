"""Evaluation: what a router and its baselines are worth on a split, exactly, with intervals over questions.

Nothing is rolled out: values are weighted by the policy's action probabilities. Whatever is selected (the best fixed
path) is selected on the training split.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from scipy.stats import bootstrap

from toolkit import tree
from toolkit.exact import Outcome, best_fixed_path, node_outcome, oracle_shares, outcome, path_shares
from toolkit.policy import Router
from toolkit.store import Cache, now
from toolkit.suite import Split, Suite
from toolkit.table import Floats, Ints, TransitionTable

OVERALL = "overall"
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A mean over questions and its 95% interval; the interval is nan where there is only one question."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Result:
    """One policy on one benchmark, or overall.

    Attributes:
        policy: router, router (greedy), a fixed path, random or oracle.
        benchmark: A benchmark, or `overall`, the unweighted mean of benchmarks.
        generated: Whether a program made up the questions (of any benchmark, for overall).
        questions: Number of rows.
        quality: Q, in [0, 1].
        cost: C, in cost units.
        reward: R = Q - alpha * C.
        lead: How far the router's reward is above this policy's, question by question.
        paths: Share of each path taken, largest first.
    """

    policy: str
    benchmark: str
    generated: bool
    questions: int
    quality: Estimate
    cost: Estimate
    reward: Estimate
    lead: Estimate
    paths: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """All results of one evaluation, and the probabilities they follow from."""

    run: str
    suite: str
    split: Split
    alpha: float
    best_fixed_path: str
    results: tuple[Result, ...]

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


def policies(table: TransitionTable, rows: Ints, alpha: float, probabilities: Floats) -> dict[str, Policy]:
    """Put a router beside its baselines on some rows.

    Args:
        table: The table.
        rows: The rows to evaluate on.
        alpha: Price of cost, for the oracle and the choice of the best fixed path.
        probabilities: Of every action at every decision node of those rows, `(rows, D, M)`.
    """
    models, horizon = table.n_models, table.horizon
    leaves = tree.level(models, horizon)
    names = tuple(table.path_name(leaf) for leaf in range(leaves.start, leaves.stop))

    def of_shares(shares: Floats) -> Policy:
        return Policy(outcome(table, rows, shares), names, shares)

    def of_node(node: int) -> Policy:
        return Policy(node_outcome(table, rows, node), (table.path_name(node),), np.ones((len(rows), 1)))

    greedy = np.eye(models)[probabilities.argmax(-1)]
    found = {"router": of_shares(path_shares(table, probabilities)), "router (greedy)": of_shares(path_shares(table, greedy))}
    for action in range(models):
        for hops in sorted({1, horizon}):
            node = tree.node_of((action,) * hops, models)
            found[table.models[action] + (f" x{hops}" if hops > 1 else "")] = of_node(node)
    found["best fixed path"] = of_node(best_fixed_path(table, table.rows("train"), alpha))
    found["random"] = of_shares(np.full((len(rows), models**horizon), 1 / models**horizon))
    found["oracle"] = of_shares(oracle_shares(table, rows, alpha))
    return found


def estimate(values: list[Floats], seed: int = 0) -> Estimate:
    """Return the unweighted mean of benchmark means, with a 95% bootstrap interval over questions within benchmarks.

    Args:
        values: Per-question values of each benchmark.
        seed: Seed of the resampling.
    """
    mean = float(np.mean([value.mean() for value in values]))
    if any(len(value) < 2 for value in values):
        return Estimate(mean, float("nan"), float("nan"))
    if all(np.ptp(value) == 0 for value in values):
        return Estimate(mean, mean, mean)

    def statistic(*samples: Floats, axis: int) -> Floats:
        means: Floats = np.mean([sample.mean(axis=axis) for sample in samples], axis=0)
        return means

    interval = bootstrap(
        values, statistic, n_resamples=RESAMPLES, batch=200, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high))


def evaluate(table: TransitionTable, router: Router, split: Split, generated: Mapping[str, bool]) -> tuple[Evaluation, Floats]:
    """Evaluate a router and its baselines exactly on a split.

    Args:
        table: The table.
        router: The trained router; its alpha is used.
        split: The split.
        generated: Of every benchmark, whether a program made it up.

    Returns:
        The results, and the router's action probabilities, `(rows, D, M)`.
    """
    rows = table.rows(split)
    alpha = float(router.card["alpha"])
    probabilities = router.probabilities(table, rows)
    benchmark = table.benchmark[rows]
    groups = {table.benchmarks[n]: np.flatnonzero(benchmark == n) for n in np.unique(benchmark)}
    results: list[Result] = []
    found = policies(table, rows, alpha, probabilities)
    routed = found["router"].outcome.reward(alpha)
    for name, policy in found.items():
        reward = policy.outcome.reward(alpha)
        for group, members in [*((g, [m]) for g, m in groups.items()), (OVERALL, list(groups.values()))]:
            shares = np.mean([policy.shares[m].mean(0) for m in members], axis=0)
            results.append(
                Result(
                    name,
                    group,
                    any(generated[g] for g in ([group] if group != OVERALL else groups)),
                    sum(map(len, members)),
                    estimate([policy.outcome.quality[m] for m in members]),
                    estimate([policy.outcome.cost[m] for m in members]),
                    estimate([reward[m] for m in members]),
                    estimate([routed[m] - reward[m] for m in members]),
                    {policy.paths[n]: float(shares[n]) for n in np.argsort(-shares, kind="stable") if shares[n] > 0},
                )
            )
    best = table.path_name(best_fixed_path(table, table.rows("train"), alpha))
    return Evaluation(router.card["run"], router.card["suite"], split, alpha, best, tuple(results)), probabilities


def as_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Write an evaluation as rows of the cache's `evaluations`."""
    when = now()
    return [
        {
            "run": evaluation.run,
            "split": evaluation.split,
            "policy": result.policy,
            "benchmark": result.benchmark,
            "generated": result.generated,
            "questions": result.questions,
            "alpha": evaluation.alpha,
            **{
                name + suffix: value
                for name, estimated in (
                    ("quality", result.quality),
                    ("cost", result.cost),
                    ("reward", result.reward),
                    ("lead", result.lead),
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
        " JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path WHERE q.suite = $suite AND q.split = $split",
        {"suite": suite.key, "split": evaluation.split},
    )
    place = {int(row): n for n, row in enumerate(table.rows(evaluation.split))}
    decisions = [
        {"run": evaluation.run, "node": UUID(node), "action": model, "probability": float(p)}
        for position, number, node in zip(*(nodes[c].to_pylist() for c in ("position", "number", "node")), strict=True)
        for model, p in zip(table.models, probabilities[place[position], number], strict=True)
    ]
    cache.add_evaluation(evaluation.run, evaluation.split, as_rows(evaluation), decisions)
