"""Compares two trained routers question by question: differences of Q, C and R, by benchmark and overall."""

from typing import NamedTuple

import numpy as np

from toolkit.replay.table import Floats, TransitionTable
from toolkit.routing.claims import bootstrap_p_values, holm
from toolkit.routing.comparison import OVERALL, OVERALL_QUESTIONS
from toolkit.routing.policies import ROUTER, router_policies
from toolkit.routing.router import Router
from toolkit.routing.statistics import Estimate, Resampled, estimates_of, macro_average, resample
from toolkit.suites.suite import Split


class Difference(NamedTuple):
    """By how much the first of two routers is above the second on a benchmark, or on average.

    Attributes:
        benchmark: A benchmark, `overall` (the unweighted mean of benchmarks), or `overall (questions)`.
        questions: Number of questions, which both route.
        quality: Q of the first minus Q of the second.
        cost: The same of C, in cost units.
        reward: The same of R.
        p_value: Of the difference in R; of benchmarks, after Holm's correction for their number. nan with one question.
        same_paths: Share of the questions that both route along the same path.
    """

    benchmark: str
    questions: int
    quality: Estimate
    cost: Estimate
    reward: Estimate
    p_value: float
    same_paths: float


def compare_routers(table: TransitionTable, first: Router, second: Router, split: Split, alpha: float) -> list[Difference]:
    """Return the differences between two routers on each benchmark, then on average, overall first.

    Args:
        table: The table, which fits both routers.
        first: The first router; a positive difference says that its value is higher.
        second: The second router.
        split: The evaluated split.
        alpha: Price of cost.
    """
    rows = table.rows(split)
    policies = [router_policies(table, rows, [router.probabilities(table, rows, alpha)])[ROUTER] for router in (first, second)]
    left, right = (policy.outcome for policy in policies)
    quality, cost = left.quality - right.quality, left.cost - right.cost
    values = np.stack([quality, cost, quality - alpha * cost])
    same = np.minimum(policies[0].shares, policies[1].shares).sum(axis=1)
    benchmark = table.benchmark[rows]
    members = {table.benchmarks[n]: np.flatnonzero(benchmark == n) for n in np.unique(benchmark)}
    parts = [values[:, indices] for indices in members.values()]
    resampled = [resample(part, seed) for seed, part in enumerate(parts)]
    by_benchmark = [
        _difference(name, average, same[indices]) for (name, indices), average in zip(members.items(), resampled, strict=True)
    ]
    adjusted = holm({difference.benchmark: difference.p_value for difference in by_benchmark})
    overall = [_difference(OVERALL, macro_average(parts, resampled), same)]
    if len(members) > 1:
        overall.append(_difference(OVERALL_QUESTIONS, resample(values, len(members)), same))
    return [*(part._replace(p_value=adjusted[part.benchmark]) for part in by_benchmark), *overall]


def _difference(name: str, resampled: Resampled, same: Floats) -> Difference:
    quality, cost, reward = estimates_of(resampled)
    p_value = float(bootstrap_p_values(resampled, len(same))[2])
    return Difference(name, len(same), quality, cost, reward, p_value, float(same.mean()))
