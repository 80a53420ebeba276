"""An evaluation as text for people."""

from collections.abc import Callable

from toolkit.replay.table import ABSTAINED
from toolkit.report.tables import aligned, number
from toolkit.routing.evaluate import COLLAPSED, Estimate, Evaluation, Result
from toolkit.routing.overhead import Overhead

FEW = 30
"""Below this many questions, results are shown but not judged."""


def render(evaluation: Evaluation) -> str:
    """Lay out an evaluation: overall with intervals, then R, Q and C by benchmark, then the paths that were taken."""
    router = evaluation.result("router")
    parts = [
        f"Run {evaluation.run}, {evaluation.split} split: {router.questions} questions, "
        f"{len(evaluation.benchmarks)} benchmarks, alpha = {evaluation.alpha:g}.",
        "R = Q - alpha * C; C in cost units (1 = the dearest model's mean cost of one hop). Overall is the unweighted mean of "
        "benchmarks; [95% intervals] are over questions.",
        _overall(evaluation),
        *(_by_benchmark(evaluation, title, pick) for title, pick in _MEASURES),
        _paths(evaluation),
        *([_overhead(evaluation.overhead)] if evaluation.overhead else []),
        _verdict(evaluation),
    ]
    return "\n\n".join(parts)


_MEASURES: tuple[tuple[str, Callable[[Result], Estimate]], ...] = (
    ("R, reward", lambda result: result.reward),
    ("Q, quality", lambda result: result.quality),
    ("C, cost", lambda result: result.cost),
)


def _label(evaluation: Evaluation, policy: str) -> str:
    chosen = {"best fixed path": evaluation.best_fixed_path, "best model": evaluation.best_model}
    return f"{policy}: {chosen[policy]}" if policy in chosen else policy


def _shown(evaluation: Evaluation) -> list[str]:
    """Return the policies that people are shown: the single fixed paths of several models are for SQL."""
    return [policy for policy in evaluation.policies if " > " not in policy and policy != ABSTAINED]


def _overall(evaluation: Evaluation) -> str:
    rows = []
    for policy in _shown(evaluation):
        result = evaluation.result(policy)
        lead = "" if policy == "router" else with_interval(result.lead)
        rows.append([_label(evaluation, policy), *map(with_interval, (result.quality, result.cost, result.reward)), lead])
    return aligned(["overall", "Q", "C", "R", "router's R is ahead by"], rows)


def _by_benchmark(evaluation: Evaluation, title: str, pick: Callable[[Result], Estimate]) -> str:
    names = evaluation.benchmarks
    marked = [name + ("*" if evaluation.result("router", name).synthetic else "") for name in names]
    rows: list[list[str]] = [
        [policy, *(_with_half(pick(evaluation.result(policy, name))) for name in names)] for policy in _shown(evaluation)
    ]
    rows.append(["questions", *(str(evaluation.result("router", name).questions) for name in names)])
    note = "\n* synthetic questions" if any(name.endswith("*") for name in marked) else ""
    return aligned([title, *marked], rows) + note


def _paths(evaluation: Evaluation) -> str:
    rows = [
        [policy, ", ".join(f"{path} {share:.0%}" for path, share in list(evaluation.result(policy).paths.items())[:4])]
        for policy in ("router", "router (greedy)", "oracle")
    ]
    note = (
        f"\n{ABSTAINED}: stopped before any model was asked, Q = C = 0" if any(ABSTAINED in paths for _, paths in rows) else ""
    )
    return aligned(["policy", "most frequent paths"], rows, width=160) + note


def _overhead(overhead: Overhead) -> str:
    encoder, network = (f"{1000 * seconds:.3g} ms" for seconds in overhead[:2])
    told = f"A decision takes the router {encoder} of its encoder and {network} of its network, one at a time"
    if not overhead.rate:
        return f"{told}; C holds nothing of that (--overhead-rate)."
    return (
        f"{told}. At {overhead.rate:g} cost units a second it adds {number(overhead.decision)} to the router's C; "
        f"for kNN and linear a question adds {number(overhead.question)}, the encoder's share."
    )


def _verdict(evaluation: Evaluation) -> str:
    router = evaluation.result("router")
    if router.questions < FEW:
        return f"Only {router.questions} questions: too few to say which policy is better."
    model = evaluation.result("best model")
    path, share = next(iter(router.paths.items()))
    collapsed = f" It has collapsed: {share:.0%} of its questions take {path}." if share > COLLAPSED else ""
    standings = [
        f"{_standing(evaluation.result('best fixed path').lead)} the best fixed path",
        f"{_standing(model.lead)} {evaluation.best_model}, the best single model",
        *([f"{_standing(evaluation.result('kNN').lead)} kNN"] if "kNN" in evaluation.policies else []),
    ]
    greedy = evaluation.result("router (greedy)").lead
    sharper = f" Its most probable action is worth {number(-greedy.mean)} more than a drawn one." if greedy.high < 0 else ""
    return (
        f"The router {'; '.join(standings)}. It improves on {evaluation.best_model} on a question with probability "
        f"{with_interval(model.improvement)}, ties counted half.{sharper}{collapsed}"
    )


def _standing(lead: Estimate) -> str:
    """Say on which side of a policy the router is, as far as the interval of its lead allows."""
    if lead.low > 0:
        return f"is better by {number(lead.mean)} [{number(lead.low)}, {number(lead.high)}] than"
    if lead.high < 0:
        return f"is worse by {number(-lead.mean)} [{number(-lead.high)}, {number(-lead.low)}] than"
    return f"cannot be told ({number(lead.mean)} [{number(lead.low)}, {number(lead.high)}]) from"


def with_interval(estimate: Estimate) -> str:
    """Write an estimate with its interval: `0.531 [0.416, 0.641]`."""
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"


def _with_half(estimate: Estimate) -> str:
    return f"{number(estimate.mean)} ±{number((estimate.high - estimate.low) / 2)}"
