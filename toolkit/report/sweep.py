"""Shows a sweep, as text for people and as rows for programs: the routers of all seeds at each alpha, and metrics over all."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isnan
from typing import Any

from toolkit.core.text import printable
from toolkit.report.coverage import masked_sentence
from toolkit.report.evaluation import with_interval
from toolkit.report.tables import aligned, count, format_number
from toolkit.routing.comparison import BEST_FIXED_PATH, ORACLE
from toolkit.routing.evaluate import COLLAPSE_SHARE
from toolkit.routing.statistics import TIE
from toolkit.routing.sweep import AffordableAlpha, Collapse
from toolkit.routing.sweep_metrics import CPT_LEVELS, Point, PolicyMetrics, Scores
from toolkit.routing.swept import Swept

WIDTH = 120
"""Columns of a line of text."""
COLLAPSED, REPEATED = "*", "="
"""What marks an alpha whose routers have collapsed, and one at which they score the same as at the one before."""


def render(scores: Scores, collapses: Sequence[Collapse], runs: int, algorithm: str) -> str:
    """Lay out one line per alpha, then a line per policy with its metrics over all alphas.

    Args:
        scores: The figures of the sweep.
        collapses: Where routers have collapsed.
        runs: Number of trained routers.
        algorithm: The algorithm that trained them.
    """
    swept = scores.swept
    parts = [
        f"{count(runs, 'router')} ({algorithm}), test split: {count(swept.questions, 'question')}. "
        f"Means over {count(swept.seeds, 'seed')} and, unweighted, over {count(swept.benchmarks, 'benchmark')}."
        + _masked(swept),
        _points(scores, collapses) + "\n" + _notes(scores, collapses),
        _metrics(scores),
    ]
    return "\n\n".join(parts)


def _masked(swept: Swept) -> str:
    """Say what is masked on the test split, and what stands in for it; empty if nothing is."""
    if not swept.coverage.is_masked:
        return ""
    sentences = (
        f"{masked_sentence(swept.coverage)} Where a fixed choice is not available, the best, cheapest or most expensive path, "
        "and those of zero routers, are the next ones in the same order."
    )
    return "\n" + _wrapped(sentences)


def budget_sentence(scores: Scores, budget_cost: float, choice: AffordableAlpha | None) -> str:
    """Say which alpha keeps a budget, and what its routers score on the test split."""
    if choice is None:
        lowest = "Larger alphas cost less: add some with --alphas, or raise the budget."
        return _wrapped(f"No alpha keeps a mean cost of {budget_cost:g} on the validation split. {lowest}")
    point = next(point for point in router_points(scores) if point.alpha == choice.alpha)
    price = f" ({scores.currency} {point.price:.4g} per 1,000 questions)" if scores.currency else ""
    return _wrapped(
        f"Within a mean cost of {budget_cost:g}: alpha {choice.alpha:g}, chosen on the validation split, where its cost is "
        f"{format_number(choice.validation_cost)}, has Q {with_interval(point.quality)}, C {with_interval(point.cost)}{price} "
        f"and R {with_interval(point.reward)} on the test split."
    )


def rows(scores: Scores, has_budget: bool = False, choice: AffordableAlpha | None = None) -> list[dict[str, Any]]:
    """Return a row for every policy at every alpha, and one without alpha for policies that have metrics alone.

    `budget_choice` says whether the row is the router's at the alpha that keeps the budget; null without a budget.
    """
    columns = {name: _metric_columns(policy) for name, policy in scores.metrics.items()}
    empty = dict.fromkeys(next(iter(columns.values())))
    chosen = (scores.swept.router, choice.alpha) if choice else None
    result = [
        {
            **point.row(),
            **columns.get(point.policy, empty),
            "budget_choice": (point.policy, point.alpha) == chosen if has_budget else None,
        }
        for point in scores.points
    ]
    blank = dict.fromkeys(result[0])
    scored = {point.policy for point in scores.points}
    return result + [{**blank, "policy": name, **columns[name]} for name in scores.metrics if name not in scored]


def router_points(scores: Scores) -> list[Point]:
    """Return the router's points, in ascending order of alphas."""
    return [point for point in scores.points if point.policy == scores.swept.router]


def _metric_columns(metrics: PolicyMetrics) -> dict[str, float]:
    estimates = {
        "aiq": metrics.aiq,
        "aiq_lead": metrics.lead,
        "micro_aiq": metrics.micro_aiq,
        "micro_aiq_lead": metrics.micro_lead,
        "apgr": metrics.apgr,
        **{f"cpt_{level:.0%}".rstrip("%"): value for level, value in zip(CPT_LEVELS, metrics.cpt, strict=True)},
    }
    columns = {"cost_save": metrics.cost_save}
    for name, (mean, low, high) in estimates.items():
        columns |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return columns


