"""Evaluation: the exact outcome of a router and of its baselines on a split, with intervals over questions.

Nothing is rolled out: outcomes are weighted by the policy's action probabilities. Baselines may stop if the router may.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from toolkit.core.errors import SuiteError
from toolkit.replay.exact import Outcome, ends, node_outcome, outcome, path_shares
from toolkit.replay.table import ABSTAINED, Floats, Ints, TransitionTable
from toolkit.routing.baselines import Choice, registered_baselines
from toolkit.routing.decide import most_probable
from toolkit.routing.overhead import Overhead, decisions
from toolkit.routing.router import Router
from toolkit.routing.statistics import Estimate, Resampled, estimates_of, macro_average, quotient, resample, superiority
from toolkit.store import Cache, now
from toolkit.suites.suite import Split, Suite

OVERALL = "overall"
"""The macro average: the unweighted mean of benchmarks."""
OVERALL_QUESTIONS = "overall (questions)"
"""The micro average: the mean of all questions."""
STOP = "stop"
"""Name of the action that ends an episode, in recorded decisions."""
COLLAPSE_SHARE = 0.95
"""A router that takes one path on a larger share of the questions has collapsed: it no longer routes."""
MEASURES = ("quality", "cost", "reward", "lead", "improvement")
"""The measures of a result that are means over questions."""


@dataclass(frozen=True)
class Result:
    """One policy on one benchmark, or overall.

    Attributes:
        policy: The policy: router, router (greedy), or that of a baseline.
        benchmark: A benchmark, `overall` (the unweighted mean of benchmarks), or `overall (questions)` (the mean of questions).
        synthetic: Whether a program makes the questions (of any benchmark, for averages).
        questions: Number of rows.
        quality: Q, in [0, 1].
        cost: C, in cost units.
        reward: R = Q - alpha * C.
        lead: The router's reward minus this policy's, question by question.
        improvement: Probability that the router's reward is above this policy's on a question, ties counted half.
        multiple: The router's quality divided by this policy's; inf or nan if that is 0.
        share: The router's reward divided by this policy's; nan if that is negative, inf or nan if it is 0.
        paths: Share of the questions that take each path, largest first.
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
    """All results of one evaluation, by benchmark and then overall.

    Attributes:
        run: The router's run.
        suite: Its suite.
        split: The evaluated split.
        alpha: Price of cost.
        results: Each policy on each benchmark, then on average.
        overhead: The router's; None if it was not measured.
        without_questions: Benchmarks that have no questions in the split, and so no part in the averages.
    """

    run: str
    suite: str
    split: Split
    alpha: float
    results: tuple[Result, ...]
    overhead: Overhead | None = None
    without_questions: tuple[str, ...] = ()

    def result(self, policy: str, benchmark: str = OVERALL) -> Result:
        """Return one result."""
        return next(result for result in self.results if (result.policy, result.benchmark) == (policy, benchmark))

    @property
    def policies(self) -> list[str]:
        """Names of the policies, in the order shown."""
        return list(dict.fromkeys(result.policy for result in self.results))

    @property
    def benchmarks(self) -> list[str]:
        """Names of the benchmarks that have questions in the split, without the averages."""
        names = dict.fromkeys(result.benchmark for result in self.results)
        return [name for name in names if name not in (OVERALL, OVERALL_QUESTIONS)]

    @property
    def best_model(self) -> str:
        """Name of the best single model."""
        return next(iter(self.result("best model").paths))

    @property
    def best_fixed_path(self) -> str:
        """Name of the best fixed path."""
        return next(iter(self.result("best fixed path").paths))


class Policy(NamedTuple):
    """A policy as evaluated: its outcome on each row, `(rows,)`, and the share of each of its paths, `(rows, paths)`."""

    outcome: Outcome
    paths: tuple[str, ...]
    shares: Floats


def check_names(table: TransitionTable) -> None:
    """Check that no model has the name of another policy or of a path, and no benchmark that of an average.

    Raises:
        SuiteError: One has.
    """
    repeated = [f"{model} x{hops}" for model in table.models for hops in range(2, table.horizon + 1)]
    reserved = {"router", "router (greedy)", ABSTAINED, *repeated, *(baseline.name for baseline in registered_baselines())}
    models = [model for model in table.models if model in reserved or " > " in model]
    benchmarks = [name for name in table.benchmarks if name in (OVERALL, OVERALL_QUESTIONS)]
    for kind, names in (("model", models), ("benchmark", benchmarks)):
        if names:
            raise SuiteError(
                f"Results have another meaning for the name {names[0]!r}, so no {kind} can have it. Rename the {kind}."
            )


