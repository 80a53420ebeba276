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

from benchmarks.jobs import calculation, choice, counting
from benchmarks.problems import MARK, NAMES, Problem, benchmark, boss_sentences

LEVELS = (1, 1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw three people with a project and a boss each."""
    people = rng.sample(NAMES, 3)
    projects = [draw_job(rng, level, {}) for draw_job in (calculation, counting, choice)]
    rng.shuffle(projects)
    projects_of = dict(zip(people, projects, strict=True))
    bosses = {person: rng.choice([other for other in people if other != person]) for person in people}
    employee = rng.choice(people)
    boss = bosses[employee]
    listed = "; ".join(f"{person}: {project.text}" for person, project in projects_of.items())
    return Problem(
        prompt=f"Projects: {listed}. {boss_sentences(bosses)} Task: project of {employee}'s boss",
        level=level,
        skills=("relations", *projects_of[boss].skills),
        work=(lambda _: f"{employee}'s boss is {boss}. {MARK}{projects_of[boss].text}", *projects_of[boss].work),
        mistakes=tuple(project.text for person, project in projects_of.items() if person != boss),
    )


PROJECTS = benchmark("projects", "mathematics", "exact_match", draw, levels=LEVELS, seed=21)
