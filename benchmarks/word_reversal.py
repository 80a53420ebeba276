"""Synthetic: write two words in reverse order.

Example:
    Reverse the order of the words: sun, red
    red, sun

Scored by exact match after SQuAD normalisation.
"""

from typing import Any

from benchmarks.synthetic import distinct, synthetic


def _ask(entry: dict[str, Any]) -> str | None:
    if not distinct(entry["words"]):
        return None
    return f"Reverse the order of the words: {', '.join(entry['words'])}"


WORD_REVERSAL = synthetic(
    "word_reversal",
    "words",
    "exact_match",
    task="word_sequence_reversal",
    seed=1042,
    settings={"min_words": 2, "max_words": 2},
    ask=_ask,
)
