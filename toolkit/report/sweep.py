"""Shows a sweep, as text for people and as rows for programs: the routers of all seeds at each alpha, and metrics over all."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from toolkit.core.text import printable
from toolkit.report.coverage import masked_sentence
from toolkit.report.estimates import CHOSEN, marked, negated, with_interval
from toolkit.report.sweep_details import details
from toolkit.report.tables import WIDTH, count, fitted, format_number, wrapped
from toolkit.routing.evaluate import COLLAPSE_SHARE
from toolkit.routing.statistics import TIE
from toolkit.routing.sweep import AffordableAlpha, Collapse
from toolkit.routing.sweep_metrics import CPT_LEVELS, Point, PolicyMetrics, Scores, router_points
from toolkit.routing.swept import Swept
from toolkit.routing.verdict import MIN_QUESTIONS, AlphaVerdict, judge_alphas, judge_curve

__all__ = ["WIDTH", "budget_sentence", "render", "repeated", "router_points", "rows"]

COLLAPSED, REPEATED = "*", "="
"""What marks an alpha whose routers have collapsed, and one at which they score the same as at the one before."""


def render(scores: Scores, collapses: Sequence[Collapse], runs: int, algorithm: str, full: bool = False) -> str:
    """Lay out the verdict and one line per alpha; with `full`, also both averages, and a line per policy with its metrics.

    Args:
        scores: The figures of the sweep.
        collapses: Where routers have collapsed.
        runs: Number of trained routers.
        algorithm: The algorithm that trained them.
        full: Whether to show everything.
    """
    swept, verdicts = scores.swept, judge_alphas(scores)
    subject = (
        f"{count(runs, 'router')} ({algorithm}), test split: {count(swept.questions, 'question')}. "
        f"Means over {count(swept.seeds, 'seed')} and, unweighted, over {count(swept.benchmarks, 'benchmark')}."
        + _masked(swept)
    )
    parts = [
        wrapped(printable(_verdict(scores, verdicts))),
        _points(scores, verdicts, collapses) + "\n" + _notes(scores, verdicts, collapses),
        *([_others(scores)] if swept.others else []),
        subject,
    ]
    if full:
        parts += details(scores)
    else:
        parts.append(
            "More: --full shows AIQ and CostSave of every baseline, the best fixed path, both averages and each benchmark."
        )
    return "\n\n".join(parts)


def _others(scores: Scores) -> str:
    """Compare the trained routers with those of the user, by AIQ."""
    lines = [
        f"{name}: AIQ {with_interval(scores.metrics[name].aiq)}; the trained routers' AIQ minus that is "
        f"{with_interval(scores.metrics[name].lead)}."
        for name in scores.swept.others
    ]
    return "\n".join(wrapped(printable(line)) for line in lines)


def _verdict(scores: Scores, verdicts: Sequence[AlphaVerdict]) -> str:
    """Say how the routers compare with the strongest baseline, over all costs and at each alpha."""
    swept = scores.swept
    if swept.questions < MIN_QUESTIONS:
        return f"Only {count(swept.questions, 'question')}: too few to say which policy is better."
    above, below = ([verdict for verdict in verdicts if sign * _nearest(verdict, sign) > 0] for sign in (1, -1))
    by_alpha = (
        f"In R, they are significantly above the strongest baseline at {len(above)} of {count(len(verdicts), 'alpha')}, and "
        f"below it at {len(below)} (95% intervals, not corrected for the number of alphas)."
    )
    curve = judge_curve(scores)
    if curve is None:
        return f"There is no AIQ to compare. {by_alpha}"
    other = f"that of {curve.baseline}, the strongest of {count(curve.baselines, 'baseline')} on these questions"
    aiq = with_interval(scores.metrics[swept.router].aiq)
    if not curve.is_significant:
        compared = f"not significantly different from {other}: the difference is {with_interval(curve.lead)}"
    elif curve.lead.mean > 0:
        compared = f"significantly above {other}, by {with_interval(curve.lead)}"
    else:
        compared = f"significantly below {other}, by {with_interval(negated(curve.lead))}"
    return f"The routers' quality averaged over costs (AIQ), {aiq}, is {compared}. {by_alpha}"


def _nearest(verdict: AlphaVerdict, sign: int) -> float:
    """Return the end of an interval that has to be on one side of 0 for a claim."""
    return verdict.lead.low if sign > 0 else verdict.lead.high


def _masked(swept: Swept) -> str:
    """Say what is masked on the test split, and what stands in for it; empty if nothing is."""
    if not swept.coverage.is_masked:
        return ""
    sentences = (
        f"{masked_sentence(swept.coverage)} Where a fixed choice is not available, the best, cheapest or most expensive path, "
        "and those of zero routers, are the next ones in the same order."
    )
    return "\n" + wrapped(sentences)


def budget_sentence(scores: Scores, budget_cost: float, choice: AffordableAlpha | None) -> str:
    """Say which alpha keeps a budget, and what its routers score on the test split."""
    if choice is None:
        lowest = "Larger alphas cost less: add some with --alphas, or raise the budget."
        return wrapped(f"No alpha keeps a mean cost of {budget_cost:g} on the validation split. {lowest}")
    point = next(point for point in router_points(scores) if point.alpha == choice.alpha)
    price = f" ({scores.money.currency} {point.price:.4g} per 1,000 questions)" if scores.money else ""
    return wrapped(
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


def _points(scores: Scores, verdicts: Sequence[AlphaVerdict], collapses: Sequence[Collapse]) -> str:
    """Lay out the router's scores at every alpha, beside the strongest baseline there."""
    swept, money, router = scores.swept, scores.money, router_points(scores)
    collapsed, strongest = {collapse.alpha for collapse in collapses}, {verdict.alpha: verdict for verdict in verdicts}
    table = []
    for point, repeats in zip(router, repeated(router), strict=True):
        marks = COLLAPSED * (point.alpha in collapsed) + REPEATED * repeats
        cells = [f"{point.alpha:g}{marks}", *map(format_number, (point.quality.mean, point.cost.mean))]
        cells += [f"{point.price:.4g}"] if money else []
        cells += [with_interval(point.reward), *([format_number(point.reward_spread)] if swept.seeds > 1 else [])]
        if point.alpha in strongest:
            verdict = strongest[point.alpha]
            cells += [marked(verdict.baseline), with_interval(verdict.lead)]
        table.append(cells)
    columns = ["alpha", "Q", "C", *([f"{money.currency}/1,000"] if money else []), "R", *(["sd"] if swept.seeds > 1 else [])]
    return fitted([*columns, *(["strongest baseline", "R - that baseline's R"] if strongest else [])], table)


