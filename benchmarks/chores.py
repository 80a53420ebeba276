"""Synthetic: a list of words and the belongings of people, and a task that needs two of three skills, in one of three orders.

Examples (level 1), worded alike:
    Words: sun, red, milk, pen. Ann has hat, cup. Tom has ice, key. Ann's boss is Tom. Task: count them, then + 7 - 2
    9

    (the same) Task: take word 12 - 18 + 8
    red

    (the same) Task: reverse things of Ann's boss
    key, ice

Scored by exact match after SQuAD normalisation. No path of three hops solves all of it: only the task says which two skills it
needs and which comes first. No specialist is trained on it.
"""

import random

from benchmarks import belongings, places
from benchmarks.problems import Problem, ask_one_of, benchmark

LEVELS = (1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw words and belongings, and a task about one of them: words in both orders, belongings beginning with the relation."""
    return ask_one_of(rng, level, places.draw, belongings.draw)


CHORES = benchmark("chores", "qa", "exact_match", draw, levels=LEVELS, seed=18)
