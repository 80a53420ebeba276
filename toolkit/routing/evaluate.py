"""Evaluation: the exact outcome of routers and baselines on a split, with intervals over questions; how it is recorded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from toolkit.core.errors import SuiteError
from toolkit.replay.exact import Outcome
from toolkit.replay.table import ABSTAINED, Floats, Ints, TransitionTable
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.claims import bootstrap_p_values
from toolkit.routing.overhead import Overhead
from toolkit.routing.policies import ROUTER, SAMPLED, STOP, Policy, baseline_policies, joined, router_policies
from toolkit.routing.statistics import (
    TIE,
    Estimate,
    Resampled,
    combine_seeds,
    estimates_of,
    macro_average,
    quotient,
    resample,
    superiority,
)
from toolkit.store import Cache, now
from toolkit.suites.suite import Split, Suite

if TYPE_CHECKING:
    from toolkit.routing.router import Router

OVERALL = "overall"
"""The macro average: the unweighted mean of benchmarks."""
OVERALL_QUESTIONS = "overall (questions)"
"""The micro average: the mean of all questions."""
COLLAPSE_SHARE = 0.95
"""A router that takes one path on a larger share of the questions has collapsed: it no longer routes."""
BEST_FIXED_PATH, ORACLE = "best fixed path", "oracle"
"""The baselines between which the recovered gap lies."""
MEASURES = ("quality", "cost", "reward", "lead", "improvement")
"""The measures of a result that are means over questions."""
RECORDED = (*MEASURES, "gap_recovered")
"""The measures that the cache keeps."""


@dataclass(frozen=True)
class Result:
    """One policy on one benchmark, or overall.

    Attributes:
        policy: The policy: `router` (greedy), `router (sampled)`, another router by its name, or a baseline.
        benchmark: A benchmark, `overall` (the unweighted mean of benchmarks), or `overall (questions)` (the mean of questions).
        synthetic: Whether a program makes the questions (of any benchmark, for averages).
        questions: Number of rows.
        quality: Q, in [0, 1].
        cost: C, in cost units.
        reward: R = Q - alpha * C.
        lead: The reference's reward minus this policy's, question by question.
        improvement: Probability that the reference's reward is above this policy's on a question, ties counted half.
        multiple: The reference's quality divided by this policy's; inf or nan if that is 0.
        share: The reference's reward divided by this policy's; nan if that is negative, inf or nan if it is 0.
        gap_recovered: This policy's share of the way in reward from the best fixed path (0) to the oracle (1); nan if those two
            are equal.
        p_value: Probability of a lead at least so large, of either sign, if there were none; nan without an interval.
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
    gap_recovered: Estimate
    p_value: float
    paths: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """All results of one evaluation, by benchmark and then overall.

    Attributes:
        run: The run.
        suite: Its suite.
        split: The evaluated split.
        alpha: Price of cost.
        results: Each policy on each benchmark, then on average.
        overhead: The router's; None if it was not measured.
        without_questions: Benchmarks that have no questions in the split, and so no part in the averages.
        reference: The policy that the others are compared with.
        routers: The policies that are routers, the reference first; none if baselines alone were evaluated.
    """

    run: str
    suite: str
    split: Split
    alpha: float
    results: tuple[Result, ...]
    overhead: Overhead | None = None
    without_questions: tuple[str, ...] = ()
    reference: str = ROUTER
    routers: tuple[str, ...] = (ROUTER,)

    def result(self, policy: str, benchmark: str = OVERALL) -> Result:
        """Return one result."""
        return next(result for result in self.results if (result.policy, result.benchmark) == (policy, benchmark))

    def without(self, policy: str) -> "Evaluation":
        """Return the evaluation without one policy."""
        return replace(
            self,
            results=tuple(result for result in self.results if result.policy != policy),
            routers=tuple(name for name in self.routers if name != policy),
        )

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
        return next(iter(self.result(BEST_FIXED_PATH).paths))


def check_names(table: TransitionTable) -> None:
    """Check that no model has the name of another policy or of a path, and no benchmark that of an average.

    Raises:
        SuiteError: One has.
    """
    repeated = [f"{model} x{hops}" for model in table.models for hops in range(2, table.horizon + 1)]
    reserved = {ROUTER, SAMPLED, STOP, ABSTAINED, *repeated, *(baseline.name for baseline in registered_baselines(slow=True))}
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
    sampled: bool = False,
    others: Mapping[str, Policy] | None = None,
) -> dict[str, Policy]:
    """Return a router, others and the baselines on a split, by name; see `router_policies` and `baseline_policies`."""
    routers = joined(router_policies(table, table.rows(split), probabilities, sampled, overhead), others or {}, "a router")
    allow_stop = probabilities[0].shape[-1] > table.n_models
    return joined(routers, baseline_policies(table, split, alpha, allow_stop, all_baselines, overhead), "a baseline")


