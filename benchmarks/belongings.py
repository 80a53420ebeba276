"""Generated: relations and words in either order. Look up somebody's things and rearrange them, or find a thing and its owner.

Examples (level 1), of one wording:
    Ann has sun, pen. Tom has hat, cup. Eve has ice, key. Ann's boss is Tom. Eve's boss is Ann. Task: sort things of Ann's boss
    cup, hat

    (the same) Task: owner of the first of pen, key, hat
    Tom

Scored by exact match after SQuAD normalisation. Two skills: which comes first has to be read from the task.
"""

import random

from benchmarks.problems import MARK, NAMES, Problem, benchmark, draw_bosses, draw_words, told, with_initials
from benchmarks.word_lists import manipulate

LEVELS = (1, 2, 3)


def draw(rng: random.Random, level: int) -> Problem:
    """Draw who has what, two to four things each with the level, and a task that begins with either skill."""
    people = rng.sample(NAMES, 3)
    things = draw_words(rng, 3 * (level + 1))
    has = {one: things[place :: len(people)] for place, one in enumerate(people)}
    bosses = draw_bosses(rng, people)
    premises = " ".join(f"{one} has {', '.join(words)}." for one, words in has.items()) + f" {told(bosses)} Task: "
    if rng.random() < 0.5:
        task = rng.choice(("sort", "reverse"))
        asked, person = rng.choice(list(bosses.items()))
        listed = {one: ", ".join(words) for one, words in has.items()}
        return Problem(
            f"{premises}{task} things of {asked}'s boss",
            level,
            ("relations", "words"),
            (
                lambda _: f"{asked}'s boss is {person}; {person} has {listed[person]}. {MARK}{listed[person]}",
                lambda found: manipulate(task, found.split(", ")),
            ),
            tuple(listed[one] for one in people if one != person),
        )
    candidates = [rng.choice(words) for words in has.values()]
    rng.shuffle(candidates)
    owners = {thing: one for one, words in has.items() for thing in words}
    return Problem(
        f"{premises}owner of the first of {', '.join(candidates)}",
        level,
        ("words", "relations"),
        (
            lambda _: f"{with_initials(candidates)}. {MARK}{min(candidates)}",
            lambda found: f"{owners[found]} has {found}. {MARK}{owners[found]}",
        ),
        tuple(one for one in candidates if one != min(candidates)),
    )


BELONGINGS = benchmark("belongings", "code", "exact_match", draw, levels=LEVELS, seed=16)
