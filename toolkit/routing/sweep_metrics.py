"""The metrics of a sweep, with intervals over questions and seeds; docs/reference/metrics.md defines them."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from toolkit.replay.costs import Money
from toolkit.replay.exact import Outcome
from toolkit.replay.table import Floats
from toolkit.routing.aiq import aiq
from toolkit.routing.comparison import BEST_FIXED_PATH, ORACLE
from toolkit.routing.lines import Line
from toolkit.routing.pairs import apgr, cpt, pgr
from toolkit.routing.scores import arena_score, cost_save
from toolkit.routing.statistics import TIE, Estimate, Resampled, estimates_of
from toolkit.routing.swept import FixedChoice, Swept

NAN = float("nan")
CPT_LEVELS = (0.5, 0.8)
"""Parts of the gap for which the share of calls to the strong model is reported."""


class Point(NamedTuple):
    """What one policy scores at one alpha, with 95% intervals over questions and seeds; those of fixed choices are nan.

    Attributes:
        policy: Its name.
        alpha: Price of cost.
        seeds: Number of routers of which this is the mean.
        questions: Number of questions that it is a mean over: for a model or a fixed path, those that have it. The oracle and
            the best fixed path are compared with it on the same ones.
        quality: Mean of benchmarks; so are cost and reward.
        cost: In cost units.
        reward: R = Q - alpha * C.
        reward_spread: Standard deviation of the reward over seeds.
        regret: The oracle's reward minus this one.
        gap_recovered: Part of the way from the reward of the best fixed path to the oracle's; nan if those are equal.
        micro_quality: Mean of questions; so are the next two.
        micro_cost: In cost units.
        micro_reward: R = Q - alpha * C.
        price: Mean price of 1,000 questions; nan unless prices are money.
        arena_score: RouterArena's score; nan unless prices are US dollars.
        pgr: Performance gap recovered; nan unless there are two models and one hop.
    """

    policy: str
    alpha: float
    seeds: int
    questions: int
    quality: Estimate
    cost: Estimate
    reward: Estimate
    reward_spread: float
    regret: float
    gap_recovered: float
    micro_quality: float
    micro_cost: float
    micro_reward: float
    price: float
    arena_score: float
    pgr: float

    def row(self) -> dict[str, Any]:
        """Return the point for programs: an estimate is three columns, such as `quality`, `quality_low`, `quality_high`."""
        columns: dict[str, Any] = {}
        for name, value in self._asdict().items():
            if isinstance(value, Estimate):
                columns |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
            else:
                columns[name] = value
        return columns


class PolicyMetrics(NamedTuple):
    """The metrics of a policy over all alphas.

    Attributes:
        aiq: Its AIQ, from the mean of benchmarks.
        lead: By how much the router's AIQ is above it; the router's own is 0.
        micro_aiq: Its AIQ, from the mean of questions.
        micro_lead: By how much the router's is above that.
        cost_save: CostSave, a part of the best model's cost; nan if no point has its quality.
        apgr: APGR; nan unless there are two models and one hop.
        cpt: CPT at each of `CPT_LEVELS`, likewise.
    """

    aiq: Estimate
    lead: Estimate
    micro_aiq: Estimate
    micro_lead: Estimate
    cost_save: float
    apgr: Estimate
    cpt: tuple[Estimate, ...]


class Scores(NamedTuple):
    """All figures of a sweep: each policy at every alpha, and over all of them; and what costs are in money, if they are."""

    swept: Swept
    points: list[Point]
    metrics: dict[str, PolicyMetrics]
    money: Money | None


def scores_of(swept: Swept, money: Money | None = None) -> Scores:
    """Compute all figures of a sweep.

    Args:
        swept: The sweep.
        money: What a cost unit costs, if prices are money.
    """
    return Scores(
        swept=swept,
        points=points_of(swept, money),
        metrics=policy_metrics(swept),
        money=money,
    )


def points_of(swept: Swept, money: Money | None = None) -> list[Point]:
    """Return what every policy scores at every alpha: the router, the baselines, the models and the fixed paths.

    Args:
        swept: The sweep.
        money: What a cost unit costs, if prices are money.
    """
    rewards = {name: averages.macro.reward(swept.alphas) for name, averages in swept.lines.items()}
    oracle, best_path = rewards[ORACLE].mean, rewards[BEST_FIXED_PATH].mean
    spread = swept.seed_rewards.std(axis=0, ddof=1) if swept.seeds > 1 else np.zeros(len(swept.alphas))

    def point(
        policy: str,
        n: int,
        estimates: tuple[Estimate, ...],
        micro: Outcome,
        recovered: float = NAN,
        choice: FixedChoice | None = None,
    ) -> Point:
        quality, cost, reward = estimates
        best = float((best_path if choice is None or choice.best_path is None else choice.best_path)[n])
        highest = float((oracle if choice is None or choice.oracle is None else choice.oracle)[n])
        alpha, gap = float(swept.alphas[n]), highest - best
        price = money.per_1000(cost.mean) if money else NAN
        return Point(
            policy=policy,
            alpha=alpha,
            seeds=swept.seeds if policy == swept.router else 1,
            questions=choice.questions if choice else swept.questions,
            quality=quality,
            cost=cost,
            reward=reward,
            reward_spread=float(spread[n]) if policy == swept.router else 0.0,
            regret=highest - reward.mean,
            gap_recovered=(reward.mean - best) / gap if gap > TIE else NAN,
            micro_quality=float(micro.quality),
            micro_cost=float(micro.cost),
            micro_reward=float(micro.reward(alpha)),
            price=price,
            arena_score=float(arena_score(np.array(quality.mean), np.array(price))) if money and money.is_usd else NAN,
            pgr=recovered,
        )

    result = []
    for name, (macro, micro) in swept.lines.items():
        estimates_by_alpha = zip(*map(estimates_of, (macro.quality, macro.cost, rewards[name])), strict=True)
        recovered = pgr_of(swept, macro).mean
        for n, estimates in enumerate(estimates_by_alpha):
            means = Outcome(micro.quality.mean[n], micro.cost.mean[n])
            result.append(point(name, n, estimates, means, float(recovered[n])))
    for name, choice in swept.fixed.items():
        for n, alpha in enumerate(swept.alphas.tolist()):
            columns = (choice.macro.quality, choice.macro.cost, choice.macro.reward(alpha))
            estimates = tuple(Estimate(float(mean), NAN, NAN) for mean in columns)
            result.append(point(name, n, estimates, choice.micro, choice=choice))
    return sorted(result, key=lambda scored: scored.alpha)


def router_points(scores: Scores) -> list[Point]:
    """Return the router's points, in ascending order of alphas."""
    return [point for point in scores.points if point.policy == scores.swept.router]