def policies(
    table: TransitionTable,
    split: Split,
    alpha: float,
    probabilities: Sequence[Floats],
    all_baselines: bool = True,
    overhead: Overhead | None = None,
) -> dict[str, Policy]:
    """Return a router and its baselines on a split, by name.

    Args:
        table: The table.
        split: The split.
        alpha: Price of cost, at which baselines choose.
        probabilities: Of every action at every decision node of the split's rows, `(rows, D, M)`, or `(rows, D, M + 1)` if the
            router may stop; then the baselines may, too. Of several routers, each question is routed by one at random.
        all_baselines: Whether to include the baselines that are not part of every evaluation.
        overhead: Charged to the router for every decision, and to baselines that see the question alone once.

    Raises:
        ValueError: Two policies have one name.
    """
    rows, allow_stop = table.rows(split), probabilities[0].shape[-1] > table.n_models
    per_decision, per_question = (overhead.decision, overhead.question) if overhead else (0.0, 0.0)
    evaluated = {
        "router": _mixture(table, rows, probabilities, per_decision),
        "router (greedy)": _mixture(table, rows, [most_probable(router) for router in probabilities], per_decision),
    }
    for baseline in registered_baselines():
        if not (baseline.always or all_baselines):
            continue
        for name, choice in baseline.policies(table, split, alpha, allow_stop).items():
            if name in evaluated:
                raise ValueError(f"the baseline {baseline.name!r} has a policy {name!r}, but there is one of that name already")
            evaluated[name] = _chosen(table, rows, choice, per_question if baseline.question_only else 0.0)
    return evaluated


def _mixture(table: TransitionTable, rows: Ints, probabilities: Sequence[Floats], per_decision: float = 0.0) -> Policy:
    """Return a policy that routes each question by one of several routers, given their probabilities, `(rows, D, actions)`."""
    shares = np.mean([path_shares(table, router) for router in probabilities], axis=0)
    at = ends(table, allow_stop=probabilities[0].shape[-1] > table.n_models)
    return Policy(
        outcome=outcome(table, rows, shares).charged(per_decision * decisions(table, shares)),
        paths=tuple(table.path_name(node) for node in range(at.start, at.stop)),
        shares=shares,
    )


def _chosen(table: TransitionTable, rows: Ints, choice: Choice, cost: float) -> Policy:
    """Return the policy of a baseline, at an additional cost per question."""
    if np.ndim(choice) > 1:
        policy = _mixture(table, rows, [np.asarray(choice)])
        return policy._replace(outcome=policy.outcome.charged(cost))
    nodes: Ints = np.broadcast_to(np.asarray(choice, dtype=np.int64), len(rows))
    chosen, index = np.unique(nodes, return_inverse=True)
    return Policy(
        outcome=node_outcome(table, rows, nodes).charged(cost),
        paths=tuple(table.path_name(node) for node in chosen.tolist()),
        shares=np.eye(len(chosen))[index],
    )


def compare(
    table: TransitionTable, rows: Ints, alpha: float, evaluated: Mapping[str, Policy], synthetic: Mapping[str, bool]
) -> tuple[Result, ...]:
    """Return the results of policies by benchmark and overall; the others are compared with `router`."""
    benchmark = table.benchmark[rows]
    members = {table.benchmarks[n]: np.flatnonzero(benchmark == n) for n in np.unique(benchmark)}
    router_reward = evaluated["router"].outcome.reward(alpha)
    values = np.concatenate([_measures(policy.outcome, alpha, router_reward) for policy in evaluated.values()])
    by_benchmark = {name: values[:, indices] for name, indices in members.items()}
    averages = {name: resample(part, seed) for seed, (name, part) in enumerate(by_benchmark.items())}
    averages[OVERALL] = macro_average(list(by_benchmark.values()), list(averages.values()))
    averages[OVERALL_QUESTIONS] = resample(values, len(members)) if len(members) > 1 else averages[OVERALL]
    everything = {OVERALL: list(members.values()), OVERALL_QUESTIONS: [np.arange(len(rows))]}
    results: list[Result] = []
    for group, average in averages.items():
        parts = everything.get(group) or [members[group]]
        estimates = estimates_of(average)
        multiples, shares = (_router_quotients(average, list(evaluated), measure) for measure in ("quality", "reward"))
        for n, (name, policy) in enumerate(evaluated.items()):
            measures = dict(zip(MEASURES, estimates[n * len(MEASURES) :], strict=False))
            results.append(
                Result(
                    policy=name,
                    benchmark=group,
                    synthetic=any(synthetic[name] for name in (members if group in everything else [group])),
                    questions=sum(map(len, parts)),
                    **measures,
                    multiple=multiples[n],
                    share=shares[n],
                    paths=_path_shares(policy, parts),
                )
            )
    return tuple(results)