def repeated(points: Sequence[Point]) -> list[bool]:
    """Return for each of the router's points whether its quality and cost are those of the one before."""
    same = [
        abs(before.quality.mean - point.quality.mean) < TIE and abs(before.cost.mean - point.cost.mean) < TIE
        for before, point in pairwise(points)
    ]
    return [False, *same]


def _notes(scores: Scores, verdicts: Sequence[AlphaVerdict], collapses: Sequence[Collapse]) -> str:
    swept = scores.swept
    over = "questions and seeds" if swept.seeds > 1 else "questions"
    strongest = " strongest baseline: of the highest R on these questions, hindsight left out. The last column is a difference."
    notes = [
        f"R: with its 95% interval over {over}."
        + (" sd: of R over seeds." if swept.seeds > 1 else "")
        + (strongest if verdicts else "")
    ]
    if any(marked(verdict.baseline) != verdict.baseline for verdict in verdicts):
        notes.append(f"{CHOSEN} chosen on the training split.")
    if any(repeated(router_points(scores))):
        notes.append(f"{REPEATED} quality and cost of the alpha before.")
    if collapses:
        routers = [f"alpha {collapse.alpha:g}: {collapse.routers} of {swept.seeds} ({collapse.path})" for collapse in collapses]
        notes.append(
            f"{COLLAPSED} collapsed to one path on more than {COLLAPSE_SHARE:.0%} of the questions: {'; '.join(routers)}."
        )
    return "\n".join(wrapped(printable(note)) for note in notes)
