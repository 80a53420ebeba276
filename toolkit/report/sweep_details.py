"""Shows the details of a sweep, as text for people: the gap recovered at each alpha, and metrics over all, by policy."""

from collections.abc import Mapping
from math import isnan

from toolkit.report.estimates import CHOSEN, HINDSIGHT, marked, with_interval
from toolkit.report.tables import fitted, format_number, wrapped
from toolkit.routing.comparison import BEST_FIXED_PATH
from toolkit.routing.sweep_metrics import CPT_LEVELS, PolicyMetrics, Scores, router_points


def details(scores: Scores) -> list[str]:
    """Return the details of a sweep as paragraphs and tables."""
    return [_points(scores), _metrics(scores)]


def _points(scores: Scores) -> str:
    """Lay out the router's scores at every alpha: the gap that it recovers, and means over questions where they differ."""
    swept, router = scores.swept, router_points(scores)
    best_path = {point.alpha: point.reward.mean for point in scores.points if point.policy == BEST_FIXED_PATH}
    is_pair, has_arena = swept.weak_strong is not None, scores.money is not None and scores.money.is_usd
    table = []
    for point in router:
        cells = [f"{point.alpha:g}", *map(with_interval, (point.quality, point.cost))]
        cells += map(format_number, (best_path[point.alpha], point.gap_recovered))
        cells += [format_number(point.arena_score)] if has_arena else []
        cells += [format_number(point.pgr)] if is_pair else []
        micro = (point.micro_quality, point.micro_cost, point.micro_reward)
        cells += map(format_number, micro) if swept.benchmarks > 1 else []
        table.append(cells)
    columns = ["alpha", "Q", "C", f"best path's{CHOSEN} R", "gap recovered", *(["arena"] if has_arena else [])]
    columns += [*(["PGR"] if is_pair else []), *(["micro Q", "micro C", "micro R"] if swept.benchmarks > 1 else [])]
    notes = f"gap recovered: part of the way from R of the best fixed path{CHOSEN} to that of the oracle, a ratio." + (
        " micro: means over questions." if swept.benchmarks > 1 else ""
    )
    return fitted(columns, table) + "\n" + wrapped(notes)


def _metrics(scores: Scores) -> str:
    """Lay out AIQ, the router's lead in it, CostSave, and for two models APGR and CPT, by policy."""
    swept, metrics = scores.swept, scores.metrics
    if isnan(metrics[swept.router].aiq.mean):
        return "There is no AIQ: every fixed path costs the same on the test split."
    several = swept.benchmarks > 1
    table = []
    for name, policy in metrics.items():
        cells = [
            marked(name),
            with_interval(policy.aiq),
            "" if name == swept.router else with_interval(policy.lead),
        ]
        cells += [format_number(policy.micro_aiq.mean)] if several else []
        cells.append("-" if isnan(policy.cost_save) else f"{policy.cost_save:.1%}")
        table.append(cells)
    columns = ["policy", "AIQ", "router's AIQ - this AIQ", *(["micro AIQ"] if several else []), "CostSave"]
    notes = (
        "AIQ: mean quality over costs, from the cheapest fixed path, which every router can mix in, to the most expensive one. "
        "A zero router mixes fixed choices at random. CostSave: saving at the quality of the best single model, a ratio. "
        f"{CHOSEN} chosen on the training split. {HINDSIGHT} hindsight: sees the outcomes that it is evaluated on."
    )
    pairs = [] if swept.weak_strong is None else [_pairs(metrics)]
    return "\n\n".join([fitted(columns, table) + "\n" + wrapped(notes), *pairs])


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
    return fitted(["policy", "APGR", *(f"CPT({level:.0%})" for level in CPT_LEVELS)], table) + "\n" + wrapped(notes)
