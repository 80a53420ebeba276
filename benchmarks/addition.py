"""Synthetic: add or subtract two one-digit numbers.

Example:
    What is 4 - 8?
    -4

Scored by numeric match.
"""

from benchmarks.synthetic import synthetic

ADDITION = synthetic(
    "addition",
    "mathematics",
    "numeric_match",
    task="chain_sum",
    seed=1021,
    settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    ask=lambda entry: f"What is {entry['expression']}?",
)
