"""Synthetic: relations and mathematics, in either order. Look up a number and calculate with it, or the reverse.

Examples (level 1), worded alike:
    Coins: Ann 7, Tom 12, Eve 3. Ann's boss is Tom. Eve's boss is Ann. Task: coins of Ann's boss + 7 - 2
    17

    Coins: Ann 7, Tom 12, Eve 3. Ann's boss is Tom. Eve's boss is Ann. Task: who has 12 - 18 + 9
    Eve

Scored by exact match after SQuAD normalisation. Tests two skills; only the task says which comes first.
"""

import random
from functools import partial

from benchmarks.problems import (
    MARK,
    NAMES,
    Problem,
    benchmark,
    boss_sentences,
    calculate,
    draw_bosses,
    draw_calculation_of,
    draw_operations,
    expression,
    result_of,
    search,
)

LEVELS = (1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw the coins and the bosses of some people, and a task that begins with either skill."""
    people = rng.sample(NAMES, rng.randint(4, 5))
    coins = dict(zip(people, rng.sample(range(2, 20), len(people)), strict=True))
    bosses = draw_bosses(rng, people)
    amounts = ", ".join(f"{person} {count}" for person, count in coins.items())
    premises = f"Coins: {amounts}. {boss_sentences(bosses)} Task: "
    employee, boss = rng.choice(list(bosses.items()))
    count = coins[boss]
    mistakes = tuple(str(other) for other in coins.values() if other != count)
    if rng.random() < 0.5:
        steps = draw_operations(rng, level + 1)
        if int(result_of(calculate(str(count), steps))) < 0:
            return draw(rng, level)
        return Problem(
            prompt=f"{premises}coins of {employee}'s boss {expression('', steps).strip()}",
            level=level,
            skills=("relations", "mathematics"),
            work=(
                lambda _: f"{employee}'s boss is {boss}; {boss} has {count}. {MARK}{count}",
                lambda result: calculate(result, steps),
            ),
            mistakes=mistakes,
        )
    start, steps = draw_calculation_of(rng, level + 1, count)

    held = {person: [str(count)] for person, count in coins.items()}
    return Problem(
        prompt=f"{premises}who has {expression(start, steps)}",
        level=level,
        skills=("mathematics", "relations"),
        work=(lambda _: calculate(str(start), steps), partial(search, held)),
        mistakes=mistakes,
    )


COINS = benchmark("coins", "qa", "exact_match", draw, levels=LEVELS, seed=15)