def policy_metrics(swept: Swept) -> dict[str, PolicyMetrics]:
    """Return the metrics over all alphas of the router, the baselines, the zero routers and the oracle, in this order.

    AIQ is nan where all fixed paths cost the same.
    """
    baselines = {name: averages for name, averages in swept.lines.items() if name != ORACLE}
    compared = {**baselines, **swept.zero_routers, ORACLE: swept.oracle}
    macro_areas = {name: _area(macro, swept.range.macro) for name, (macro, _) in compared.items()}
    micro_areas = {name: _area(micro, swept.range.micro) for name, (_, micro) in compared.items()}
    model = swept.best_model.macro
    best = float(model.quality.mean[0]), float(model.cost.mean[0])
    return {
        name: PolicyMetrics(
            aiq=_estimate(macro_areas[name]),
            lead=_estimate(_difference(macro_areas[swept.router], macro_areas[name])),
            micro_aiq=_estimate(micro_areas[name]),
            micro_lead=_estimate(_difference(micro_areas[swept.router], micro_areas[name])),
            cost_save=cost_save(macro.quality.mean, macro.cost.mean, *best),
            apgr=_of_pairs(swept, macro, apgr),
            cpt=tuple(_of_pairs(swept, macro, partial(cpt, level=level)) for level in CPT_LEVELS),
        )
        for name, (macro, _) in compared.items()
    }


def pgr_of(swept: Swept, line: Line) -> Resampled:
    """Return the performance gap recovered at each point of a line; nan unless there are two models and one hop."""
    if swept.weak_strong is None:
        return Resampled(*(np.full_like(values, NAN) for values in line.quality))
    models = swept.weak_strong.macro.quality
    return Resampled(mean=pgr(line.quality.mean, *models.mean), replicates=pgr(line.quality.replicates, *models.replicates))


def _of_pairs(swept: Swept, line: Line, metric: Callable[[Floats, Floats], Floats]) -> Estimate:
    """Return a metric of the share of calls to the strong model, and the performance gap that they recover."""
    if np.isnan(line.strong.mean).any():
        return Estimate(NAN, NAN, NAN)
    recovered = pgr_of(swept, line)
    mean = metric(line.strong.mean, recovered.mean)
    return _estimate(Resampled(mean=mean, replicates=metric(line.strong.replicates, recovered.replicates)))


def _area(line: Line, cost_range: Line) -> Resampled:
    """Return the AIQ of a line; every router can mix in the cheapest fixed path, which is the first point of the range."""

    def area(part: Literal["mean", "replicates"]) -> Floats:
        ends_quality, ends_cost = (getattr(values, part) for values in cost_range[:2])
        cost = np.concatenate([ends_cost[:1], getattr(line.cost, part)])
        quality = np.concatenate([ends_quality[:1], getattr(line.quality, part)])
        return aiq(cost, quality, ends_cost[0], ends_cost[1])

    return Resampled(mean=area("mean"), replicates=area("replicates"))


def _difference(left: Resampled, right: Resampled) -> Resampled:
    return Resampled(mean=left.mean - right.mean, replicates=left.replicates - right.replicates)


def _estimate(resampled: Resampled) -> Estimate:
    """Return one number, resampled as `(RESAMPLES,)`, with its interval."""
    mean, replicates = np.atleast_1d(resampled.mean), resampled.replicates[None]
    return estimates_of(Resampled(mean=mean, replicates=replicates))[0]
