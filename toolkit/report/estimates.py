"""Writes estimates, their differences and their significance, as text for people."""

from math import isnan

from toolkit.report.tables import format_number
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.claims import LEVEL
from toolkit.routing.statistics import Estimate

CHOSEN, HINDSIGHT = "†", "‡"
"""What marks a baseline that was chosen on the training split, and one that sees the outcomes of the questions."""
SMALLEST_P = 0.001
"""Smaller p-values are written as smaller than this."""


def marked(policy: str) -> str:
    """Return the name of a policy, with its mark if it was chosen on the training split or sees the outcomes."""
    baselines = registered_baselines(slow=True)
    is_chosen = policy.startswith("best ") and policy in {baseline.name for baseline in baselines}
    is_hindsight = policy in {baseline.name for baseline in baselines if baseline.hindsight}
    return policy + CHOSEN * is_chosen + HINDSIGHT * is_hindsight


def with_interval(estimate: Estimate) -> str:
    """Write an estimate with its interval, if it has one: `0.531 [0.416, 0.641]`."""
    mean = format_number(estimate.mean)
    return mean if isnan(estimate.low) else f"{mean} [{format_number(estimate.low)}, {format_number(estimate.high)}]"


def with_half_width(estimate: Estimate) -> str:
    """Write an estimate with half of its interval, if it has one: `0.531 ±0.112`."""
    half_width = "" if isnan(estimate.low) else f" ±{format_number((estimate.high - estimate.low) / 2)}"
    return format_number(estimate.mean) + half_width


def p_text(p_value: float) -> str:
    """Write a p-value: `p = 0.031` or `p < 0.001`."""
    return f"p < {SMALLEST_P:g}" if p_value < SMALLEST_P else f"p = {format_number(p_value)}"


def negated(lead: Estimate) -> Estimate:
    """Return a difference the other way round."""
    return Estimate(-lead.mean, -lead.high, -lead.low)


def difference_sentence(lead: Estimate, p_value: float, other: str) -> str:
    """Say how R compares with that of another policy, as the end of a sentence that begins with `R` and its value.

    Args:
        lead: R minus that of the other policy.
        p_value: Of that difference; nan if there is none.
        other: The other policy.
    """
    if p_value < LEVEL:
        side, size = ("above", lead) if lead.mean > 0 else ("below", negated(lead))
        return f"significantly {side} that of {other}, by {with_interval(size)} ({p_text(p_value)})"
    tested = "" if isnan(p_value) else f" ({p_text(p_value)})"
    return f"not significantly different from that of {other}: the difference is {with_interval(lead)}{tested}"