def compare(
    table: TransitionTable,
    rows: Ints,
    alpha: float,
    evaluated: Mapping[str, Policy],
    synthetic: Mapping[str, bool],
    reference: str = ROUTER,
) -> tuple[Result, ...]:
    """Return the results of policies by benchmark and overall; the others are compared with the reference.

    Where several routers are evaluated together, intervals are over their seeds, too.
    """
    benchmark = table.benchmark[rows]
    members = {table.benchmarks[n]: np.flatnonzero(benchmark == n) for n in np.unique(benchmark)}
    names, seeds = list(evaluated), max(len(policy.seeds) for policy in evaluated.values())
    values = np.concatenate([_values(evaluated, alpha, reference, seed) for seed in range(seeds)])
    by_benchmark = {name: values[:, indices] for name, indices in members.items()}
    averages = {name: resample(part, seed) for seed, (name, part) in enumerate(by_benchmark.items())}
    averages[OVERALL] = macro_average(list(by_benchmark.values()), list(averages.values()))
    averages[OVERALL_QUESTIONS] = resample(values, len(members)) if len(members) > 1 else averages[OVERALL]
    everything = {OVERALL: list(members.values()), OVERALL_QUESTIONS: [np.arange(len(rows))]}
    results: list[Result] = []
    for group, average in averages.items():
        parts = everything.get(group) or [members[group]]
        combined, questions = combine_seeds(average, seeds), sum(map(len, parts))
        estimates, p_values = estimates_of(combined), bootstrap_p_values(combined, questions)
        multiples, shares = (_quotients(combined, names, reference, measure) for measure in ("quality", "reward"))
        gaps = _gaps_recovered(combined, names)
        for n, (name, policy) in enumerate(evaluated.items()):
            measures = dict(zip(MEASURES, estimates[n * len(MEASURES) :], strict=False))
            results.append(
                Result(
                    policy=name,
                    benchmark=group,
                    synthetic=any(synthetic[name] for name in (members if group in everything else [group])),
                    questions=questions,
                    **measures,
                    multiple=multiples[n],
                    share=shares[n],
                    gap_recovered=gaps[n],
                    p_value=float(p_values[n * len(MEASURES) + MEASURES.index("lead")]),
                    paths=_path_shares(policy, parts),
                )
            )
    return tuple(results)


def _values(evaluated: Mapping[str, Policy], alpha: float, reference: str, seed: int) -> Floats:
    """Return the `MEASURES` of every policy on each row, of its router with one of the seeds, `(policies * measures, rows)`."""
    outcomes = {name: policy.seeds[seed % len(policy.seeds)].outcome for name, policy in evaluated.items()}
    reward = outcomes[reference].reward(alpha)
    return np.concatenate([_measures(outcome, alpha, reward) for outcome in outcomes.values()])


def _measures(policy: Outcome, alpha: float, reference_reward: Floats) -> Floats:
    """Return the `MEASURES` of a policy on each row, `(measures, rows)`."""
    reward = policy.reward(alpha)
    return np.stack([policy.quality, policy.cost, reward, reference_reward - reward, superiority(reference_reward, reward)])


def _quotients(average: Resampled, names: Sequence[str], reference: str, measure: str) -> list[Estimate]:
    """Return the reference's value of a measure divided by that of every policy, in the order of their names."""
    rows = np.arange(MEASURES.index(measure), len(average.mean), len(MEASURES))
    return estimates_of(quotient(average, int(rows[names.index(reference)]), rows))


def _gaps_recovered(average: Resampled, names: Sequence[str]) -> list[Estimate]:
    """Return the share of the gap in reward that every policy recovers, in the order of their names."""

    def shares(values: Floats) -> Floats:
        rewards = values[MEASURES.index("reward") :: len(MEASURES)]
        fixed, oracle = (rewards[names.index(name)] for name in (BEST_FIXED_PATH, ORACLE))
        is_wide = oracle - fixed > TIE
        return np.where(is_wide, (rewards - fixed) / np.where(is_wide, oracle - fixed, 1), np.nan)

    return estimates_of(Resampled(mean=shares(average.mean), replicates=shares(average.replicates)))


