"""What a model is trained on: problems of its skills, with and without the earlier responses that a path may bring.

A specialist works out its own steps and no other: it corrects a wrong earlier result of its own, builds on the result of
another specialist, and repeats the newest answer if the next step is not its own or nothing is left to do. A response that was
cut off does not count. It is not trained for contexts in which another specialist's first step is still missing. The small
model `quick` is taught a part of one skill: to look up what the premises say of somebody, and who has what.
"""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple, get_args

from benchmarks import (
    BENCHMARKS,
    agendas,
    arithmetic,
    belongings,
    chiefs,
    coins,
    delegations,
    places,
    projects,
    relations,
    word_lists,
)
from benchmarks.problems import MARK, NAMES, Draw, Problem, Skill, problems, result_of, working_of

SOURCES: dict[str, tuple[Draw, Sequence[int]]] = {
    "arithmetic": (arithmetic.draw, arithmetic.LEVELS),
    "word_lists": (word_lists.draw, word_lists.LEVELS),
    "relations": (relations.draw, relations.LEVELS),
    "places": (places.draw, places.LEVELS),
    "coins": (coins.draw, coins.LEVELS),
    "belongings": (belongings.draw, belongings.LEVELS),
    "delegations": (delegations.draw, delegations.LEVELS),
    "agendas": (agendas.draw, agendas.LEVELS),
    "projects": (projects.draw, projects.LEVELS),
    "chiefs": (chiefs.draw, chiefs.LEVELS),
}
SKILLS: dict[str, tuple[Skill, ...]] = {
    "arithmetic": ("mathematics",),
    "word_lists": ("words",),
    "relations": ("relations",),
    "places": ("mathematics", "words"),
    "coins": ("mathematics", "relations"),
    "belongings": ("words", "relations"),
    "delegations": ("mathematics", "words", "relations"),
    "agendas": ("mathematics", "words", "relations"),
    "projects": ("mathematics", "words", "relations"),
    "chiefs": ("relations",),
}
_POOL: tuple[Skill, ...] = get_args(Skill)
MODELS: dict[str, tuple[Skill, ...]] = {**{skill: (skill,) for skill in _POOL}, "quick": ("relations",)}
"""The skills that each model is taught."""
LOOKUPS = ("coins", "belongings", "delegations", "projects")
"""The benchmarks whose problems `quick` is taught. The specialists are taught those of all `SOURCES`."""
MOST_EARLIER = 2
"""Number of responses before the last hop."""
CUT_SHARE = 0.15
"""Share of examples with a response that was cut off."""


class Example(NamedTuple):
    """A question, the responses along a path, and the response that the model should give then."""

    prompt: str
    responses: tuple[str, ...]
    target: str


class Context(NamedTuple):
    """How often a path brings these responses, and what should follow them."""

    weight: float
    responses: tuple[str, ...]
    target: str


def examples(model: str, seed: int, own_share: float = 0.3) -> Iterator[Example]:
    """Draw training examples of a model without end, none of them with the words of a benchmark's question.

    Args:
        model: The model, one of `MODELS`.
        seed: Seed of everything that is drawn.
        own_share: Share of problems of its skills alone; a tenth need none of its skills, the rest need others, too.
    """
    skills = MODELS[model]
    rng = random.Random(f"{model} {seed}")
    streams = {name: problems(*source, rng.getrandbits(32), training=True) for name, source in SOURCES.items()}
    taught = LOOKUPS if model == "quick" else tuple(SKILLS)
    own = [name for name in taught if set(SKILLS[name]) <= set(skills)]
    others = [name for name in taught if not set(SKILLS[name]) & set(skills)]
    shared = [name for name in taught if name not in own and name not in others]
    kinds = [kind for kind in ((own, own_share), (shared, 0.9 - own_share), (others, 0.1)) if kind[0]]
    while True:
        (kind,) = rng.choices([names for names, _ in kinds], weights=[share for _, share in kinds])
        stream = streams[rng.choice(kind)]
        problem = next(stream)
        while kind is shared and not set(problem.skills) & set(skills) and rng.random() < 0.7:
            problem = next(stream)
        if words_of(problem.prompt) not in asked_words():
            yield lesson(rng, problem, skills, next(streams[rng.choice(list(streams))]))


