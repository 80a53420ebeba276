"""Synthetic: sort two words alphabetically.

Example:
    Sort the words from A to Z: year, last
    last, year

Scored by exact match after SQuAD normalisation.
"""

from typing import Any

from benchmarks.synthetic import distinct, synthetic


def _ask(entry: dict[str, Any]) -> str | None:
    words = entry["original_words"]
    if entry["direction"] != "ascending" or not distinct(words) or not all(word.islower() for word in words):
        return None
    return f"Sort the words from A to Z: {', '.join(words)}"


WORD_SORTING = synthetic(
    "word_sorting",
    "words",
    "exact_match",
    task="word_sorting",
    seed=1049,
    settings={"min_words": 2, "max_words": 2, "min_word_length": 3, "max_word_length": 6},
    ask=_ask,
)
