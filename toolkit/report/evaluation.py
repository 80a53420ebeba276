"""Shows an evaluation, as text for people."""

from collections.abc import Callable, Sequence
from math import isnan

from toolkit.core.text import printable
from toolkit.replay.table import ABSTAINED
from toolkit.report.coverage import masked_sentence, partial_sentence
from toolkit.report.tables import aligned, count, format_number
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.comparison import ORACLE, OVERALL, OVERALL_QUESTIONS, Result
from toolkit.routing.evaluate import COLLAPSE_SHARE, Evaluation
from toolkit.routing.overhead import Overhead
from toolkit.routing.policies import ROUTER, SAMPLED
from toolkit.routing.statistics import Estimate

MIN_QUESTIONS = 30
"""With fewer questions, results are shown without a verdict."""
MAX_NAMES = 12
"""Benchmarks that a sentence lists."""
MAX_PATHS = 4
"""Paths shown per policy."""
MAX_SELECTED = 2
"""Models or paths by which a baseline that selects one is named."""
MAX_PATHS_WIDTH = 160
"""Longest list of paths, in characters."""

_MEASURES: tuple[tuple[str, Callable[[Result], Estimate]], ...] = (
    ("R, reward", lambda result: result.reward),
    ("Q, quality", lambda result: result.quality),
    ("C, cost", lambda result: result.cost),
)


def render(evaluation: Evaluation) -> str:
    """Lay out an evaluation: overall with intervals, then R, Q and C by benchmark, most frequent paths, and a verdict."""
    questions = evaluation.result(evaluation.reference).questions
    verdict = _verdict(evaluation) if evaluation.reference == ROUTER else _baselines_verdict(evaluation)
    parts = [
        f"Run {evaluation.run}, {evaluation.split} split: {count(questions, 'question')}, "
        f"{count(len(evaluation.benchmarks), 'benchmark')}, alpha = {evaluation.alpha:g}."
        + "".join(f" {sentence}" for sentence in [masked_sentence(evaluation.coverage)] if sentence),
        "R = Q - alpha * C; C in cost units (1 = the most expensive model's mean cost of one hop). Overall is the unweighted "
        "mean of the benchmarks, and overall (questions) that of the questions; [95% intervals] are over questions."
        + _few_questions(evaluation),
        *(_overall(evaluation, average) for average in _averages(evaluation)),
        *([partial_sentence(questions)] if _is_partial(evaluation) else []),
        *(_by_benchmark(evaluation, title, measure) for title, measure in _MEASURES),
        _paths(evaluation),
        *([_overhead(evaluation.overhead)] if evaluation.overhead else []),
        verdict,
    ]
    return "\n\n".join(parts)


def with_interval(estimate: Estimate) -> str:
    """Write an estimate with its interval, if it has one: `0.531 [0.416, 0.641]`."""
    mean = format_number(estimate.mean)
    return mean if isnan(estimate.low) else f"{mean} [{format_number(estimate.low)}, {format_number(estimate.high)}]"


def _with_half_width(estimate: Estimate) -> str:
    half_width = "" if isnan(estimate.low) else f" ±{format_number((estimate.high - estimate.low) / 2)}"
    return format_number(estimate.mean) + half_width


def _label(evaluation: Evaluation, policy: str) -> str:
    return f"{policy}: {_selected(evaluation, policy)}" if policy in ("best fixed path", "best model") else policy


def _selected(evaluation: Evaluation, policy: str) -> str:
    """Name the model or path that a baseline selects; where responses are missing, the most frequent ones with their shares."""
    shares = list(evaluation.result(policy).paths.items())
    if len(shares) == 1:
        return shares[0][0]
    shown = [f"{path} ({share:.0%})" for path, share in shares[:MAX_SELECTED]]
    return " or ".join([*shown, *(["others"] if len(shares) > MAX_SELECTED else [])])


def _is_partial(evaluation: Evaluation) -> bool:
    """Return whether a policy that is shown lacks questions."""
    total = evaluation.result(evaluation.reference).questions
    return any(evaluation.result(policy).questions < total for policy in _shown_policies(evaluation))


def _shown_policies(evaluation: Evaluation) -> list[str]:
    """Return the policies that people are shown; fixed paths of several models are left to SQL."""
    return [policy for policy in evaluation.policies if " > " not in policy and policy != ABSTAINED]


