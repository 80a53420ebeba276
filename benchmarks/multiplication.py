"""Synthetic: multiply two one-digit numbers.

Example:
    What is 6 * 5?
    30

Scored by numeric match.
"""

from benchmarks.synthetic import synthetic

MULTIPLICATION = synthetic(
    "multiplication",
    "mathematics",
    "numeric_match",
    task="products",
    seed=1024,
    settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    ask=lambda entry: f"What is {entry['expression']}?",
)
