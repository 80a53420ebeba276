"""Synthetic: reverse a list of words, sort it, count it, or write its first letters.

Example (level 1):
    Words: sun, red, milk. Task: sort them
    milk, red, sun

Scored by exact match after SQuAD normalisation. Tests one skill: words.
"""

import random

from benchmarks.problems import MARK, Problem, benchmark, draw_words, numbered, with_initials

LEVELS = (1, 2, 3)
TASKS = {
    "reverse": "reverse them",
    "sort": "sort them",
    "count": "count them",
    "initials": "write their first letters",
}


def manipulate(task: str, words: list[str]) -> str:
    """Work out one task on a list of words."""
    match task:
        case "reverse":
            return f"{numbered(words)}. {MARK}{', '.join(reversed(words))}"
        case "sort":
            return f"{with_initials(words)}. {MARK}{', '.join(sorted(words))}"
        case "count":
            return f"{numbered(words)}. {MARK}{len(words)}"
        case _:
            return f"{with_initials(words)}. {MARK}{' '.join(word[0] for word in words)}"


def draw(rng: random.Random, level: int) -> Problem:
    """Draw a list of words, longer at higher levels, and a task."""
    task = rng.choice(list(TASKS))
    words = draw_words(rng, level + 2 + (rng.randint(0, 3) if task == "count" else 0))
    return Problem(
        prompt=f"Words: {', '.join(words)}. Task: {TASKS[task]}",
        level=level,
        skills=("words",),
        work=(lambda _: manipulate(task, words),),
    )


WORD_LISTS = benchmark("word_lists", "words", "exact_match", draw, levels=LEVELS, seed=12)
