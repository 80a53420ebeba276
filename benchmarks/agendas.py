"""Synthetic: calculate, then do. Calculate which item of an agenda is due, then do it, which may need any skill.

Example (level 1):
    Mia's friend is Leo. Leo's friend is Max. Max's friend is Leo. Mia's coach is Max. Leo's coach is Mia. Max's coach is Mia.
    Agenda: 1: calculate 13 - 8; 2: sort sun, red, milk; 3: find Mia's coach. Task: item 9 - 7
    milk, red, sun

Scored by exact match after SQuAD normalisation. Every question lists an item of each kind, in any order: only the response of
the first step says which skill comes next.
"""

import random

from benchmarks.jobs import arrangement, calculation, draw_relations, enquiry, relation_sentences
from benchmarks.problems import MARK, NAMES, Problem, benchmark, calculate, draw_calculation_of, expression, working_of

LEVELS = (1, 1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw an agenda of three items, and a calculation of as many operations as the level."""
    relations = draw_relations(rng, rng.sample(NAMES, 3))
    items = [draw_job(rng, level, relations) for draw_job in (calculation, arrangement, enquiry)]
    rng.shuffle(items)
    place = rng.randrange(len(items))
    start, operations = draw_calculation_of(rng, level, place + 1)
    steps = working_of(calculate(str(start), operations))
    listed = "; ".join(f"{number}: {item.text}" for number, item in enumerate(items, 1))
    return Problem(
        prompt=f"{relation_sentences(relations)} Agenda: {listed}. Task: item {expression(start, operations)}",
        level=level,
        skills=("mathematics", *items[place].skills),
        work=(lambda _: f"{steps}{MARK}{items[place].text}", *items[place].work),
        mistakes=tuple(item.text for item in items if item is not items[place]),
    )


AGENDAS = benchmark("agendas", "mathematics", "exact_match", draw, levels=LEVELS, seed=20)
