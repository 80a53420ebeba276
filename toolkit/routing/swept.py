"""What a sweep has found: every policy at every alpha on one split, from the saved routers. Nothing is trained.

All figures of a sweep come from the quality and cost of each policy on each question, so that they share their resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from toolkit.replay.exact import (
    Outcome,
    benchmark_weights,
    best_model,
    curve,
    first_available,
    frontier,
    node_outcome,
    rank_models,
)
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.aiq import fixed_range, oracle_alphas, zero_routers
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.comparison import BEST_FIXED_PATH, ORACLE, has_outcome
from toolkit.routing.coverage import COMPLETE, Coverage, coverage
from toolkit.routing.evaluate import policies
from toolkit.routing.lines import Averages, Outcomes, fixed
from toolkit.routing.policies import ROUTER, SAMPLED, Policy, chosen
from toolkit.routing.router import Router
from toolkit.suites.suite import Split

FIXED_FAMILIES = ("models", "fixed paths")
"""Baselines whose policies are single choices, which alphas do not change."""


class FixedChoice(NamedTuple):
    """A model or a fixed path, as a mean over the questions that have it.

    Attributes:
        macro: Mean quality and cost over benchmarks.
        micro: The same over questions.
        questions: Number of these questions.
        best_path: Reward of the best fixed path at each alpha on them, over benchmarks, `(alphas,)`; None if they are all.
        oracle: The same of the oracle.
    """

    macro: Outcome
    micro: Outcome
    questions: int
    best_path: Floats | None = None
    oracle: Floats | None = None


@dataclass(frozen=True)
class Swept:
    """A sweep on one split.

    Attributes:
        router: Name of the learned policy: `router`, or `router (sampled)`.
        alphas: The alphas, ascending, `(alphas,)`.
        seeds: Number of routers of each alpha.
        questions: Number of questions.
        benchmarks: Number of benchmarks.
        lines: Every policy that decides at an alpha, with a point for each: the router first, the oracle last.
        seed_rewards: Mean reward of the router of each seed, over benchmarks, `(seeds, alphas)`.
        zero_routers: Lines of the zero routers, with a point for each choice that they mix.
        fixed: Every model and fixed path.
        oracle: The oracle at many more alphas.
        range: The cheapest and the most expensive fixed path, two points: the range of costs.
        best_model: The model with the highest mean quality on the training split, one point.
        weak_strong: The weak and the strong one of two models, two points; None unless there are two, and one hop.
        others: Names of the other routers.
        coverage: Which responses the split has.
    """

    router: str
    alphas: Floats
    seeds: int
    questions: int
    benchmarks: int
    lines: Mapping[str, Averages]
    seed_rewards: Floats
    zero_routers: Mapping[str, Averages]
    fixed: Mapping[str, FixedChoice]
    oracle: Averages
    range: Averages
    best_model: Averages
    weak_strong: Averages | None
    others: tuple[str, ...] = ()
    coverage: Coverage = COMPLETE


def swept(
    table: TransitionTable,
    routers: Mapping[float, Sequence[Router]],
    split: Split,
    allow_stop: bool = False,
    sampled: bool = False,
    others: Mapping[float, Mapping[str, Policy]] | None = None,
) -> Swept:
    """Evaluate the routers of a sweep and all baselines at every alpha.

    Args:
        table: The table.
        routers: The routers of each alpha, one for each seed.
        split: The split, which has questions.
        allow_stop: Whether the routers may stop before the last hop.
        sampled: Whether routers sample their actions instead of taking the most probable one.
        others: Other routers at each alpha, by name.
    """
    rows, alphas = table.rows(split), np.array(sorted(routers))
    benchmark = table.benchmark[rows]
    pair = weak_and_strong(table, allow_stop)
    router = SAMPLED if sampled else ROUTER
    outcomes = _outcomes(table, routers, split, router, pair, others or {})
    weights = benchmark_weights(table, rows)

    def averages(nodes: Ints) -> Averages:
        return fixed(node_outcome(table, rows, np.atleast_2d(nodes))).averages(benchmark)

    oracle = frontier(table, rows, allow_stop)
    oracle_ends = oracle.at(oracle_alphas(curve(table, rows, oracle)))
    rewards = {name: outcomes[name].rewards(alphas) for name in (router, BEST_FIXED_PATH, ORACLE)}
    train = table.rows("train")
    return Swept(
        router=router,
        alphas=alphas,
        seeds=len(next(iter(routers.values()))),
        others=tuple(next(iter(others.values()), ())) if others else (),
        questions=len(rows),
        benchmarks=len(np.unique(benchmark)),
        lines={name: policy.averages(benchmark) for name, policy in outcomes.items()},
        seed_rewards=rewards[router] @ weights,
        zero_routers={name: averages(nodes) for name, nodes in zero_routers(table, train, rows, allow_stop).items()},
        fixed=fixed_choices(table, split, allow_stop, rewards[BEST_FIXED_PATH][0], rewards[ORACLE][0]),
        oracle=fixed(node_outcome(table, rows, oracle_ends)).averages(benchmark),
        range=averages(fixed_range(table, rows, allow_stop)),
        best_model=averages(first_available(table, rows, rank_models(table, train, alpha=0.0))),
        weak_strong=averages(np.repeat(pair, len(rows)).reshape(2, -1)) if pair else None,
        coverage=coverage(table, split),
    )


def fixed_choices(
    table: TransitionTable, split: Split, allow_stop: bool, best_path: Floats, oracle: Floats
) -> dict[str, FixedChoice]:
    """Return every model and fixed path on a split.

    Args:
        table: The table.
        split: The split.
        allow_stop: Whether paths may end before the last hop.
        best_path: Reward of the best fixed path at each alpha, `(alphas, rows)`.
        oracle: Reward of the oracle at each alpha, `(alphas, rows)`.
    """
    choices = {}
    for family in registered_baselines():
        if family.name in FIXED_FAMILIES:
            for name, choice in family.policies(table, split, 0.0, allow_stop).items():
                policy = chosen(table, table.rows(split), choice)
                own = np.flatnonzero(has_outcome(policy))
                weights = benchmark_weights(table, table.rows(split)[own])
                outcome = Outcome(*(values[own] for values in policy.outcome))
                is_partial = len(own) < len(policy.shares)
                choices[name] = FixedChoice(
                    macro=Outcome(*(np.asarray(weights @ values) for values in outcome)),
                    micro=Outcome(*(np.asarray(np.full(len(own), 1 / len(own)) @ values) for values in outcome)),
                    questions=len(own),
                    best_path=best_path[:, own] @ weights if is_partial else None,
                    oracle=oracle[:, own] @ weights if is_partial else None,
                )
    return choices


def weak_and_strong(table: TransitionTable, allow_stop: bool = False) -> tuple[int, int] | None:
    """Return the nodes of the two models of a table with one hop, that of the lower quality on the training split first.

    None if there are not two, or if responses are missing: where only one model is available, no router can choose.
    """
    if table.n_models != 2 or table.horizon > 1 or allow_stop or table.available is not None:
        return None
    strong = best_model(table, table.rows("train"), alpha=0.0)
    return 3 - strong, strong


def _outcomes(
    table: TransitionTable,
    routers: Mapping[float, Sequence[Router]],
    split: Split,
    router: str,
    pair: tuple[int, int] | None,
    others: Mapping[float, Mapping[str, Policy]],
) -> dict[str, Outcomes]:
    """Return what each policy reaches at every alpha, in ascending order of alphas."""
    rows = table.rows(split)
    strong = table.path_name(pair[1]) if pair else None
    by_alpha: dict[str, list[Outcomes]] = {}
    for alpha in sorted(routers):
        probabilities = [router.probabilities(table, rows, alpha) for router in routers[alpha]]
        further = others.get(alpha, {})
        evaluated = policies(table, split, alpha, probabilities, others=further)
        for name in [router, *further, *_deciding_baselines(evaluated)]:
            by_alpha.setdefault(name, []).append(_point(evaluated[name], strong))
    return {
        name: Outcomes(*(np.concatenate(values, axis=1) for values in zip(*points, strict=True)))
        for name, points in by_alpha.items()
    }


def _deciding_baselines(evaluated: Mapping[str, Policy]) -> list[str]:
    """Return the names of the baselines that decide at an alpha, the oracle last."""
    baselines = [baseline.name for baseline in registered_baselines() if baseline.name not in (*FIXED_FAMILIES, ORACLE)]
    return [*(name for name in baselines if name in evaluated), ORACLE]


def _point(policy: Policy, strong: str | None) -> Outcomes:
    """Return what a policy reaches on each question, `(seeds, 1, questions)`."""
    columns: list[Floats] = []
    for seed in policy.seeds:
        if strong is None:
            columns.append(np.full(len(seed.shares), np.nan))
        else:
            columns.append(seed.shares[:, seed.paths.index(strong)] if strong in seed.paths else np.zeros(len(seed.shares)))
    quality, cost = (np.stack(values)[:, None] for values in zip(*(seed.outcome for seed in policy.seeds), strict=True))
    return Outcomes(quality=quality, cost=cost, strong=np.stack(columns)[:, None])
