"""Generated: calculate with small numbers, in one or two operations from left to right.

Example (level 2):
    Calculate 13 - 18 + 4
    -1

Scored by numeric match. Field of one skill: mathematics.
"""

import random

from benchmarks.problems import Problem, benchmark, calculate, expression, operations

LEVELS = (1, 2, 2, 3, 3)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw one calculation."""
    start = rng.randint(2, 12 if level >= 3 else 20)
    steps = operations(rng, level)
    return Problem(f"Calculate {expression(start, steps)}", level, ("mathematics",), (lambda _: calculate(str(start), steps),))


ARITHMETIC = benchmark("arithmetic", "mathematics", "numeric_match", draw, levels=LEVELS, seed=11)
