"""Synthetic: words and mathematics, in either order. Count words and calculate with the count, or calculate which word to take.

Examples (level 1), worded alike:
    Words: sun, red, milk. Task: count them, then + 7 - 2
    8

    Words: sun, red, milk. Task: take word 12 - 18 + 8
    red

Scored by exact match after SQuAD normalisation. Tests two skills; only the task says which comes first.
"""

import random

from benchmarks.problems import (
    MARK,
    Problem,
    benchmark,
    calculate,
    draw_calculation_of,
    draw_operations,
    draw_words,
    expression,
    numbered,
    result_of,
)

LEVELS = (1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw a list of words and a task that begins with either skill; the calculation is two sums, or a product and a sum."""
    words = draw_words(rng, rng.randint(4, 7))
    premises = f"Words: {', '.join(words)}. Task: "
    if rng.random() < 0.5:
        steps = draw_operations(rng, level + 1)
        if int(result_of(calculate(str(len(words)), steps))) < 0:
            return draw(rng, level)
        return Problem(
            prompt=f"{premises}count them, then {expression('', steps).strip()}",
            level=level,
            skills=("words", "mathematics"),
            work=(lambda _: f"{numbered(words)}. {MARK}{len(words)}", lambda count: calculate(count, steps)),
            mistakes=tuple(str(len(words) + error) for error in (-1, 1, 2)),
        )
    place = rng.randint(1, len(words))
    start, steps = draw_calculation_of(rng, level + 1, place)

    def take(result: str) -> str:
        first_words = words[: int(result)]
        return f"{numbered(first_words)}. {MARK}{first_words[-1]}"

    return Problem(
        prompt=f"{premises}take word {expression(start, steps)}",
        level=level,
        skills=("mathematics", "words"),
        work=(lambda _: calculate(str(start), steps), take),
        mistakes=tuple(str(other) for other in range(1, len(words) + 1) if other != place),
    )


PLACES = benchmark("places", "words", "exact_match", draw, levels=LEVELS, seed=14)
