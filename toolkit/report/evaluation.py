"""Shows an evaluation, as text for people: the verdict and one table that fit a screen, then the rest if it is asked for."""

import re
from collections.abc import Sequence

from toolkit.core.text import printable
from toolkit.replay.table import ABSTAINED
from toolkit.report.coverage import masked_sentence, partial_sentence
from toolkit.report.estimates import CHOSEN, HINDSIGHT, difference_sentence, negated, with_interval
from toolkit.report.evaluation_details import details
from toolkit.report.policies import is_partial, policies_table
from toolkit.report.tables import count, format_number, wrapped
from toolkit.routing.claims import LEVEL
from toolkit.routing.comparison import BEST_FIXED_PATH, OVERALL
from toolkit.routing.evaluate import COLLAPSE_SHARE, Evaluation
from toolkit.routing.overhead import Overhead
from toolkit.routing.policies import ROUTER
from toolkit.routing.verdict import MIN_QUESTIONS, Verdict, judge, strongest_predictor

__all__ = ["render", "with_interval"]

MAX_NAMES = 12
"""Benchmarks that a sentence lists."""
MAX_MODELS = 6
"""Models alone that the first table shows; of more, those of the highest reward."""
MAX_SELECTED = 2
"""Models or paths by which a baseline that selects one is named."""


def render(evaluation: Evaluation, full: bool = False) -> str:
    """Lay out the verdict and one table of at most 120 columns; with `full`, also every average, benchmark and path."""
    parts = [
        wrapped(printable(_verdict(evaluation))),
        policies_table(evaluation, OVERALL, _summarised(evaluation)),
        _notes(evaluation),
    ]
    if full:
        parts += details(evaluation)
    else:
        parts.append("More: --full shows R, Q and C of each benchmark, means over questions, and the most frequent paths.")
    return "\n\n".join(parts)


def _selected(evaluation: Evaluation, policy: str) -> str:
    """Name the model or path that a baseline selects; where responses are missing, the most frequent ones with their shares."""
    shares = list(evaluation.result(policy).paths.items())
    if len(shares) == 1:
        return shares[0][0]
    shown = [f"{path} ({share:.0%})" for path, share in shares[:MAX_SELECTED]]
    return " or ".join([*shown, *(["others"] if len(shares) > MAX_SELECTED else [])])


def _names(names: Sequence[str]) -> str:
    """List names, the first ones if there are many."""
    shown = ", ".join(names[:MAX_NAMES])
    return printable(shown + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""))


def _verdict(evaluation: Evaluation) -> str:
    questions = evaluation.result(evaluation.reference).questions
    if questions < MIN_QUESTIONS:
        few = f"Only {count(questions, 'question')}: too few to say which policy is better."
        return " ".join([few, *_abstentions(evaluation)])
    if evaluation.reference != ROUTER:
        return _baselines_verdict(evaluation)
    verdict = judge(evaluation)
    if verdict is None:
        return f"The router's R is {with_interval(evaluation.result(ROUTER).reward)}; there is no baseline to compare it with."
    against = [_against_strongest(evaluation, verdict), _second_sentence(evaluation, verdict)]
    return " ".join([*against, *_collapse(evaluation), *_abstentions(evaluation)])


def _against_strongest(evaluation: Evaluation, verdict: Verdict) -> str:
    router, baseline = evaluation.result(ROUTER), verdict.baseline
    other = f"{baseline.policy}, the strongest of {count(verdict.baselines, 'baseline')} on these questions"
    compared = difference_sentence(baseline.lead, verdict.p_value, other)
    return f"The router's R, {with_interval(router.reward)}, is {compared}."


def _second_sentence(evaluation: Evaluation, verdict: Verdict) -> str:
    if len(evaluation.benchmarks) == 1:
        gap = with_interval(evaluation.result(ROUTER).gap_recovered)
        return f"It recovers {gap} of the gap in R between the best fixed path and the oracle."
    above, below = (_names(names) or "none" for names in (verdict.above, verdict.below))
    return (
        f"By benchmark, it is significantly above {verdict.baseline.policy} on {above}, and below it on {below} (p < {LEVEL:g} "
        f"after Holm's correction for {count(len(evaluation.benchmarks), 'benchmark')})."
    )