def _path_shares(policy: Policy, benchmarks: Sequence[Ints]) -> dict[str, float]:
    """Return the share of each path that is taken, largest first: the mean over benchmarks, given the rows of each."""
    shares = np.mean([policy.shares[indices].mean(0) for indices in benchmarks], axis=0)
    return {policy.paths[n]: float(shares[n]) for n in np.argsort(-shares, kind="stable") if shares[n] > 0}


def evaluate(
    table: TransitionTable,
    router: "Router",
    split: Split,
    synthetic: Mapping[str, bool],
    all_baselines: bool = True,
    alpha: float | None = None,
    overhead: Overhead | None = None,
    others: Mapping[str, Policy] | None = None,
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
        others: Other routers to compare it with, by name.

    Returns:
        The results, and the router's action probabilities, `(rows, D, actions)`.
    """
    evaluation, (probabilities,) = evaluate_together(
        table, [router], split, synthetic, all_baselines, alpha=alpha, overhead=overhead, others=others
    )
    return evaluation, probabilities


def evaluate_together(
    table: TransitionTable,
    routers: "Sequence[Router]",
    split: Split,
    synthetic: Mapping[str, bool],
    all_baselines: bool = True,
    sampled: bool = False,
    alpha: float | None = None,
    overhead: Overhead | None = None,
    others: Mapping[str, Policy] | None = None,
) -> tuple[Evaluation, list[Floats]]:
    """Evaluate routers that differ only in their seed as one, which routes each question by one of them at random.

    Its reward on a question is the mean of theirs; intervals are over questions and seeds. The evaluation is named after
    the first router. With `sampled`, `router` samples its actions. For the rest, see `evaluate`.
    """
    check_names(table)
    rows, card = table.rows(split), routers[0].card
    alpha = float(card["alpha"] if alpha is None else alpha)
    probabilities = [router.probabilities(table, rows, alpha) for router in routers]
    evaluated = policies(table, split, alpha, probabilities, all_baselines, overhead, sampled, others)
    evaluation = evaluate_policies(
        table,
        evaluated,
        split,
        synthetic,
        alpha,
        run=card["run"],
        suite=card["suite"],
        routers=(ROUTER, SAMPLED, *(others or {})),
        overhead=overhead,
    )
    return evaluation, probabilities


def evaluate_policies(
    table: TransitionTable,
    evaluated: Mapping[str, Policy],
    split: Split,
    synthetic: Mapping[str, bool],
    alpha: float,
    run: str,
    suite: str,
    reference: str = ROUTER,
    routers: Sequence[str] = (ROUTER,),
    overhead: Overhead | None = None,
) -> Evaluation:
    """Compare policies on a split, baselines among them, with one of them as the reference."""
    rows = table.rows(split)
    present = set(table.benchmark[rows].tolist())
    return Evaluation(
        run=run,
        suite=suite,
        split=split,
        alpha=alpha,
        results=compare(table, rows, alpha, evaluated, synthetic, reference),
        overhead=overhead,
        without_questions=tuple(name for n, name in enumerate(table.benchmarks) if n not in present),
        reference=reference,
        routers=tuple(routers),
    )


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
            "reference": evaluation.reference,
        }
        for measure in RECORDED:
            row[measure], row[f"{measure}_low"], row[f"{measure}_high"] = getattr(result, measure)
        rows.append(row | {"paths": json.dumps(result.paths), "evaluated": evaluated})
    return rows


def record(cache: Cache, suite: Suite, table: TransitionTable, evaluation: Evaluation, probabilities: Floats) -> None:
    """Record an evaluation in the cache: its results, and the router's action probabilities, `(rows, D, actions)`."""
    index = {row: n for n, row in enumerate(table.rows(evaluation.split).tolist())}
    actions = (*table.models, STOP)[: probabilities.shape[-1]]
    best = probabilities.argmax(-1)
    rows = [
        {
            "run": evaluation.run,
            "node": UUID(node["node"]),
            "action": action,
            "probability": float(probability),
            "chosen": n == best[place],
        }
        for node in cache.query("decision_nodes", suite=suite.key).to_pylist()
        if node["position"] in index
        for place in [(index[node["position"]], node["number"])]
        for n, (action, probability) in enumerate(zip(actions, probabilities[place], strict=True))
    ]
    cache.runs.add_evaluation(evaluation.run, evaluation.split, evaluation_rows(evaluation), rows)
