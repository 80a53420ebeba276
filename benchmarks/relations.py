"""Generated: follow relations between people through the premises.

Example (level 2):
    Ann's boss is Tom. Eve's friend is Ann. Tom's friend is Eve. Who is the friend of the boss of Ann?
    Eve

Scored by exact match after SQuAD normalisation. Field of one skill: relations.
"""

import random

from benchmarks.problems import MARK, NAMES, Problem, benchmark

LEVELS = (1, 2, 3)
RELATIONS = ("boss", "friend", "coach")


def draw(rng: random.Random, level: int) -> Problem:
    """Draw a chain of as many relations as the level, hidden among two others."""
    people = rng.sample(NAMES, level + 4)
    chain = [(people[hop], rng.choice(RELATIONS), people[hop + 1]) for hop in range(level)]
    others = [(one, rng.choice(RELATIONS), rng.choice(people)) for one in people[level + 1 : level + 3]]
    facts = [*chain, *((one, kind, other) for one, kind, other in others if one != other)]
    rng.shuffle(facts)
    premises = " ".join(f"{one}'s {kind} is {other}." for one, kind, other in facts)
    asked = " of ".join(f"the {kind}" for _, kind, _ in reversed(chain))
    work = "; ".join(f"{one}'s {kind} is {other}" for one, kind, other in chain)
    prompt = f"{premises} Who is {asked} of {people[0]}?"
    return Problem(prompt, level, ("relations",), (lambda _: f"{work}. {MARK}{people[level]}",))


RELATIONS_BENCHMARK = benchmark("relations", "qa", "exact_match", draw, levels=LEVELS, seed=13)
