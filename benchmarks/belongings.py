"""Synthetic: relations and words, in either order. Look up somebody's things and rearrange them, or find a thing and its owner.

Examples (level 1), worded alike:
    Ann has sun, pen. Tom has hat, cup. Eve has ice, key. Ann's boss is Tom. Eve's boss is Ann. Task: sort things of Ann's boss
    cup, hat

    (the same) Task: owner of the first of pen, key, hat
    Tom

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
    draw_bosses,
    draw_words,
    search,
    with_initials,
)
from benchmarks.word_lists import manipulate

LEVELS = (1, 2, 3)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw who has what, two to four things each depending on the level, and a task that begins with either skill."""
    people = rng.sample(NAMES, 3)
    things = draw_words(rng, 3 * (level + 1))
    belongings = {person: things[place :: len(people)] for place, person in enumerate(people)}
    listed = {person: ", ".join(words) for person, words in belongings.items()}
    bosses = draw_bosses(rng, people)
    sentences = " ".join(f"{person} has {words}." for person, words in listed.items())
    premises = f"{sentences} {boss_sentences(bosses)} Task: "
    if rng.random() < 0.5:
        task = rng.choice(("sort", "reverse"))
        employee, boss = rng.choice(list(bosses.items()))
        return Problem(
            prompt=f"{premises}{task} things of {employee}'s boss",
            level=level,
            skills=("relations", "words"),
            work=(
                lambda _: f"{employee}'s boss is {boss}; {boss} has {listed[boss]}. {MARK}{listed[boss]}",
                lambda result: manipulate(task, result.split(", ")),
            ),
            mistakes=tuple(listed[person] for person in people if person != boss),
        )
    candidates = [rng.choice(words) for words in belongings.values()]
    rng.shuffle(candidates)
    return Problem(
        prompt=f"{premises}owner of the first of {', '.join(candidates)}",
        level=level,
        skills=("words", "relations"),
        work=(
            lambda _: f"{with_initials(candidates)}. {MARK}{min(candidates)}",
            partial(search, belongings),
        ),
        mistakes=tuple(thing for thing in candidates if thing != min(candidates)),
    )


BELONGINGS = benchmark("belongings", "words", "exact_match", draw, levels=LEVELS, seed=16)