def _points(scores: Scores, collapses: Sequence[Collapse]) -> str:
    """Lay out the router's scores at every alpha; micro averages only where they differ from the others."""
    swept, currency, router = scores.swept, scores.currency, router_points(scores)
    best_path = {point.alpha: point.reward.mean for point in scores.points if point.policy == BEST_FIXED_PATH}
    collapsed = {collapse.alpha for collapse in collapses}
    is_pair, has_arena = swept.weak_strong is not None, currency == "USD"
    table = []
    for point, repeats in zip(router, repeated(router), strict=True):
        marks = COLLAPSED * (point.alpha in collapsed) + REPEATED * repeats
        cells = [f"{point.alpha:g}{marks}", *map(format_number, (point.quality.mean, point.cost.mean))]
        cells += [f"{point.price:.4g}"] if currency else []
        cells += [with_interval(point.reward), *([format_number(point.reward_spread)] if swept.seeds > 1 else [])]
        cells += map(format_number, (best_path[point.alpha], point.gap_recovered))
        cells += [format_number(point.arena_score)] if has_arena else []
        cells += [format_number(point.pgr)] if is_pair else []
        micro = (point.micro_quality, point.micro_cost, point.micro_reward)
        cells += map(format_number, micro) if swept.benchmarks > 1 else []
        table.append(cells)
    columns = ["alpha", "Q", "C", *([f"{currency}/1,000"] if currency else []), "R"]
    columns += [*(["sd"] if swept.seeds > 1 else []), "best path", "gap", *(["arena"] if has_arena else [])]
    columns += [*(["PGR"] if is_pair else []), *(["micro Q", "micro C", "micro R"] if swept.benchmarks > 1 else [])]
    return aligned(columns, table)


def repeated(points: Sequence[Point]) -> list[bool]:
    """Return for each of the router's points whether its quality and cost are those of the one before."""
    same = [
        abs(before.quality.mean - point.quality.mean) < TIE and abs(before.cost.mean - point.cost.mean) < TIE
        for before, point in pairwise(points)
    ]
    return [False, *same]


def _notes(scores: Scores, collapses: Sequence[Collapse]) -> str:
    swept = scores.swept
    over = "questions and seeds" if swept.seeds > 1 else "questions"
    notes = [
        f"R: with its 95% interval over {over}."
        + (" sd: of R over seeds." if swept.seeds > 1 else "")
        + " best path: R of the best fixed path. gap: part of the way from there to the oracle's R."
        + (" micro: means over questions." if swept.benchmarks > 1 else "")
    ]
    if any(repeated(router_points(scores))):
        notes.append(f"{REPEATED} quality and cost of the alpha before.")
    if collapses:
        routers = [f"alpha {collapse.alpha:g}: {collapse.routers} of {swept.seeds} ({collapse.path})" for collapse in collapses]
        notes.append(
            f"{COLLAPSED} collapsed to one path on more than {COLLAPSE_SHARE:.0%} of the questions: {'; '.join(routers)}."
        )
    return "\n".join(_wrapped(printable(note)) for note in notes)


def _metrics(scores: Scores) -> str:
    """Lay out AIQ, the router's lead in it, CostSave, and for two models APGR and CPT, by policy."""
    swept, metrics = scores.swept, scores.metrics
    if isnan(metrics[swept.router].aiq.mean):
        return "There is no AIQ: every fixed path costs the same on the test split."
    several = swept.benchmarks > 1
    table = []
    for name, policy in metrics.items():
        cells = [
            name + " (hindsight)" * (name == ORACLE),
            with_interval(policy.aiq),
            "" if name == swept.router else with_interval(policy.lead),
        ]
        cells += [format_number(policy.micro_aiq.mean)] if several else []
        cells.append("-" if isnan(policy.cost_save) else f"{policy.cost_save:.1%}")
        table.append(cells)
    columns = ["policy", "AIQ", "router's AIQ is ahead by", *(["micro AIQ"] if several else []), "CostSave"]
    notes = (
        "AIQ: mean quality over costs, from the cheapest fixed path, which every router can mix in, to the most expensive one. "
        "A zero router mixes fixed choices at random. CostSave: saving at the quality of the best single model."
    )
    pairs = [] if swept.weak_strong is None else [_pairs(metrics)]
    return "\n\n".join([aligned(columns, table) + "\n" + _wrapped(notes), *pairs])


def _pairs(metrics: Mapping[str, PolicyMetrics]) -> str:
    table = [
        [name, *map(with_interval, (policy.apgr, *policy.cpt))]
        for name, policy in metrics.items()
        if not isnan(policy.apgr.mean)
    ]
    notes = (
        "PGR: quality between the weak (0) and the strong model (1). APGR: its mean over the share of calls to the strong "
        "model (random: 0.5). CPT: least share of such calls that recovers so much."
    )
    return aligned(["policy", "APGR", *(f"CPT({level:.0%})" for level in CPT_LEVELS)], table) + "\n" + _wrapped(notes)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