def _averages(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the averages to show: those over benchmarks and over questions are the same if there is one benchmark."""
    return (OVERALL, OVERALL_QUESTIONS) if len(evaluation.benchmarks) > 1 else (OVERALL,)


def _few_questions(evaluation: Evaluation) -> str:
    """Name the benchmarks without questions, and those of one question, which have no interval of their own."""
    single = [name for name in evaluation.benchmarks if evaluation.result(evaluation.reference, name).questions == 1]
    lines = []
    if evaluation.without_questions:
        lines.append(f"Without {evaluation.split} questions, and so in no average: {_names(evaluation.without_questions)}.")
    if single and len(evaluation.benchmarks) > 1:
        lines.append(
            f"With one question, and so without an interval of its own: {_names(single)}. In the interval overall, a benchmark "
            "of one question varies as the questions of the others do."
        )
    return "".join(f"\n{line}" for line in lines)


def _predictors(evaluation: Evaluation) -> list[str]:
    """Return the baselines that decide by the question alone, if there is no router."""
    names = [baseline.name for baseline in registered_baselines() if baseline.question_only]
    return [] if evaluation.routers else [name for name in names if name in evaluation.policies]


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return printable(shown + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""))


def _overall(evaluation: Evaluation, average: str) -> str:
    rows, with_router, is_partial = [], evaluation.reference == ROUTER, _is_partial(evaluation)
    for policy in _shown_policies(evaluation):
        result = evaluation.result(policy, average)
        lead = "" if policy == evaluation.reference else with_interval(result.lead if with_router else _negated(result.lead))
        measures = map(with_interval, (result.quality, result.cost, result.reward))
        questions = [f"{result.questions:,}"] if is_partial else []
        rows.append([_label(evaluation, policy), *questions, *measures, lead])
    lead = "router's R is ahead by" if with_router else f"R above that of the {evaluation.reference}"
    return aligned([average, *(["questions"] if is_partial else []), "Q", "C", "R", lead], rows)


def _by_benchmark(evaluation: Evaluation, title: str, measure: Callable[[Result], Estimate]) -> str:
    benchmarks = evaluation.benchmarks
    results = [evaluation.result(evaluation.reference, benchmark) for benchmark in benchmarks]
    headings = [result.benchmark + "*" * result.synthetic for result in results]
    rows = [
        [policy, *(_with_half_width(measure(evaluation.result(policy, benchmark))) for benchmark in benchmarks)]
        for policy in _shown_policies(evaluation)
    ]
    rows.append(["questions", *(str(result.questions) for result in results)])
    note = "\n* synthetic questions" if any(result.synthetic for result in results) else ""
    if any(not evaluation.result(policy, name).questions for policy in _shown_policies(evaluation) for name in benchmarks):
        note += "\n- no question of the benchmark has the model's response"
    return aligned([title, *headings], rows) + note


def _paths(evaluation: Evaluation) -> str:
    rows = []
    for policy in (*evaluation.routers, *_predictors(evaluation), ORACLE):
        shares = list(evaluation.result(policy).paths.items())[:MAX_PATHS]
        rows.append([policy, ", ".join(f"{path} {share:.0%}" for path, share in shares)])
    note = f"\n{ABSTAINED}: stopped before any model responded, Q = C = 0"
    has_abstained = any(ABSTAINED in paths for _, paths in rows)
    return aligned(["policy", "most frequent paths"], rows, MAX_PATHS_WIDTH) + (note if has_abstained else "")


def _overhead(overhead: Overhead) -> str:
    encoder, network = (f"{1000 * seconds:.3g} ms" for seconds in (overhead.encoder, overhead.network))
    times = f"One decision takes {encoder} in the router's encoder and {network} in its network"
    if not overhead.rate:
        return f"{times}. C does not include that time (--overhead-rate)."
    return (
        f"{times}. At {overhead.rate:g} cost units per second, each decision adds {format_number(overhead.decision)} to the "
        f"router's C, and each question adds {format_number(overhead.question)} to that of baselines that see it alone, for "
        "the encoder."
    )


def _verdict(evaluation: Evaluation) -> str:
    router = evaluation.result(ROUTER)
    if router.questions < MIN_QUESTIONS:
        return f"Only {count(router.questions, 'question')}: too few to say which policy is better."
    model, best_model = evaluation.result("best model"), _selected(evaluation, "best model")
    standings = [
        f"{_standing(evaluation.result('best fixed path').lead)} the best fixed path",
        f"{_standing(model.lead)} {best_model}, the best single model",
        *_strongest_standing(evaluation),
    ]
    sentences = [
        f"The router {'; '.join(standings)}.",
        f"The probability that it improves on {best_model} on a question is {with_interval(model.improvement)}, "
        "counting ties as half.",
        f"Of the gap in R between the best fixed path and the oracle, it recovers {with_interval(router.gap_recovered)}.",
    ]
    for policy in evaluation.routers[1:]:
        name = "the same router with sampled actions" if policy == SAMPLED else policy
        sentences.append(f"It {_standing(evaluation.result(policy).lead)} {name}.")
    path, share = next(iter(router.paths.items()))
    if share > COLLAPSE_SHARE:
        sentences.append(f"The router has collapsed: {share:.0%} of its questions take {path}.")
    return printable(" ".join(sentences))


def _baselines_verdict(evaluation: Evaluation) -> str:
    """Say which baseline that decides by the question alone has the highest reward, and how it compares."""
    questions, predictors = evaluation.result(evaluation.reference).questions, _predictors(evaluation)
    if questions < MIN_QUESTIONS:
        return f"Only {count(questions, 'question')}: too few to say which policy is better."
    best_path = _selected(evaluation, "best fixed path")
    if not predictors:
        return f"The best fixed path is {printable(best_path)}."
    best = max((evaluation.result(name) for name in predictors), key=lambda result: result.reward.mean)
    return printable(
        f"Of the baselines that decide by the question alone, {best.policy} has the highest R, {with_interval(best.reward)}. "
        f"It {_standing(_negated(best.lead))} the best fixed path, {best_path}, and recovers "
        f"{with_interval(best.gap_recovered)} of the gap in R between that path and the oracle."
    )


def _negated(lead: Estimate) -> Estimate:
    return Estimate(-lead.mean, -lead.high, -lead.low)


def _strongest_standing(evaluation: Evaluation) -> list[str]:
    """Compare the router with the fitted baseline that has the highest R on these questions, if there is one."""
    names = [baseline.name for baseline in registered_baselines(slow=True) if baseline.fitted]
    fitted = [name for name in names if name in evaluation.policies]
    if not fitted:
        return []
    strongest = max(fitted, key=lambda name: evaluation.result(name).reward.mean)
    return [f"{_standing(evaluation.result(strongest).lead)} {strongest}, the strongest fitted baseline on these questions"]


def _standing(lead: Estimate) -> str:
    """Say whether the router is better or worse than a policy, as far as the interval of its lead allows."""
    if lead.low > 0:
        return f"is better by {with_interval(lead)} than"
    if lead.high < 0:
        return f"is worse by {with_interval(_negated(lead))} than"
    return f"is not significantly different ({with_interval(lead)}) from"
