"""The verdict on an evaluation or a sweep: the strongest baseline, and whether a router differs from it significantly."""

from math import isnan
from typing import NamedTuple

from toolkit.routing.baselines import registered_baselines
from toolkit.routing.claims import LEVEL, holm
from toolkit.routing.comparison import OVERALL, Result
from toolkit.routing.evaluate import Evaluation
from toolkit.routing.statistics import Estimate, Resampled, estimates_of
from toolkit.routing.sweep_metrics import Scores

MIN_QUESTIONS = 30
"""With fewer questions, there is no verdict."""


class Verdict(NamedTuple):
    """How the router of an evaluation compares with the strongest of its baselines, the oracle and other hindsight left out.

    That baseline is the one of the highest reward on the evaluated questions, so that no choice of it favours the router.

    Attributes:
        baseline: The strongest baseline; its lead is the router's over it.
        p_value: Of that difference. If the router is ahead, the largest over all baselines: it is ahead of all of them.
        baselines: Number of baselines compared with.
        above: Benchmarks on which the router is significantly above that baseline, after Holm's correction for their number.
        below: Those on which it is significantly below it.
    """

    baseline: Result
    p_value: float
    baselines: int
    above: tuple[str, ...]
    below: tuple[str, ...]

    @property
    def is_significant(self) -> bool:
        """Whether the router and the baseline differ significantly overall."""
        return self.p_value < LEVEL


def rivals(evaluation: Evaluation) -> list[str]:
    """Return the baselines of an evaluation that do not see the outcomes that they are evaluated on."""
    names = [baseline.name for baseline in registered_baselines(slow=True) if not baseline.hindsight]
    return [name for name in names if name in evaluation.policies]


def judge(evaluation: Evaluation) -> Verdict | None:
    """Compare the router of an evaluation with its baselines; None if there are too few questions, or no baseline."""
    names = rivals(evaluation)
    if not names or evaluation.result(evaluation.reference).questions < MIN_QUESTIONS:
        return None
    results = [evaluation.result(name) for name in names]
    strongest = max(results, key=lambda result: result.reward.mean)
    is_ahead = strongest.lead.mean > 0
    by_benchmark = {benchmark: evaluation.result(strongest.policy, benchmark) for benchmark in evaluation.benchmarks}
    adjusted = holm({benchmark: result.p_value for benchmark, result in by_benchmark.items()})
    claimed = [result for benchmark, result in by_benchmark.items() if adjusted[benchmark] < LEVEL]
    return Verdict(
        baseline=strongest,
        p_value=max(result.p_value for result in results) if is_ahead else strongest.p_value,
        baselines=len(names),
        above=tuple(result.benchmark for result in claimed if result.lead.mean > 0),
        below=tuple(result.benchmark for result in claimed if result.lead.mean < 0),
    )


def strongest_predictor(evaluation: Evaluation) -> Result | None:
    """Return the baseline that decides by the question alone and has the highest reward; None if there is none."""
    names = [baseline.name for baseline in registered_baselines(slow=True) if baseline.question_only]
    results = [evaluation.result(name, OVERALL) for name in names if name in evaluation.policies]
    return max(results, key=lambda result: result.reward.mean, default=None)


class AlphaVerdict(NamedTuple):
    """The baseline of the highest reward at an alpha, hindsight left out, and by how much the router's is above it."""

    alpha: float
    baseline: str
    lead: Estimate


class CurveVerdict(NamedTuple):
    """How the routers of a sweep compare with the strongest baseline over all costs, by AIQ.

    Attributes:
        baseline: The baseline of the highest AIQ.
        baselines: Number of baselines compared with.
        lead: The router's AIQ minus the baseline's.
        is_significant: Whether the interval of that difference excludes 0; if the router is ahead, those of all baselines.
    """

    baseline: str
    baselines: int
    lead: Estimate
    is_significant: bool


def judge_alphas(scores: Scores) -> list[AlphaVerdict]:
    """Return the verdict on a sweep at each alpha, in ascending order; none if there are too few questions."""
    swept = scores.swept
    names = [name for name in swept.lines if _is_rival(name, scores)]
    if not names or swept.questions < MIN_QUESTIONS:
        return []
    rewards = {name: swept.lines[name].macro.reward(swept.alphas) for name in (swept.router, *names)}
    leads = {
        name: estimates_of(
            Resampled(
                mean=rewards[swept.router].mean - rewards[name].mean,
                replicates=rewards[swept.router].replicates - rewards[name].replicates,
            )
        )
        for name in names
    }
    verdicts = []
    for n, alpha in enumerate(swept.alphas.tolist()):
        strongest = max(names, key=lambda name, place=n: float(rewards[name].mean[place]))  # type: ignore[misc]
        verdicts.append(AlphaVerdict(alpha=alpha, baseline=strongest, lead=leads[strongest][n]))
    return verdicts


def judge_curve(scores: Scores) -> CurveVerdict | None:
    """Return the verdict on a sweep over all costs; None if there is no AIQ, or there are too few questions."""
    rivals_of_curve = {name: metrics for name, metrics in scores.metrics.items() if _is_rival(name, scores)}
    if isnan(scores.metrics[scores.swept.router].aiq.mean) or scores.swept.questions < MIN_QUESTIONS or not rivals_of_curve:
        return None
    strongest = max(rivals_of_curve, key=lambda name: rivals_of_curve[name].aiq.mean)
    lead = rivals_of_curve[strongest].lead
    is_above = all(metrics.lead.low > 0 for metrics in rivals_of_curve.values())
    return CurveVerdict(baseline=strongest, baselines=len(rivals_of_curve), lead=lead, is_significant=is_above or lead.high < 0)


def _is_rival(name: str, scores: Scores) -> bool:
    """Return whether a policy of a sweep is a baseline without hindsight."""
    hindsight = [baseline.name for baseline in registered_baselines(slow=True) if baseline.hindsight]
    return name not in (scores.swept.router, *scores.swept.others, *hindsight)
