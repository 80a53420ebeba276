"""Evaluation: the exact outcome of routers and baselines on a split, with intervals over questions; how it is recorded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from toolkit.core.errors import SuiteError
from toolkit.replay.table import ABSTAINED, STOP, Floats, TransitionTable
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.comparison import BEST_FIXED_PATH, MEASURES, OVERALL, OVERALL_QUESTIONS, Result, compare
from toolkit.routing.coverage import COMPLETE, Coverage, coverage
from toolkit.routing.overhead import Overhead
from toolkit.routing.policies import ROUTER, SAMPLED, Policy, baseline_policies, joined, router_policies
from toolkit.store import Cache, now
from toolkit.suites.suite import Split, Suite

if TYPE_CHECKING:
    from toolkit.routing.router import Router

COLLAPSE_SHARE = 0.95
"""A router that takes one path on a larger share of the questions has collapsed: it no longer routes."""
RECORDED = (*MEASURES, "gap_recovered")
"""The measures that the cache keeps."""


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
        coverage: Which responses the split has.
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
    coverage: Coverage = COMPLETE

    def result(self, policy: str, benchmark: str = OVERALL) -> Result:
        """Return the result of a policy on a benchmark; by default the macro average.

        Raises:
            StopIteration: There is no such policy or benchmark.
        """
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
    """Compare policies on a split, baselines among them, with one of them as the reference.

    Args:
        table: The table.
        evaluated: The policies, by name.
        split: The split.
        synthetic: Whether a program makes the questions, for every benchmark.
        alpha: Price of cost.
        run: Name of the run that the results are recorded under.
        suite: Name of its suite.
        reference: The policy that the others are compared with.
        routers: Names of the policies that are routers, the reference first.
        overhead: The router's measured overhead; None if it was not measured.
    """
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
        coverage=coverage(table, split),
    )


def evaluation_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return an evaluation as rows of the cache's table `evaluations`, without results of no question."""
    evaluated = now()
    rows = []
    for result in (result for result in evaluation.results if result.questions):
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
    """Record an evaluation in the cache, in its tables `evaluations` and `decisions`.

    An earlier evaluation of the run on the same split and at the same alpha is replaced.

    Args:
        cache: The cache.
        suite: The evaluated suite.
        table: Its table.
        evaluation: The results.
        probabilities: The router's action probabilities on the split, `(rows, D, actions)`.
    """
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
