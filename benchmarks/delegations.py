"""Synthetic: look up, then do. Find somebody's boss, then do the boss's job, which may need any skill.

Example (level 1):
    Mia's friend is Leo. Leo's friend is Max. Max's friend is Leo. Mia's coach is Max. Leo's coach is Mia. Max's coach is Mia.
    Jobs: Ann: calculate 13 - 8; Tom: sort sun, red, milk; Eve: find Mia's coach. Ann's boss is Tom. Tom's boss is Ann.
    Eve's boss is Tom. Task: job of Ann's boss
    milk, red, sun

Scored by exact match after SQuAD normalisation. Every question lists a job of each kind, and somebody of each kind could be the
boss: only the response of the first step says which skill comes next.
"""

import random

from benchmarks.jobs import arrangement, calculation, draw_relations, enquiry, job_of_boss, relation_sentences
from benchmarks.problems import NAMES, Problem, benchmark

LEVELS = (1, 1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw three people with a job and a boss each, and three to ask about."""
    names = rng.sample(NAMES, 6)
    relations = draw_relations(rng, names[3:])
    jobs = [draw_job(rng, level, relations) for draw_job in (calculation, arrangement, enquiry)]
    return job_of_boss(rng, level, names[:3], jobs, "job", f"{relation_sentences(relations)} ")


DELEGATIONS = benchmark("delegations", "qa", "exact_match", draw, levels=LEVELS, seed=19)
