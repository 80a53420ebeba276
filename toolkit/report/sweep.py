"""A sweep as text: at each alpha the routers of all seeds against what they have to beat, overall and by benchmark."""

from collections.abc import Sequence

from toolkit.replay.table import ABSTAINED
from toolkit.report.evaluation import with_interval
from toolkit.report.tables import aligned, number
from toolkit.routing.evaluate import OVERALL, Estimate, Evaluation, Result

BEST = ("best model per benchmark", "best path per benchmark")
"""What is selected for each benchmark apart, on the training split."""


def headline(evaluations: Sequence[Evaluation]) -> str:
    """Lay out one line an alpha: the router's R, how far it leads, what share of others' it reaches, and where it is ahead."""
    rows = []
    for evaluation in evaluations:
        ahead = [name for name in evaluation.benchmarks if evaluation.result(BEST[1], name).lead.low > 0]
        rows.append(
            [
                f"{evaluation.alpha:g}",
                with_interval(evaluation.result("router").reward),
                with_interval(evaluation.result("best model").lead),
                with_interval(evaluation.result(BEST[0]).lead),
                with_interval(evaluation.result(BEST[1]).share),
                with_interval(evaluation.result("oracle").share),
                ", ".join(ahead) or "none",
            ]
        )
    titles = ["alpha", "router's R", "ahead of best model", "ahead of best model of each"]
    return aligned([*titles, "of best path of each", "of the oracle", "above best path of its own"], rows, width=90)


def by_benchmark(evaluation: Evaluation) -> str:
    """Lay out one alpha: R of every policy, then how far the router leads, then its Q as a multiple of each model's."""
    alone = [name for name in evaluation.policies if evaluation.result(name).paths.keys() == {name}]
    models = [name for name in alone if " > " not in name and name != ABSTAINED]
    compared = [*models, *BEST, "kNN", "linear", "oracle"]
    names = [*evaluation.benchmarks, OVERALL]

    def row(title: str, policy: str, pick: str) -> list[str]:
        return [title, *(_half(getattr(evaluation.result(policy, name), pick)) for name in names)]

    rows = [
        *(row(policy, policy, "reward") for policy in ("router", *compared)),
        *(row(f"ahead of {policy}", policy, "lead") for policy in BEST),
        *(row(f"Q / Q of {policy}", policy, "multiple") for policy in (*models, "oracle")),
        ["paths", *(_paths(evaluation.result("router", name)) for name in names)],
    ]
    return aligned([f"alpha = {evaluation.alpha:g}", *names], rows)


def _paths(result: Result) -> str:
    path, share = next(iter(result.paths.items()))
    return f"{path} {share:.0%}"


def _half(estimate: Estimate) -> str:
    if not estimate.mean < 100:  # a multiple of next to nothing
        return "-"
    half = (estimate.high - estimate.low) / 2
    return number(estimate.mean, 2) + (f" ±{number(half, 2)}" if half < estimate.mean or estimate.mean < 1 else "")
