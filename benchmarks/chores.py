"""Generated: a list of words and what people own, and a task that needs two of three skills, in one of three orders.

Examples (level 1), of one wording:
    Words: sun, red, milk, pen. Ann has hat, cup. Tom has ice, key. Ann's boss is Tom. Task: count them, then + 7 - 2
    9

    (the same) Task: take word 12 - 18 + 8
    red

    (the same) Task: reverse things of Ann's boss
    key, ice

Scored by exact match after SQuAD normalisation. No path of three hops serves all: which two skills, and which first, has to be
read from the task. No specialist is taught it.
"""

import random

from benchmarks import belongings, places
from benchmarks.problems import Problem, asked_among, benchmark

LEVELS = (1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw words and belongings, and a task on either: the words in both orders, the belongings beginning with the relation."""
    return asked_among(rng, level, places.draw, belongings.draw)


CHORES = benchmark("chores", "qa", "exact_match", draw, levels=LEVELS, seed=18)
