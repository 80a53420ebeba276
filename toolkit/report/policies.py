"""Lays out policies with Q, C, R and their difference to the reference, for every report of an evaluation."""

from collections.abc import Sequence

from toolkit.report.estimates import marked, negated, with_interval
from toolkit.report.tables import fitted
from toolkit.routing.evaluate import Evaluation
from toolkit.routing.policies import ROUTER


def is_partial(evaluation: Evaluation) -> bool:
    """Return whether a policy of a single model lacks questions."""
    total = evaluation.result(evaluation.reference).questions
    return any(evaluation.result(policy).questions < total for policy in evaluation.policies if " > " not in policy)


def policies_table(evaluation: Evaluation, average: str, policies: Sequence[str]) -> str:
    """Lay out Q, C, R and the difference in R of policies, on one of the averages."""
    with_router, partial = evaluation.reference == ROUTER, is_partial(evaluation)
    rows = []
    for policy in policies:
        result = evaluation.result(policy, average)
        difference = result.lead if with_router else negated(result.lead)
        rows.append(
            [
                marked(policy),
                *([f"{result.questions:,}"] if partial else []),
                *map(with_interval, (result.quality, result.cost, result.reward)),
                "" if policy == evaluation.reference else with_interval(difference),
            ]
        )
    last = "router's R - this R" if with_router else f"this R - {evaluation.reference}'s R"
    return fitted([average, *(["questions"] if partial else []), "Q", "C", "R", last], rows)
