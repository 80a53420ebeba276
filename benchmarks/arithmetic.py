"""Synthetic: calculate with small numbers, in one or two operations from left to right.

Example (level 2):
    Calculate 13 - 18 + 4
    -1

Scored by numeric match. Tests one skill: mathematics.
"""

import random

from benchmarks.problems import Problem, benchmark, calculate, draw_operations, expression

LEVELS = (1, 2, 2, 3, 3)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw one calculation."""
    start = rng.randint(2, 12 if level >= 3 else 20)
    steps = draw_operations(rng, level)
    return Problem(
        prompt=f"Calculate {expression(start, steps)}",
        level=level,
        skills=("mathematics",),
        work=(lambda _: calculate(str(start), steps),),
    )


ARITHMETIC = benchmark("arithmetic", "mathematics", "numeric_match", draw, levels=LEVELS, seed=11)