def _measures(policy: Outcome, alpha: float, router_reward: Floats) -> Floats:
    """Return the `MEASURES` of a policy on each row, `(measures, rows)`."""
    reward = policy.reward(alpha)
    return np.stack([policy.quality, policy.cost, reward, router_reward - reward, superiority(router_reward, reward)])


def _router_quotients(average: Resampled, names: list[str], measure: str) -> list[Estimate]:
    """Return the router's value of a measure divided by that of every policy, in the order of their names."""
    rows = np.arange(MEASURES.index(measure), len(average.mean), len(MEASURES))
    return estimates_of(quotient(average, int(rows[names.index("router")]), rows))


def _path_shares(policy: Policy, benchmarks: Sequence[Ints]) -> dict[str, float]:
    """Return the share of each path that is taken, largest first: the mean over benchmarks, given the rows of each."""
    shares = np.mean([policy.shares[indices].mean(0) for indices in benchmarks], axis=0)
    return {policy.paths[n]: float(shares[n]) for n in np.argsort(-shares, kind="stable") if shares[n] > 0}


def evaluate(
    table: TransitionTable,
    router: Router,
    split: Split,
    synthetic: Mapping[str, bool],
    all_baselines: bool = True,
    alpha: float | None = None,
    overhead: Overhead | None = None,
) -> tuple[Evaluation, Floats]:
    """Evaluate a router and its baselines exactly on a split.

    Args:
        table: The table.
        router: The trained router.
        split: The split.
        synthetic: Whether a program makes the questions, for every benchmark.
        all_baselines: Whether to include the baselines that are not part of every evaluation.
        alpha: Price of cost; None for the router's own.
        overhead: The router's measured overhead, and the rate at which it is charged.

    Returns:
        The results, and the router's action probabilities, `(rows, D, actions)`.
    """
    evaluation, (probabilities,) = evaluate_together(
        table, [router], split, synthetic, all_baselines, alpha=alpha, overhead=overhead
    )
    return evaluation, probabilities


def evaluate_together(
    table: TransitionTable,
    routers: Sequence[Router],
    split: Split,
    synthetic: Mapping[str, bool],
    all_baselines: bool = True,
    greedy: bool = False,
    alpha: float | None = None,
    overhead: Overhead | None = None,
) -> tuple[Evaluation, list[Floats]]:
    """Evaluate routers that differ only in their seed as one, which routes each question by one of them at random.

    Its reward on a question is the mean of theirs; intervals are over questions, as for a single router. The evaluation is
    named after the first router. With `greedy`, `router` takes the most probable action. For the rest, see `evaluate`.
    """
    check_names(table)
    rows, card = table.rows(split), routers[0].card
    alpha = float(card["alpha"] if alpha is None else alpha)
    probabilities = [router.probabilities(table, rows, alpha) for router in routers]
    if greedy:
        probabilities = list(map(most_probable, probabilities))
    evaluated = policies(table, split, alpha, probabilities, all_baselines, overhead)
    evaluation = Evaluation(
        run=card["run"],
        suite=card["suite"],
        split=split,
        alpha=alpha,
        results=compare(table, rows, alpha, evaluated, synthetic),
        overhead=overhead,
        without_questions=tuple(name for n, name in enumerate(table.benchmarks) if not np.any(table.benchmark[rows] == n)),
    )
    return evaluation, probabilities


def evaluation_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return an evaluation as rows of the cache's table `evaluations`."""
    evaluated = now()
    rows = []
    for result in evaluation.results:
        row: dict[str, Any] = {
            "run": evaluation.run,
            "split": evaluation.split,
            "policy": result.policy,
            "benchmark": result.benchmark,
            "synthetic": result.synthetic,
            "questions": result.questions,
            "alpha": evaluation.alpha,
            "overhead_rate": evaluation.overhead.rate if evaluation.overhead else 0.0,
        }
        for measure in MEASURES:
            row[measure], row[f"{measure}_low"], row[f"{measure}_high"] = getattr(result, measure)
        rows.append(row | {"paths": json.dumps(result.paths), "evaluated": evaluated})
    return rows


def record(cache: Cache, suite: Suite, table: TransitionTable, evaluation: Evaluation, probabilities: Floats) -> None:
    """Record an evaluation in the cache: its results, and the router's action probabilities, `(rows, D, actions)`."""
    index = {row: n for n, row in enumerate(table.rows(evaluation.split).tolist())}
    actions = (*table.models, STOP)[: probabilities.shape[-1]]
    rows = [
        {"run": evaluation.run, "node": UUID(node["node"]), "action": action, "probability": float(probability)}
        for node in cache.query("decision_nodes", suite=suite.key).to_pylist()
        if node["position"] in index
        for action, probability in zip(actions, probabilities[index[node["position"]], node["number"]], strict=True)
    ]
    cache.runs.add_evaluation(evaluation.run, evaluation.split, evaluation_rows(evaluation), rows)
