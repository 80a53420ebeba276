"""Shows the details of an evaluation, as text for people: both averages, R, Q and C by benchmark, paths and overhead."""

from collections.abc import Callable

from toolkit.core.text import printable
from toolkit.replay.table import ABSTAINED
from toolkit.report.estimates import difference_sentence, marked, with_half_width, with_interval
from toolkit.report.policies import policies_table
from toolkit.report.tables import WIDTH, fitted, in_blocks, wrapped
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.comparison import BEST_FIXED_PATH, ORACLE, OVERALL, OVERALL_QUESTIONS, Result
from toolkit.routing.evaluate import Evaluation
from toolkit.routing.policies import ROUTER, SAMPLED
from toolkit.routing.statistics import Estimate

MAX_PATHS = 4
"""Paths shown per policy."""

_MEASURES: tuple[tuple[str, Callable[[Result], Estimate]], ...] = (
    ("R, reward", lambda result: result.reward),
    ("Q, quality", lambda result: result.quality),
    ("C, cost", lambda result: result.cost),
)


def details(evaluation: Evaluation) -> list[str]:
    """Return the details of an evaluation as paragraphs and tables."""
    return [
        *(policies_table(evaluation, average, _shown_policies(evaluation)) for average in _averages(evaluation)),
        *(_by_benchmark(evaluation, title, measure) for title, measure in _MEASURES),
        "By benchmark, ± is half a 95% interval.",
        _paths(evaluation),
        *(["\n".join(sentences)] if (sentences := _further(evaluation)) else []),
    ]


def _shown_policies(evaluation: Evaluation) -> list[str]:
    """Return the policies that people are shown; fixed paths of several models are left to SQL."""
    return [policy for policy in evaluation.policies if " > " not in policy and policy != ABSTAINED]


def _averages(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the averages to show: those over benchmarks and over questions are the same if there is one benchmark."""
    return (OVERALL, OVERALL_QUESTIONS) if len(evaluation.benchmarks) > 1 else (OVERALL,)


def _predictors(evaluation: Evaluation) -> list[str]:
    """Return the baselines that decide by the question alone, if there is no router."""
    names = [baseline.name for baseline in registered_baselines() if baseline.question_only]
    return [] if evaluation.routers else [name for name in names if name in evaluation.policies]


def _by_benchmark(evaluation: Evaluation, title: str, measure: Callable[[Result], Estimate]) -> str:
    benchmarks = evaluation.benchmarks
    results = [evaluation.result(evaluation.reference, benchmark) for benchmark in benchmarks]
    headings = [result.benchmark + "*" * result.synthetic for result in results]
    rows = [
        [marked(policy), *(with_half_width(measure(evaluation.result(policy, benchmark))) for benchmark in benchmarks)]
        for policy in _shown_policies(evaluation)
    ]
    rows.append(["questions", *(str(result.questions) for result in results)])
    note = "\n* synthetic questions" if any(result.synthetic for result in results) else ""
    if any(not evaluation.result(policy, name).questions for policy in _shown_policies(evaluation) for name in benchmarks):
        note += "\n- no question of the benchmark has the model's response"
    return in_blocks([title, *headings], rows) + note


def _paths(evaluation: Evaluation) -> str:
    rows = []
    for policy in (*evaluation.routers, *_predictors(evaluation), ORACLE):
        shares = list(evaluation.result(policy).paths.items())[:MAX_PATHS]
        rows.append([marked(policy), ", ".join(f"{path} {share:.0%}" for path, share in shares)])
    note = f"\n{ABSTAINED}: stopped before any model responded, Q = C = 0"
    has_abstained = any(ABSTAINED in paths for _, paths in rows)
    return fitted(["policy", "most frequent paths"], rows, WIDTH) + (note if has_abstained else "")


def _further(evaluation: Evaluation) -> list[str]:
    """Compare the router with the best single model, the best fixed path and other routers; empty without a router."""
    if evaluation.reference != ROUTER:
        return []
    router, model = evaluation.result(ROUTER), evaluation.result("best model")
    others = {"the best single model": model, "the best fixed path": evaluation.result(BEST_FIXED_PATH)}
    for policy in evaluation.routers[1:]:
        name = "the same router with sampled actions" if policy == SAMPLED else policy
        others[name] = evaluation.result(policy)
    compared = [
        f"The router's R is {difference_sentence(result.lead, result.p_value, name)}." for name, result in others.items()
    ]
    return [
        wrapped(sentence, "  ")
        for sentence in [
            *map(printable, compared),
            f"The probability that it improves on the best single model on a question is {with_interval(model.improvement)}, "
            "counting ties as half.",
            f"Of the gap in R between the best fixed path and the oracle, it recovers {with_interval(router.gap_recovered)}.",
        ]
    ]
