"""The metrics of a sweep, recomputed question by question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from tests.toy import make_table, with_missing
from toolkit.replay.costs import Money, money_of
from toolkit.replay.exact import fixed_paths, rank_paths
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.aiq import hull_indices, zero_routers
from toolkit.routing.baselines import mlp
from toolkit.routing.router import Router
from toolkit.routing.scores import arena_score
from toolkit.routing.sweep_metrics import points_of, policy_metrics
from toolkit.routing.swept import swept, weak_and_strong

ALPHAS = (0.0, 0.2, 0.5)


class Chooser:
    """Stands in for a router of one hop: chooses the second model where a score of the question exceeds alpha."""

    def __init__(self, scores: Floats) -> None:
        self.scores = scores

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float | None = None) -> Floats:
        assert alpha is not None
        strong = np.where(self.scores[rows] > alpha, 0.9, 0.2)
        return np.stack([1 - strong, strong], axis=-1)[:, None]


def pair_table(seed: int = 0, rows: int = 240) -> TransitionTable:
    """Return a table of a weak and a strong model, and of two benchmarks of unequal size."""
    rng = np.random.default_rng(seed)
    scores = (rng.random((rows, 2)) < [0.45, 0.8]).astype(float)
    cost = np.stack([np.zeros(rows), rng.uniform(0.1, 0.2, rows), rng.uniform(0.8, 1.2, rows)], axis=1)
    split = np.array([("train", "test", "test")[n % 3] for n in range(rows)])
    benchmark = np.array([int(n > rows // 4) for n in range(rows)])
    quality = np.concatenate([np.zeros((rows, 1)), scores], axis=1)
    return make_table(quality, cost, 1, ["weak", "strong"], benchmark=benchmark, split=split)


def routers(table: TransitionTable, seeds: int) -> dict[float, Sequence[Router]]:
    """Return routers that see the gain in quality through noise, at every alpha."""
    gain = table.quality[:, 2] - table.quality[:, 1]
    noises = [np.random.default_rng(seed).normal(0, 0.6, len(gain)) for seed in range(seeds)]
    choosers = [cast(Router, Chooser(gain + noise)) for noise in noises]
    return dict.fromkeys(ALPHAS, choosers)


def macro(table: TransitionTable, rows: Ints, values: Floats) -> float:
    """Return the mean of benchmarks of a value of each row."""
    benchmark = table.benchmark[rows]
    return float(np.mean([values[benchmark == n].mean() for n in np.unique(benchmark)]))


def greedy_nodes(table: TransitionTable, rows: Ints, alpha: float, router: Router) -> Ints:
    nodes: Ints = 1 + router.probabilities(table, rows, alpha)[:, 0].argmax(-1)
    return nodes


def hull_area(points: list[tuple[float, float]], low: float, high: float) -> float:
    """Return AIQ on a fine grid: the best of all points and mixtures of two that a cost affords."""
    grid = np.linspace(low, high, 2001)
    heights = []
    for at in (grid[1:] + grid[:-1]) / 2:
        affordable = [y for x, y in points if x <= at]
        mixed = [y + (v - y) * (at - x) / (u - x) for x, y in points for u, v in points if x <= at < u]
        heights.append(max(affordable + mixed))
    return float(np.mean(heights))


def test_points_are_means_over_seeds_benchmarks_and_questions() -> None:
    table = pair_table()
    rows, group = table.rows("test"), routers(table, 3)
    result = swept(table, group, "test")
    points = {(point.policy, point.alpha): point for point in points_of(result)}
    assert len(points) == len(points_of(result))
    for alpha in ALPHAS:
        nodes = [greedy_nodes(table, rows, alpha, router) for router in group[alpha]]
        quality = np.mean([table.quality[rows, each] for each in nodes], axis=0)
        cost = np.mean([table.cost[rows, each] for each in nodes], axis=0)
        point = points["router", alpha]
        assert point.quality.mean == pytest.approx(macro(table, rows, quality))
        assert point.cost.mean == pytest.approx(macro(table, rows, cost))
        assert point.reward.mean == pytest.approx(macro(table, rows, quality - alpha * cost))
        assert (point.micro_quality, point.micro_cost) == pytest.approx((quality.mean(), cost.mean()))
        assert point.micro_reward == pytest.approx((quality - alpha * cost).mean())
        per_seed = [macro(table, rows, table.quality[rows, each] - alpha * table.cost[rows, each]) for each in nodes]
        assert point.reward_spread == pytest.approx(np.std(per_seed, ddof=1))
        best = max((table.quality - alpha * table.cost)[rows][:, 1:].T, key=lambda rewards: macro(table, rows, rewards))
        assert points["best fixed path", alpha].reward.mean == pytest.approx(macro(table, rows, best))
        oracle = macro(table, rows, (table.quality - alpha * table.cost)[rows][:, 1:].max(1))
        assert point.regret == pytest.approx(oracle - point.reward.mean)
        gap = oracle - points["best fixed path", alpha].reward.mean
        assert point.gap_recovered == pytest.approx(1 - point.regret / gap)
        assert math.isnan(point.price)
        assert math.isnan(point.arena_score)
        assert points["strong", alpha].quality.mean == pytest.approx(macro(table, rows, table.quality[rows, 2]))


def test_aiq_and_its_lead_have_the_intervals_of_a_plain_paired_bootstrap() -> None:
    """Every resample draws questions within each benchmark, and computes the AIQ of all policies from them anew."""
    table = pair_table(1)
    rows, group = table.rows("test"), routers(table, 1)
    metrics = policy_metrics(swept(table, group, "test"))
    nodes = [greedy_nodes(table, rows, alpha, group[alpha][0]) for alpha in ALPHAS]
    weak, strong = np.full(len(rows), 1), np.full(len(rows), 2)

    def areas(sample: Ints) -> tuple[float, float]:
        def mean(chosen: Ints) -> tuple[float, float]:
            at = rows[sample], chosen[sample]
            return macro(table, rows[sample], table.cost[at]), macro(table, rows[sample], table.quality[at])

        ends = [mean(weak), mean(strong)]
        low, high = ends[0][0], ends[1][0]
        return hull_area([ends[0], *map(mean, nodes)], low, high), hull_area(ends, low, high)

    router, zero = areas(np.arange(len(rows)))
    assert metrics["router"].aiq.mean == pytest.approx(router, abs=1e-4)
    assert metrics["zero router (models)"].aiq.mean == pytest.approx(zero, abs=1e-4)
    assert metrics["zero router (models)"].lead.mean == pytest.approx(router - zero, abs=1e-4)
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(table.benchmark[rows] == n) for n in (0, 1)]
    resamples = [areas(np.concatenate([rng.choice(each, len(each)) for each in members])) for _ in range(300)]
    leads = [left - right for left, right in resamples]
    for estimate, values in (
        (metrics["router"].aiq, [left for left, _ in resamples]),
        (metrics["zero router (models)"].lead, leads),
    ):
        low, high = np.percentile(values, [2.5, 97.5])
        width = high - low
        assert estimate.low == pytest.approx(low, abs=0.2 * width)
        assert estimate.high == pytest.approx(high, abs=0.2 * width)
    # Paired: the two share their questions, so that their difference varies less than it would otherwise.
    independent = np.hypot(np.std([left for left, _ in resamples]), np.std([right for _, right in resamples]))
    lead = metrics["zero router (models)"].lead
    assert lead.high - lead.low < 0.9 * 2 * 1.96 * independent
    assert metrics["router"].lead == (0, 0, 0)


def test_metrics_of_two_models_are_routellm_s() -> None:
    table = pair_table(2)
    rows, group = table.rows("test"), routers(table, 2)
    result = swept(table, group, "test")
    assert weak_and_strong(table) == (1, 2)
    weak, strong = (macro(table, rows, table.quality[rows, node]) for node in (1, 2))
    line = [(0.0, 0.0), (1.0, 1.0)]
    points = {point.alpha: point for point in points_of(result) if point.policy == "router"}
    for alpha in ALPHAS:
        nodes = np.stack([greedy_nodes(table, rows, alpha, router) for router in group[alpha]])
        share = macro(table, rows, (nodes == 2).mean(0))
        recovered = (points[alpha].quality.mean - weak) / (strong - weak)
        assert points[alpha].pgr == pytest.approx(recovered)
        line.append((share, recovered))
    line.sort()
    metrics = policy_metrics(result)["router"]
    assert metrics.apgr.mean == pytest.approx(np.trapezoid([y for _, y in line], [x for x, _ in line]))
    grid = np.linspace(0, 1, 10_001)
    height = np.interp(grid, [x for x, _ in line], [y for _, y in line])
    for level, estimate in zip((0.5, 0.8), metrics.cpt, strict=True):
        assert estimate.mean == pytest.approx(grid[(height >= level).argmax()], abs=2e-4)
        assert estimate.low <= estimate.mean <= estimate.high


def test_metrics_of_two_models_need_two_models_and_one_hop() -> None:
    table = pair_table(3)
    assert weak_and_strong(table, allow_stop=True) is None
    three = make_table(np.ones((4, 4)), np.ones((4, 4)), 1, ["a", "b", "c"])
    assert weak_and_strong(three) is None


def test_cost_is_saved_against_the_best_single_model() -> None:
    table = pair_table(4)
    rows = table.rows("test")
    result = swept(table, routers(table, 1), "test")
    quality, cost = (macro(table, rows, values[rows, 2]) for values in (table.quality, table.cost))
    kept = [point.cost.mean for point in points_of(result) if point.policy == "router" and point.quality.mean >= quality - 1e-9]
    metrics = policy_metrics(result)
    assert kept
    assert metrics["router"].cost_save == pytest.approx(1 - min(kept) / cost)
    assert metrics["best model"].cost_save == pytest.approx(0)


def test_prices_are_those_of_a_thousand_questions() -> None:
    result = swept(pair_table(5), routers(pair_table(5), 1), "test")
    for currency, has_score in (("USD", True), ("EUR", False)):
        money = money_of(currency, 0.004)
        assert money == Money(currency, 0.004)
        for point in points_of(result, money):
            assert point.price == pytest.approx(4 * point.cost.mean)
            expected = float(arena_score(np.array(point.quality.mean), np.array(point.price))) if has_score else math.nan
            assert point.arena_score == pytest.approx(expected, nan_ok=True)
    assert money_of(None, 0.004) is money_of("USD", None) is money_of("USD", 0.0) is None


def test_a_sampled_router_is_reported_under_its_own_name() -> None:
    table = pair_table(6)
    rows, group = table.rows("test"), routers(table, 1)
    result = swept(table, group, "test", sampled=True)
    points = {(point.policy, point.alpha): point for point in points_of(result)}
    assert ("router", 0.0) not in points
    probabilities = group[0.0][0].probabilities(table, rows, 0.0)[:, 0]
    quality = (probabilities * table.quality[rows, 1:]).sum(1)
    assert points["router (sampled)", 0.0].quality.mean == pytest.approx(macro(table, rows, quality))


def test_equal_costs_leave_no_aiq() -> None:
    table = make_table(
        np.tile([0.0, 0.0, 1.0], (9, 1)),
        np.tile([0.0, 1.0, 1.0], (9, 1)),
        1,
        ["a", "b"],
        split=np.array(["train", "test", "test"] * 3),
    )
    metrics = policy_metrics(swept(table, {0.0: [cast(Router, Chooser(np.ones(9)))]}, "test"))
    assert math.isnan(metrics["router"].aiq.mean)


def masked_table(n_models: int = 3, seed: int = 0) -> TransitionTable:
    """Return a table of one hop and two benchmarks; the first model has no response on the second, and others are missing."""
    rng = np.random.default_rng(seed)
    quality = np.concatenate([np.zeros((240, 1)), (rng.random((240, n_models)) < 0.5).astype(float)], axis=1)
    cost = np.concatenate([np.zeros((240, 1)), rng.uniform(0.5, 1.5, (240, n_models)) * np.arange(1, n_models + 1)], axis=1)
    split = np.array([("train", "test", "test")[n % 3] for n in range(240)])
    benchmark = (np.arange(240) > 80).astype(np.int64)
    vectors = rng.normal(size=(240, 4)).astype(np.float32)
    complete = make_table(quality, cost, 1, list("abc")[:n_models], vectors, benchmark, split)
    table = with_missing(complete, seed, share=0.2)
    assert table.available is not None
    available = table.available.copy()
    available[(benchmark == 1), 1] = False
    available[benchmark == 1, 2] = True
    quality, cost = np.where(available, quality, 0), np.where(available, cost, 0)
    return replace(table, available=available, quality=quality, hop_cost=cost)


class AvailableChooser:
    """Stands in for a router that chooses among available models at random."""

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float | None = None) -> Floats:
        probabilities: Floats = np.random.default_rng(3).random((len(rows), 1, table.n_models)) * table.allowed[rows]
        normalized: Floats = probabilities / probabilities.sum(-1, keepdims=True)
        return normalized


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp, "MAX_SAMPLES", 1000)


def choosers() -> dict[float, Sequence[Router]]:
    return {alpha: [cast(Router, AvailableChooser())] for alpha in ALPHAS}


def test_fixed_choices_that_lack_questions_are_compared_on_those_that_they_have() -> None:
    table = masked_table()
    assert table.available is not None
    rows = table.rows("test")
    result = swept(table, choosers(), "test")
    points = {(point.policy, point.alpha): point for point in points_of(result)}
    train = table.rows("train")
    for n, name in enumerate("abc"):
        own = np.array([row for row in rows if table.available[row, 1 + n]])
        assert len(own) < len(rows)
        for alpha in ALPHAS:
            point = points[name, alpha]
            rewards = table.quality - alpha * table.cost
            assert point.questions == len(own)
            assert point.quality.mean == pytest.approx(macro(table, own, table.quality[own, 1 + n]))
            assert point.micro_cost == pytest.approx(table.cost[own, 1 + n].mean())
            best = [max(rewards[row, 1 + m] for m in range(3) if table.available[row, 1 + m]) for row in own]
            assert point.regret == pytest.approx(macro(table, own, np.array(best) - rewards[own, 1 + n]))
            ranking = rank_paths(table, train, alpha).tolist()
            first = [next(node for node in ranking if table.available[row, node]) for row in own]
            path, oracle, reward = (
                macro(table, own, each) for each in (rewards[own, first], np.array(best), rewards[own, 1 + n])
            )
            assert point.gap_recovered == pytest.approx((reward - path) / (oracle - path))
    assert {points[name, 0.2].questions for name in ("router", "oracle", "best fixed path", "random")} == {len(rows)}


def test_the_range_and_zero_routers_have_all_questions() -> None:
    table = masked_table()
    assert table.available is not None
    rows, train = table.rows("test"), table.rows("train")
    result = swept(table, choosers(), "test")
    costs = fixed_paths(table, rows).cost
    for place, order in enumerate((np.argsort(costs), np.argsort(-costs))):
        nodes = [next(1 + n for n in order.tolist() if table.available[row, 1 + n]) for row in rows]
        assert result.range.macro.cost.mean[place] == pytest.approx(macro(table, rows, table.cost[rows, nodes]))
        assert result.range.macro.quality.mean[place] == pytest.approx(macro(table, rows, table.quality[rows, nodes]))
    (zero,) = zero_routers(table, train, rows).values()
    assert table.available[rows, zero].all()
    means = fixed_paths(table, train)
    hull = 1 + np.unique(hull_indices(means.cost, means.quality))
    assert len(hull) > 1
    for corner, nodes in zip(hull.tolist(), zero, strict=True):
        has_corner = table.available[rows, corner]
        assert (nodes[has_corner] == corner).all()
        assert not (nodes[~has_corner] == corner).any()
    for metrics in policy_metrics(result).values():
        assert not math.isnan(metrics.aiq.mean)
        assert metrics.aiq.low <= metrics.aiq.mean <= metrics.aiq.high
    oracle = policy_metrics(result)["oracle"].aiq.mean
    assert all(metrics.aiq.mean <= oracle + 1e-9 for metrics in policy_metrics(result).values())


def test_metrics_of_two_models_need_both_responses_to_every_question() -> None:
    table = masked_table(2)
    assert weak_and_strong(replace(table, available=None)) is not None
    assert weak_and_strong(table) is None
    result = swept(table, choosers(), "test")
    assert math.isnan(policy_metrics(result)["router"].apgr.mean)
    assert result.coverage.masked == pytest.approx(1 - np.asarray(table.available)[table.rows("test"), 1:].mean())
