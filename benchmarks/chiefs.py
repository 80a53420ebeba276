"""Synthetic: go on or stop. Follow bosses up to the chief, at most three in one step, without knowing how far it is.

Example (level 1):
    Ann's boss is Tom. Eve's boss is Kim. Tom's boss is Eve. (and five more) Task: chief of Tom
    Kim

Scored by exact match after SQuAD normalisation. Every question has a chain of six bosses and two people beside it; only the
responses say whether the chief is reached.
"""

import random
from itertools import pairwise

from benchmarks.problems import MARK, NAMES, Problem, Skill, Work, benchmark, boss_sentences

LEVELS = (1, 1, 1, 2, 2)
STEPS: tuple[Skill, ...] = ("relations", "relations")
CHAIN = 6
REACH = 3
"""Number of bosses that are followed in one step."""
DISTANCES = {1: (1, 2), 2: (4, 5, 6)}
"""How far the chief can be, by level: a short step, or two steps."""


def draw(rng: random.Random, level: int) -> Problem:
    """Draw a chain of bosses and a member whose distance from the chief takes as many steps as the level."""
    people = rng.sample(NAMES, CHAIN + 3)
    chain, beside = people[: CHAIN + 1], people[CHAIN + 1 :]
    bosses = dict(pairwise(chain))
    bosses |= {person: rng.choice(chain[1:]) for person in beside}
    shuffled = dict(rng.sample(list(bosses.items()), len(bosses)))
    start = CHAIN - rng.choice(DISTANCES[level])
    return Problem(
        prompt=f"{boss_sentences(shuffled)} Task: chief of {chain[start]}",
        level=level,
        skills=STEPS[:level],
        work=tuple(_climb(chain, place) for place in range(start, CHAIN, REACH)),
    )


def _climb(chain: list[str], start: int) -> Work:
    stop = min(start + REACH, CHAIN)
    links = "; ".join(f"{chain[place]}'s boss is {chain[place + 1]}" for place in range(start, stop))
    state = "Chief" if stop == CHAIN else "Not the chief"
    return lambda _: f"{links}. {state}. {MARK}{chain[stop]}"


CHIEFS = benchmark("chiefs", "qa", "exact_match", draw, levels=LEVELS, seed=22)