def _collapse(evaluation: Evaluation) -> list[str]:
    path, share = next(iter(evaluation.result(ROUTER).paths.items()))
    if share <= COLLAPSE_SHARE or path == ABSTAINED:
        return []
    return [f"The router has collapsed: {share:.0%} of its questions take {path}."]


def _abstentions(evaluation: Evaluation) -> list[str]:
    share = evaluation.result(ROUTER).paths.get(ABSTAINED, 0.0) if ROUTER in evaluation.policies else 0.0
    return [f"On {share:.0%} of the questions it stops before any model responds, so that Q = C = 0."] if share else []


def _baselines_verdict(evaluation: Evaluation) -> str:
    """Say which baseline that decides by the question alone has the highest reward, and how it compares."""
    best, best_path = strongest_predictor(evaluation), _selected(evaluation, BEST_FIXED_PATH)
    if best is None:
        return f"The best fixed path is {best_path}."
    other = f"the best fixed path, {best_path}"
    return (
        f"Of the baselines that decide by the question alone, {best.policy} has the highest R: {with_interval(best.reward)}, "
        f"{difference_sentence(negated(best.lead), best.p_value, other)}. It recovers {with_interval(best.gap_recovered)} of "
        "the gap in R between that path and the oracle."
    )


def _summarised(evaluation: Evaluation) -> list[str]:
    """Return the policies of the first table: routers, models alone, and the baselines; repeated models are left out."""
    models = _models(evaluation)
    best = sorted(models, key=lambda name: -evaluation.result(name).reward.mean)[:MAX_MODELS]
    single = set(models)

    def is_shown(policy: str) -> bool:
        repeats = re.fullmatch(r"(.+) x\d+", policy, re.DOTALL)
        is_fixed = " > " in policy or policy == ABSTAINED or (repeats and repeats[1] in single)
        return policy in best or not (is_fixed or policy in single)

    return [policy for policy in evaluation.policies if is_shown(policy)]


def _models(evaluation: Evaluation) -> list[str]:
    """Return the models of the pool, as policies that take one hop."""
    names = [policy for policy in evaluation.policies if " > " not in policy and policy != ABSTAINED]
    return [name for name in names if not evaluation.result(name).paths or evaluation.result(name).paths.keys() == {name}]


def _notes(evaluation: Evaluation) -> str:
    """Say what the table is about, and what its marks mean."""
    questions = evaluation.result(evaluation.reference).questions
    chosen = [
        f"{policy} = {_selected(evaluation, policy)}"
        for policy in ("best model", BEST_FIXED_PATH)
        if policy in evaluation.policies
    ]
    hidden = len(_models(evaluation)) - MAX_MODELS
    facts = [
        f"Run {evaluation.run}, {evaluation.split} split: {count(questions, 'question')}, "
        f"{count(len(evaluation.benchmarks), 'benchmark')}, alpha = {evaluation.alpha:g}.",
        masked_sentence(evaluation.coverage),
        *_few_questions(evaluation),
        "R = Q - alpha * C, with C in cost units (1 = the most expensive model's mean cost of one hop). The last column is a "
        "difference. overall: the unweighted mean of the benchmarks. [95% intervals] are over questions.",
        f"{CHOSEN} chosen on the training split, where all other baselines are fitted: {'; '.join(chosen)}.",
        f"{HINDSIGHT} hindsight: sees the outcomes that it is evaluated on.",
        _overhead(evaluation.overhead) if evaluation.overhead else "",
        partial_sentence(questions) if is_partial(evaluation) else "",
        f"Of the models alone, the {MAX_MODELS} of the highest R are shown." if hidden > 0 else "",
    ]
    return "\n".join(wrapped(printable(fact), "  ") for fact in facts if fact)


def _few_questions(evaluation: Evaluation) -> list[str]:
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
    return lines


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
