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

from benchmarks.jobs import arrangement, calculation, draw_relations, enquiry, relation_sentences
from benchmarks.problems import MARK, NAMES, Problem, benchmark, boss_sentences

LEVELS = (1, 1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw three people with a job and a boss each, and three to ask about."""
    people, others = (names := rng.sample(NAMES, 6))[:3], names[3:]
    relations = draw_relations(rng, others)
    jobs = [draw_job(rng, level, relations) for draw_job in (calculation, arrangement, enquiry)]
    rng.shuffle(jobs)
    jobs_of = dict(zip(people, jobs, strict=True))
    bosses = {person: rng.choice([other for other in people if other != person]) for person in people}
    employee = rng.choice(people)
    boss = bosses[employee]
    listed = "; ".join(f"{person}: {job.text}" for person, job in jobs_of.items())
    return Problem(
        prompt=f"{relation_sentences(relations)} Jobs: {listed}. {boss_sentences(bosses)} Task: job of {employee}'s boss",
        level=level,
        skills=("relations", *jobs_of[boss].skills),
        work=(lambda _: f"{employee}'s boss is {boss}. {MARK}{jobs_of[boss].text}", *jobs_of[boss].work),
        mistakes=tuple(job.text for person, job in jobs_of.items() if person != boss),
    )


DELEGATIONS = benchmark("delegations", "qa", "exact_match", draw, levels=LEVELS, seed=19)
