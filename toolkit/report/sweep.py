"""Shows a sweep, as text for people: the routers of all seeds at each alpha, beside what they have to beat."""

from collections.abc import Mapping, Sequence
from math import isnan

from toolkit.core.text import printable
from toolkit.replay.table import ABSTAINED
from toolkit.report.evaluation import with_interval
from toolkit.report.tables import aligned, count, format_number
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.evaluate import COLLAPSE_SHARE, OVERALL, Evaluation, Result
from toolkit.routing.statistics import Estimate
from toolkit.routing.sweep import Collapse, SweepRun
from toolkit.store import SweepPoint

BEST_PER_BENCHMARK = ("best model per benchmark", "best path per benchmark")
"""Baselines that are chosen for each benchmark separately, on the training split."""
MAX_BENCHMARKS_WIDTH = 90
"""Longest list of benchmarks, in characters."""
MAX_RATIO = 100
"""A larger ratio of qualities is not shown: its denominator is almost 0."""


def render(
    runs: Sequence[SweepRun],
    points: Sequence[SweepPoint],
    questions: int,
    areas: Mapping[str, float],
    collapses: Sequence[Collapse],
    router: str,
) -> str:
    """Lay out one line per alpha, then AIQ, then where routers have collapsed.

    Args:
        runs: All runs of the sweep.
        points: The scores of every policy at every alpha, on the test split.
        questions: Number of questions of that split.
        areas: AIQ by policy.
        collapses: Where routers have collapsed.
        router: The learned policy to show: `router`, or `router (sampled)`.
    """
    seeds = len({run.seed for run in runs})
    lines = [
        f"{count(len(runs), 'router')} ({runs[0].config.algorithm}), test split: {count(questions, 'question')}. "
        f"Means over {count(seeds, 'seed')} and, unweighted, over benchmarks.\n",
        _points(points, seeds, router),
        "\n" + _areas(areas),
    ]
    if collapses:
        routers = [f"alpha {collapse.alpha:g}: {collapse.routers} of {seeds} ({collapse.path})" for collapse in collapses]
        lines.append(
            printable(f"Collapsed to one path on more than {COLLAPSE_SHARE:.0%} of the questions: {'; '.join(routers)}.")
        )
    return "\n".join(lines)


def render_by_benchmark(evaluations: Sequence[Evaluation]) -> str:
    """Lay out every alpha by benchmark, then the headline."""
    parts = [
        *map(_by_benchmark, evaluations),
        "Rows show R, or Q where they say so, of the routers of all seeds together; ± is half a 95% interval over questions.",
        _headline(evaluations),
    ]
    return "\n\n".join(parts)


def _areas(areas: Mapping[str, float]) -> str:
    if not areas:
        return "There is no AIQ: every fixed path costs the same on the test split."
    return (
        "AIQ (mean quality over costs, from the cheapest fixed path, which every router can mix in, to the most expensive "
        f"one): {', '.join(f'{policy} {format_number(area)}' for policy, area in areas.items())}."
    )


def _points(points: Sequence[SweepPoint], seeds: int, router: str) -> str:
    fixed_rewards = {point.alpha: point.reward for point in points if point.policy == "best fixed path"}
    rows = []
    for point in points:
        if point.policy == router:
            spread = point.reward_spread if seeds > 1 else None
            figures = (point.quality, point.cost, point.reward, spread, fixed_rewards[point.alpha], point.regret)
            rows.append([f"{point.alpha:g}", *map(format_number, figures)])
    return aligned(["alpha", "Q", "C", "R", "sd over seeds", "best fixed path's R", "regret to oracle"], rows)


def _headline(evaluations: Sequence[Evaluation]) -> str:
    """Lay out one line per alpha: the router's R, its lead, its share of others' R, and the benchmarks where it leads."""
    best_model, best_path = BEST_PER_BENCHMARK
    rows = []
    for evaluation in evaluations:
        ahead = [benchmark for benchmark in evaluation.benchmarks if evaluation.result(best_path, benchmark).lead.low > 0]
        estimates = (
            evaluation.result("router").reward,
            evaluation.result("best model").lead,
            evaluation.result(best_model).lead,
            evaluation.result(best_path).share,
            evaluation.result("oracle").share,
        )
        rows.append([f"{evaluation.alpha:g}", *map(with_interval, estimates), ", ".join(ahead) or "none"])
    columns = ["alpha", "router's R", "ahead of best model", "ahead of best model of each"]
    columns += ["of best path of each", "of the oracle", "above best path of its own"]
    return aligned(columns, rows, MAX_BENCHMARKS_WIDTH)


def _by_benchmark(evaluation: Evaluation) -> str:
    """Lay out one alpha: R of every policy, the router's lead, and its Q as a multiple of others' Q."""
    fixed = [policy for policy in evaluation.policies if evaluation.result(policy).paths.keys() == {policy}]
    models = [policy for policy in fixed if " > " not in policy and policy != ABSTAINED]
    predictors = [baseline.name for baseline in registered_baselines() if baseline.question_only]
    compared = ["router", *models, *BEST_PER_BENCHMARK, *predictors, "oracle"]
    benchmarks = [*evaluation.benchmarks, OVERALL]

    def row(title: str, policy: str, measure: str) -> list[str]:
        estimates = (getattr(evaluation.result(policy, benchmark), measure) for benchmark in benchmarks)
        return [title, *map(_with_half_width, estimates)]

    rows = [
        *(row(policy, policy, "reward") for policy in compared),
        *(row(f"ahead of {policy}", policy, "lead") for policy in BEST_PER_BENCHMARK),
        *(row(f"Q / Q of {policy}", policy, "multiple") for policy in (*models, "oracle")),
        ["paths", *(_main_path(evaluation.result("router", benchmark)) for benchmark in benchmarks)],
    ]
    return aligned([f"alpha = {evaluation.alpha:g}", *benchmarks], rows)


def _main_path(result: Result) -> str:
    path, share = next(iter(result.paths.items()))
    return f"{path} {share:.0%}"


def _with_half_width(estimate: Estimate) -> str:
    """Write a value with half of its interval, which is left out if it is wider than the value."""
    if not estimate.mean < MAX_RATIO:
        return "-"
    half_width = (estimate.high - estimate.low) / 2  # nan if there is no interval
    shows_width = not isnan(half_width) and (half_width < estimate.mean or estimate.mean < 1)
    return format_number(estimate.mean, 2) + (f" ±{format_number(half_width, 2)}" if shows_width else "")
