"""Synthetic: two steps or three. Find somebody's boss, then do the boss's project, which needs one skill more or two.

Example (level 1):
    Projects: Ann: calculate 13 - 8; Tom: count sun, red, milk, then + 7; Eve: take word 9 - 7 of ink, pen, bed.
    Ann's boss is Tom. Tom's boss is Ann. Eve's boss is Tom. Task: project of Ann's boss
    10

Scored by exact match after SQuAD normalisation. Every question lists a project of each kind: a calculation, a calculation with
the number of words, and a word to be taken from a place that has to be calculated. Only the responses say which skill comes
next and when the project is finished.
"""

import random

from benchmarks.jobs import calculation, choice, counting, job_of_boss
from benchmarks.problems import NAMES, Problem, benchmark

LEVELS = (1, 1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw three people with a project and a boss each."""
    people = rng.sample(NAMES, 3)
    projects = [draw_job(rng, level, {}) for draw_job in (calculation, counting, choice)]
    return job_of_boss(rng, level, people, projects, "project", "")


PROJECTS = benchmark("projects", "mathematics", "exact_match", draw, levels=LEVELS, seed=21)
