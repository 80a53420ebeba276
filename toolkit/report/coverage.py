"""Says which responses are missing, as text for people."""

from toolkit.report.tables import count
from toolkit.routing.coverage import Coverage


def masked_sentence(coverage: Coverage) -> str:
    """Say how many responses of a split are masked, and how many questions are left out; empty if none is missing."""
    if not coverage.is_masked:
        return ""
    sentence = f"{coverage.masked:.2%} of its responses are masked: they are missing, or on no complete path."
    if coverage.left_out:
        is_left_out = "is left out: it has" if coverage.left_out == 1 else "are left out: they have"
        sentence += f" Of the suite, {count(coverage.left_out, 'question')} {is_left_out} no complete path at all."
    return sentence


def partial_sentence(total: int) -> str:
    """Say what a row of fewer than all questions is."""
    return (
        f"A row of fewer than {total:,} questions is over those that the model was asked, and the other policies are compared "
        "with it on the same ones."
    )
