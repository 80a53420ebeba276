"""Compares policies by benchmark and overall, question by question, with intervals over questions and seeds.

A model alone, or a fixed path, may lack responses to some questions (`TransitionTable.available`). It is then compared with the
others on the questions that it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toolkit.replay.exact import Outcome
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.claims import bootstrap_p_values
from toolkit.routing.policies import ROUTER, Policy
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

OVERALL = "overall"
"""The macro average: the unweighted mean of benchmarks."""
OVERALL_QUESTIONS = "overall (questions)"
"""The micro average: the mean of all questions."""
BEST_FIXED_PATH, ORACLE = "best fixed path", "oracle"
"""The baselines between which the recovered gap lies."""
MEASURES = ("quality", "cost", "reward", "lead", "improvement")
"""The measures of a result that are means over questions."""
COUNTERPARTS = ("reference quality", "reference reward", "best path reward", "oracle reward")
"""What a policy that lacks questions is compared with, on the questions that it has."""


@dataclass(frozen=True)
class Result:
    """One policy on one benchmark, or overall.

    Attributes:
        policy: The policy: `router` (greedy), `router (sampled)`, another router by its name, or a baseline.
        benchmark: A benchmark, `overall` (the unweighted mean of benchmarks), or `overall (questions)` (the mean of questions).
        synthetic: Whether a program makes the questions (of any benchmark, for averages).
        questions: Number of rows on which the policy has an outcome: those that the model was asked, for a model alone. The
            values below are over these, and those that compare it with other policies have the others on the same ones; without
            any, they are nan.
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
    seeds, places = max(len(policy.seeds) for policy in evaluated.values()), _Places(evaluated, reference)
    values = np.concatenate([_values(evaluated, alpha, places, seed) for seed in range(seeds)])
    by_benchmark = {name: values[:, indices] for name, indices in members.items()}
    averages = {name: resample(part, seed) for seed, (name, part) in enumerate(by_benchmark.items())}
    averages[OVERALL] = macro_average(list(by_benchmark.values()), list(averages.values()))
    averages[OVERALL_QUESTIONS] = resample(values, len(members)) if len(members) > 1 else averages[OVERALL]
    everything = {OVERALL: list(members.values()), OVERALL_QUESTIONS: [np.arange(len(rows))]}
    results: list[Result] = []
    for group, average in averages.items():
        parts = everything.get(group) or [members[group]]
        combined = combine_seeds(average, seeds)
        questions = [int(has_outcome(policy)[np.concatenate(parts)].sum()) for policy in evaluated.values()]
        estimates, p_values = estimates_of(combined), places.p_values(combined, questions)
        multiples, shares = (places.quotients(combined, measure) for measure in ("quality", "reward"))
        gaps = places.gaps_recovered(combined)
        for n, (name, policy) in enumerate(evaluated.items()):
            measures = dict(zip(MEASURES, estimates[n * len(MEASURES) :], strict=False))
            results.append(
                Result(
                    policy=name,
                    benchmark=group,
                    synthetic=any(synthetic[name] for name in (members if group in everything else [group])),
                    questions=questions[n],
                    **measures,
                    multiple=multiples[n],
                    share=shares[n],
                    gap_recovered=gaps[n],
                    p_value=float(p_values[n]),
                    paths=_path_shares(policy, parts),
                )
            )
    return tuple(results)


def has_outcome(policy: Policy) -> npt.NDArray[np.bool_]:
    """Return on which rows a policy has an outcome, `(rows,)`: all of them, but for a fixed choice that is not available."""
    return ~np.isnan(policy.outcome.quality)


class _Places:
    """Places of values: the `MEASURES` of each policy, then the `COUNTERPARTS` of each that lacks questions.

    Args:
        evaluated: The policies.
        reference: The policy that the others are compared with.
    """

    def __init__(self, evaluated: Mapping[str, Policy], reference: str) -> None:
        self.names = list(evaluated)
        self.partial = [name for name, policy in evaluated.items() if not has_outcome(policy).all()]
        self.compared = {
            "reference quality": (reference, "quality"),
            "reference reward": (reference, "reward"),
            "best path reward": (BEST_FIXED_PATH, "reward"),
            "oracle reward": (ORACLE, "reward"),
        }

    def of(self, measure: str) -> Ints:
        """Return the places of a measure of every policy, `(policies,)`."""
        return MEASURES.index(measure) + len(MEASURES) * np.arange(len(self.names))

    def of_counterparts(self, counterpart: str) -> Ints:
        """Return the places of what every policy is compared with, on the questions that it has, `(policies,)`."""
        policy, measure = self.compared[counterpart]
        places = np.full(len(self.names), self.of(measure)[self.names.index(policy)])
        first = len(MEASURES) * len(self.names) + COUNTERPARTS.index(counterpart)
        for n, name in enumerate(self.partial):
            places[self.names.index(name)] = first + n * len(COUNTERPARTS)
        return places

    def p_values(self, average: Resampled, questions: Sequence[int]) -> Floats:
        """Return the p-value of the reference's lead over every policy, `(policies,)`, given the questions of each."""
        leads = self.of("lead")
        return bootstrap_p_values(Resampled(average.mean[leads], average.replicates[leads]), np.array(questions))

    def quotients(self, average: Resampled, measure: str) -> list[Estimate]:
        """Return the reference's value of a measure divided by that of every policy."""
        return estimates_of(quotient(average, self.of_counterparts(f"reference {measure}"), self.of(measure)))

    def gaps_recovered(self, average: Resampled) -> list[Estimate]:
        """Return the share of the gap in reward between the best fixed path and the oracle that every policy recovers."""

        def shares(values: Floats) -> Floats:
            reward = values[self.of("reward")]
            fixed, oracle = (values[self.of_counterparts(name)] for name in ("best path reward", "oracle reward"))
            is_wide = oracle - fixed > TIE
            return np.where(is_wide, (reward - fixed) / np.where(is_wide, oracle - fixed, 1), np.nan)

        return estimates_of(Resampled(mean=shares(average.mean), replicates=shares(average.replicates)))


def _values(evaluated: Mapping[str, Policy], alpha: float, places: _Places, seed: int) -> Floats:
    """Return the values of every policy on each row, of its router with one of the seeds, `(values, rows)`."""
    outcomes = {name: policy.seeds[seed % len(policy.seeds)].outcome for name, policy in evaluated.items()}
    compared = {
        name: outcomes[policy].quality if measure == "quality" else outcomes[policy].reward(alpha)
        for name, (policy, measure) in places.compared.items()
    }
    values = [_measures(outcome, alpha, compared["reference reward"]) for outcome in outcomes.values()]
    for name in places.partial:
        lacking = np.isnan(outcomes[name].quality)
        values.append(np.where(lacking, np.nan, np.stack([compared[counterpart] for counterpart in COUNTERPARTS])))
    return np.concatenate(values)


def _measures(policy: Outcome, alpha: float, reference_reward: Floats) -> Floats:
    """Return the `MEASURES` of a policy on each row, `(measures, rows)`."""
    reward = policy.reward(alpha)
    return np.stack([policy.quality, policy.cost, reward, reference_reward - reward, superiority(reference_reward, reward)])


def _path_shares(policy: Policy, benchmarks: Sequence[Ints]) -> dict[str, float]:
    """Return the share of each path that is taken, largest first: the mean over benchmarks, given the rows of each."""
    shares = np.mean([policy.shares[indices].mean(0) for indices in benchmarks], axis=0)
    return {policy.paths[n]: float(shares[n]) for n in np.argsort(-shares, kind="stable") if shares[n] > 0}
