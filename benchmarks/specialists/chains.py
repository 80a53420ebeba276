"""What a specialist is trained on: problems of its skill, with and without the earlier responses that a path may bring.

A specialist works out its own step and no other: it corrects a wrong earlier result of its own skill, builds on the result of
another specialist, and repeats the newest response if nothing is left for it to do. It is not trained for contexts in which
another specialist's first step is still missing.
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks import arithmetic, belongings, coins, places, relations, word_lists
from benchmarks.problems import MARK, NAMES, Draw, Problem, Skill, problems, result_of

SOURCES: dict[str, tuple[Draw, Sequence[int]]] = {
    "arithmetic": (arithmetic.draw, arithmetic.LEVELS),
    "word_lists": (word_lists.draw, word_lists.LEVELS),
    "relations": (relations.draw, relations.LEVELS),
    "places": (places.draw, places.LEVELS),
    "coins": (coins.draw, coins.LEVELS),
    "belongings": (belongings.draw, belongings.LEVELS),
}
SKILLS: dict[str, tuple[Skill, ...]] = {
    "arithmetic": ("mathematics",),
    "word_lists": ("words",),
    "relations": ("relations",),
    "places": ("mathematics", "words"),
    "coins": ("mathematics", "relations"),
    "belongings": ("words", "relations"),
}


class Example(NamedTuple):
    """A question, the responses along a path, and the response that the specialist should give then."""

    prompt: str
    responses: tuple[str, ...]
    target: str


def examples(skill: Skill, seed: int, own_share: float = 0.3) -> Iterator[Example]:
    """Draw training examples of a specialist without end.

    Args:
        skill: The specialist's skill.
        seed: Seed of everything that is drawn.
        own_share: Share of problems that need its skill alone; a tenth are problems that do not need it, the rest need two.
    """
    rng = random.Random(f"{skill} {seed}")
    streams = {name: problems(*source, rng.getrandbits(32), training=True) for name, source in SOURCES.items()}
    own = [name for name, skills in SKILLS.items() if skills == (skill,)]
    shared = [name for name, skills in SKILLS.items() if skill in skills and len(skills) == 2]
    others = [name for name, skills in SKILLS.items() if skill not in skills]
    while True:
        (kind,) = rng.choices((own, shared, others), weights=(own_share, 0.9 - own_share, 0.1))
        yield lesson(rng, next(streams[rng.choice(kind)]), skill, next(streams[rng.choice(list(streams))]))


def lesson(rng: random.Random, problem: Problem, skill: Skill, unrelated: Problem) -> Example:
    """Put a problem into a context: earlier responses, correct or wrong, and what a specialist of the skill responds to them.

    Args:
        rng: Source of randomness.
        problem: The question.
        skill: The specialist's skill.
        unrelated: Another problem, whose work serves as a response that has nothing to do with the question.
    """
    steps = problem.worked()
    first, last = steps[0], steps[-1]
    wrong = corrupted(rng, first, problem)
    stray = rng.choice(
        (unrelated.worked()[-1], problem.worked(rng.choice(problem.mistakes))[-1] if problem.mistakes else wrong)
    )
    if skill not in problem.skills:
        earlier: list[tuple[str, ...]] = [(last,), (stray,), (wrong,)]
        if problem.skills[1:]:
            earlier = [(last,), (stray,), (first, last), (stray, first)]
        responses = rng.choice(earlier)
        return Example(problem.prompt, responses, responses[-1])
    contexts: list[tuple[float, tuple[str, ...], str]]
    if not problem.skills[1:]:
        contexts = [
            (6, (), first),
            (1, (first,), first),
            (1, (wrong,), first),
            (1, (stray,), first),
            (0.5, (stray, wrong), first),
            (0.5, (first, first), first),
        ]
    elif skill == problem.skills[0]:
        contexts = [
            (5, (), first),
            (1.5, (stray,), first),
            (1, (first,), first),
            (1, (wrong,), first),
            (0.5, (stray, stray), first),
            (1.5, (first, last), last),
        ]
    else:
        misled = problem.worked(result_of(wrong))[-1] if result_of(wrong) in problem.mistakes else last
        premise = wrong if misled != last else first
        contexts = [
            (5, (first,), last),
            (1, (premise,), misled),
            (1.5, (stray, first), last),
            (0.5, (first, first), last),
            (1, (first, last), last),
            (0.5, (first, corrupted(rng, last, problem)), last),
        ]
    ((_, responses, target),) = rng.choices(contexts, weights=[weight for weight, _, _ in contexts])
    return Example(problem.prompt, responses, target)


def corrupted(rng: random.Random, work: str, problem: Problem) -> str:
    """Return the work of a step with a wrong result, as a model might write it."""
    result = result_of(work)
    head = work.rpartition(MARK)[0]
    if problem.mistakes and work == problem.worked()[0]:
        other = rng.choice(problem.mistakes)
    elif result.lstrip("-").isdigit():
        other = str(int(result) + rng.choice((-10, -2, -1, 1, 2, 10)))
    elif " " in result:
        words = result.split(", ") if "," in result else result.split()
        left = words[: len(words) - 1] if rng.random() < 0.5 else rng.sample(words, len(words))
        other = (", " if "," in result else " ").join(left)
    else:
        mentioned = [name for name in NAMES if name in problem.prompt and name != result]
        other = rng.choice(mentioned or NAMES)
    return head.replace(f"= {result}. ", f"= {other}. ").replace(f"has {result}. ", f"has {other}. ") + MARK + other