def lesson(rng: random.Random, problem: Problem, skills: Sequence[Skill], unrelated: Problem) -> Example:
    """Put a problem into a context: earlier responses, correct or wrong, and what a model of these skills responds to them.

    Args:
        rng: Source of randomness.
        problem: The question.
        skills: The model's skills.
        unrelated: Another problem, whose work serves as a response that has nothing to do with the question.
    """
    stray = rng.choice(
        (
            unrelated.worked()[-1],
            problem.worked(rng.choice(problem.mistakes))[-1]
            if problem.mistakes
            else corrupted(rng, problem.worked()[0], problem),
        )
    )
    contexts = list(_contexts(rng, problem, skills, stray))
    ((_, responses, target),) = rng.choices(contexts, weights=[context.weight for context in contexts])
    if len(responses) < MOST_EARLIER and (responses or problem.skills[0] in skills) and rng.random() < CUT_SHARE:
        place = rng.randint(0, len(responses))
        responses = (*responses[:place], cut_off(rng, stray), *responses[place:])
    return Example(problem.prompt, responses, target)


def _contexts(rng: random.Random, problem: Problem, skills: Sequence[Skill], stray: str) -> Iterator[Context]:
    """Yield the contexts that a path may bring to a model of these skills."""
    steps = tuple(problem.worked())
    own = [place for place, skill in enumerate(problem.skills) if skill in skills]
    for done in range(len(steps) + 1):
        before = steps[max(0, done - MOST_EARLIER) : done]
        if done in own:
            yield Context(5, before, steps[done])
            if done < MOST_EARLIER:
                yield Context(1.5, (stray, *before), steps[done])
            yield from _wrong(rng, problem, done)
        elif done > 0:
            yield Context(1 if own else 4, before, steps[done - 1])
            if done == 1:
                yield Context(0.5, (steps[0], steps[0]), steps[0])
                yield Context(0.5, (stray, steps[0]), steps[0])
    if not own:
        yield Context(2, (stray,), stray)
        yield Context(2, (wrong := corrupted(rng, steps[0], problem),), wrong)


def _wrong(rng: random.Random, problem: Problem, place: int) -> Iterator[Context]:
    """Yield contexts in which a model finds its own step done wrong, done twice, or built on a wrong result."""
    steps = tuple(problem.worked())
    before = steps[max(0, place - MOST_EARLIER + 1) : place]
    wrong = corrupted(rng, steps[place], problem)
    yield Context(1 if place == 0 else 0.5, (*before, wrong), steps[place])
    if place == 0 and len(steps) == 1:
        yield Context(0.5, (wrong, wrong), steps[0])
    if place == 1:
        yield Context(0.5, (steps[0], steps[0]), steps[1])
        premise = corrupted(rng, steps[0], problem)
        misled = problem.worked(result_of(premise))[1] if result_of(premise) in problem.mistakes else steps[1]
        if misled != steps[1]:
            yield Context(1, (premise,), misled)


def corrupted(rng: random.Random, work: str, problem: Problem) -> str:
    """Return the work of a step with a wrong result, as a model might write it."""
    result = result_of(work)
    head = working_of(work)
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


def cut_off(rng: random.Random, work: str) -> str:
    """Return the beginning of a step's work, without its result."""
    words = working_of(work).split()
    return " ".join(words[: rng.randint(min(3, len(words)), len(words))])


def words_of(prompt: str) -> str:
    """Return the words of a prompt without their order and punctuation."""
    return " ".join(sorted(prompt.replace(",", " ").replace(".", " ").replace(";", " ").replace(":", " ").split()))


@cache
def asked_words() -> frozenset[str]:
    """Return the words of every question of the benchmarks, so that no permuted copy of one is learnt from."""
    return frozenset(words_of(item.prompt) for name in SOURCES for item in BENCHMARKS[name].items())
