"""Generated: a list of words and a purse of coins, and a task that needs two of three skills, in one of three orders.

Examples (level 1), of one wording:
    Words: sun, red, milk, pen. Coins: Ann 7, Tom 12. Ann's boss is Tom. Tom's boss is Ann. Task: count them, then + 7 - 2
    9

    (the same) Task: take word 12 - 18 + 8
    red

    (the same) Task: coins of Ann's boss + 7 - 2
    17

Scored by exact match after SQuAD normalisation. No path of three hops serves all: which two skills, and which first, has to be
read from the task. No specialist is taught it.
"""

import random

from benchmarks import coins, places
from benchmarks.problems import Problem, asked_among, benchmark

LEVELS = (1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw words and coins, and a task on either: the words in both orders, the coins beginning with the relation."""
    return asked_among(rng, level, places.draw, coins.draw)


ERRANDS = benchmark("errands", "qa", "exact_match", draw, levels=LEVELS, seed=17)
