"""Says which responses are missing, as text for people."""

from toolkit.core.text import printable
from toolkit.report.tables import count
from toolkit.routing.coverage import Coverage

MAX_PARTIAL = 12
"""Policies that a sentence lists."""


def masked_sentence(coverage: Coverage) -> str:
    """Say how many responses of a split are masked, and how many questions are left out; empty if none is missing."""
    if not coverage.is_masked:
        return ""
    sentence = f"{100 * coverage.masked:.2g}% of its responses are masked: they are missing, or on no complete path."
    if coverage.left_out:
        is_left_out = "is left out: it has" if coverage.left_out == 1 else "are left out: they have"
        sentence += f" Of the suite, {count(coverage.left_out, 'question')} {is_left_out} no complete path at all."
    return sentence


def partial_sentence(questions: dict[str, int], total: int) -> str:
    """Say which policies have results on some questions only, given the number of each; empty if there is none."""
    partial = [f"{name} {number:,}" for name, number in questions.items() if number < total]
    if not partial:
        return ""
    listed = ", ".join(partial[:MAX_PARTIAL]) + (
        f" and {len(partial) - MAX_PARTIAL} more" if len(partial) > MAX_PARTIAL else ""
    )
    return printable(
        f"Not asked all {total:,} questions: {listed}. Such a row is over the questions that the model was asked, and other "
        "policies are compared with it on the same ones."
    )
