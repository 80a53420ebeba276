"""Shows a sweep by benchmark, as text for people: R of every policy, the router's lead, and on which benchmarks it leads."""

from collections.abc import Sequence
from math import isnan

from toolkit.replay.table import ABSTAINED
from toolkit.report.estimates import CHOSEN, HINDSIGHT, marked, with_interval
from toolkit.report.tables import count, fitted, format_number, in_blocks, wrapped
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.claims import LEVEL, holm
from toolkit.routing.comparison import OVERALL, OVERALL_QUESTIONS, Result
from toolkit.routing.evaluate import Evaluation
from toolkit.routing.statistics import Estimate

BEST_PER_BENCHMARK = ("best model per benchmark", "best path per benchmark")
"""Baselines that are chosen for each benchmark separately, on the training split."""
MAX_RATIO = 100
"""A larger ratio of qualities is not shown: its denominator is almost 0."""


def render_by_benchmark(evaluations: Sequence[Evaluation]) -> str:
    """Lay out every alpha by benchmark, then the headline and the benchmarks on which the router leads or trails."""
    parts = [
        *map(_by_benchmark, evaluations),
        wrapped(
            "Rows show R of the routers of all seeds together; `R - R of` is a difference in R, `Q / Q of` a ratio of Q. ± is "
            "half a 95% interval, over questions and seeds. Overall is the mean of benchmarks, overall (questions) that of "
            f"questions. {CHOSEN} chosen on the training split. {HINDSIGHT} hindsight."
        ),
        _headline(evaluations),
        *(_claims(evaluations, policy) for policy in BEST_PER_BENCHMARK),
    ]
    return "\n\n".join(parts)


def _headline(evaluations: Sequence[Evaluation]) -> str:
    """Lay out one line per alpha: the router's R, its lead, and its share of others' R."""
    best_model, best_path = BEST_PER_BENCHMARK
    rows = []
    for evaluation in evaluations:
        estimates = (
            evaluation.result("router").reward,
            evaluation.result("router", _micro(evaluation)).reward,
            evaluation.result("best model").lead,
            evaluation.result(best_model).lead,
            evaluation.result(best_path).share,
            evaluation.result("oracle").share,
        )
        rows.append([f"{evaluation.alpha:g}", *map(with_interval, estimates)])
    columns = ["alpha", "router's R", "R over questions", f"R - R of best model{CHOSEN}"]
    columns += [f"R - R of {best_model}{CHOSEN}", f"R / R of {best_path}{CHOSEN}", "R / R of the oracle"]
    return in_blocks(columns, rows)


def _micro(evaluation: Evaluation) -> str:
    return OVERALL_QUESTIONS if len(evaluation.benchmarks) > 1 else OVERALL


def _claims(evaluations: Sequence[Evaluation], policy: str) -> str:
    """Name the benchmarks on which the router's reward differs from a baseline's, with Holm's correction for their number."""
    compared = count(len(evaluations[0].benchmarks), "benchmark")
    lines = [f"Against {policy} (p < {LEVEL:g} after Holm's correction for {compared}):"]
    for evaluation in evaluations:
        results = {benchmark: evaluation.result(policy, benchmark) for benchmark in evaluation.benchmarks}
        adjusted = holm({benchmark: result.p_value for benchmark, result in results.items()})
        sides = {
            side: [name for name, result in results.items() if adjusted[name] < LEVEL and sign * result.lead.mean > 0]
            for side, sign in (("above", 1), ("below", -1))
        }
        named = "; ".join(f"{side} on {', '.join(names) or 'none'}" for side, names in sides.items())
        lines.append(wrapped(f"  alpha = {evaluation.alpha:g}: {named}.", "    "))
    return "\n".join(lines)


def _by_benchmark(evaluation: Evaluation) -> str:
    """Lay out one alpha: R of every policy, the router's lead, and its Q as a multiple of others' Q."""
    fixed = [policy for policy in evaluation.policies if evaluation.result(policy).paths.keys() == {policy}]
    models = [policy for policy in fixed if " > " not in policy and policy != ABSTAINED]
    predictors = [
        baseline.name for baseline in registered_baselines() if baseline.fitted and baseline.name in evaluation.policies
    ]
    compared = ["router", *models, *BEST_PER_BENCHMARK, *predictors, "oracle"]
    benchmarks = [*evaluation.benchmarks, *dict.fromkeys([OVERALL, _micro(evaluation)])]

    def row(title: str, policy: str, measure: str) -> list[str]:
        estimates = (getattr(evaluation.result(policy, benchmark), measure) for benchmark in benchmarks)
        return [title, *map(_with_half_width, estimates)]

    rows = [
        *(row(marked(policy), policy, "reward") for policy in compared),
        *(row(f"R - R of {policy}{CHOSEN}", policy, "lead") for policy in BEST_PER_BENCHMARK),
        *(row(f"Q / Q of {policy}", policy, "multiple") for policy in (*models, "oracle")),
    ]
    paths = [[benchmark, _main_path(evaluation.result("router", benchmark))] for benchmark in benchmarks]
    table = in_blocks([f"alpha = {evaluation.alpha:g}", *benchmarks], rows)
    return table + "\n\n" + fitted([f"alpha = {evaluation.alpha:g}", "router's most frequent path"], paths)


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
