"""Synthetic: follow relations between people through the premises.

Example (level 2):
    Ann's boss is Tom. Eve's friend is Ann. Tom's friend is Eve. Who is the friend of the boss of Ann?
    Eve

Scored by exact match after SQuAD normalisation. Tests one skill: relations.
"""

import random

from benchmarks.problems import MARK, NAMES, Problem, benchmark

LEVELS = (1, 2, 3)
KINDS = ("boss", "friend", "coach")


def draw(rng: random.Random, level: int) -> Problem:
    """Draw a chain of `level` relations, hidden among two others."""
    people = rng.sample(NAMES, level + 4)
    chain = [(people[hop], rng.choice(KINDS), people[hop + 1]) for hop in range(level)]
    others = [(person, rng.choice(KINDS), rng.choice(people)) for person in people[level + 1 : level + 3]]
    facts = [*chain, *((person, kind, other) for person, kind, other in others if person != other)]
    rng.shuffle(facts)
    premises = " ".join(f"{person}'s {kind} is {other}." for person, kind, other in facts)
    description = " of ".join(f"the {kind}" for _, kind, _ in reversed(chain))
    work = "; ".join(f"{person}'s {kind} is {other}" for person, kind, other in chain)
    return Problem(
        prompt=f"{premises} Who is {description} of {people[0]}?",
        level=level,
        skills=("relations",),
        work=(lambda _: f"{work}. {MARK}{people[level]}",),
    )


RELATIONS = benchmark("relations", "qa", "exact_match", draw, levels=LEVELS, seed=13)
