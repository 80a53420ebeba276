"""Generated: words and mathematics in either order. Count words and calculate with it, or calculate a place and take its word.

Examples (level 1), of one wording:
    Words: sun, red, milk. Task: count them, then + 7 - 2
    8

    Words: sun, red, milk. Task: take word 12 - 18 + 8
    red

Scored by exact match after SQuAD normalisation. Two skills: which comes first has to be read from the task.
"""

import random

from benchmarks.problems import (
    MARK,
    Problem,
    benchmark,
    calculate,
    draw_words,
    expression,
    numbered,
    operations,
    reaching,
    result_of,
)

LEVELS = (1, 2)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw a list of words and a task that begins with either skill; two sums, or a product and a sum."""
    words = draw_words(rng, rng.randint(4, 7))
    premises = f"Words: {', '.join(words)}. Task: "
    places = [str(place) for place in range(1, len(words) + 1)]
    if rng.random() < 0.5:
        steps = operations(rng, level + 1)
        if int(result_of(calculate(str(len(words)), steps))) < 0:
            return draw(rng, level)
        return Problem(
            f"{premises}count them, then {expression('', steps).strip()}",
            level,
            ("words", "mathematics"),
            (lambda _: f"{numbered(words)}. {MARK}{len(words)}", lambda count: calculate(count, steps)),
            tuple(str(len(words) + off) for off in (-1, 1, 2)),
        )
    place = rng.randint(1, len(words))
    start, steps = reaching(rng, level + 1, place)

    def take(result: str) -> str:
        taken = words[: int(result)]
        return f"{numbered(taken)}. {MARK}{taken[-1]}"

    return Problem(
        f"{premises}take word {expression(start, steps)}",
        level,
        ("mathematics", "words"),
        (lambda _: calculate(str(start), steps), take),
        tuple(one for one in places if one != str(place)),
    )


PLACES = benchmark("places", "code", "exact_match", draw, levels=LEVELS, seed=14)
