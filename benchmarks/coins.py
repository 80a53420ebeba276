"""Generated: relations and mathematics in either order. Look up a number and calculate with it, or calculate it and look it up.

Examples (level 1), of one wording:
    Coins: Ann 7, Tom 12, Eve 3. Ann's boss is Tom. Eve's boss is Ann. Task: coins of Ann's boss + 7 - 2
    17

    Coins: Ann 7, Tom 12, Eve 3. Ann's boss is Tom. Eve's boss is Ann. Task: who has 12 - 18 + 9
    Eve

Scored by exact match after SQuAD normalisation. Two skills: which comes first has to be read from the task.
"""

import random

from benchmarks.problems import (
    MARK,
    NAMES,
    Problem,
    benchmark,
    calculate,
    draw_bosses,
    expression,
    operations,
    reaching,
    result_of,
    told,
)

LEVELS = (1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw who has how many coins, who is whose boss, and a task that begins with either skill."""
    people = rng.sample(NAMES, rng.randint(4, 5))
    coins = dict(zip(people, rng.sample(range(2, 20), len(people)), strict=True))
    bosses = draw_bosses(rng, people)
    premises = f"Coins: {', '.join(f'{one} {count}' for one, count in coins.items())}. {told(bosses)} Task: "
    asked, person = rng.choice(list(bosses.items()))
    count = coins[person]
    others = tuple(str(other) for other in coins.values() if other != count)
    if rng.random() < 0.5:
        steps = operations(rng, level + 1)
        if int(result_of(calculate(str(count), steps))) < 0:
            return draw(rng, level)
        return Problem(
            f"{premises}coins of {asked}'s boss {expression('', steps).strip()}",
            level,
            ("relations", "mathematics"),
            (
                lambda _: f"{asked}'s boss is {person}; {person} has {count}. {MARK}{count}",
                lambda found: calculate(found, steps),
            ),
            others,
        )
    start, steps = reaching(rng, level + 1, count)

    def look_up(result: str) -> str:
        owner = next((one for one, has in coins.items() if str(has) == result), "nobody")
        return f"{owner} has {result}. {MARK}{owner}"

    return Problem(
        f"{premises}who has {expression(start, steps)}",
        level,
        ("mathematics", "relations"),
        (lambda _: calculate(str(start), steps), look_up),
        others,
    )


COINS = benchmark("coins", "qa", "exact_match", draw, levels=LEVELS, seed=15)
