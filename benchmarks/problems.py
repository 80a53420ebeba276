"""Synthetic problems of one to three steps, each of which needs one skill: what the benchmarks of the quickstart share.

A problem of several steps is built such that a step needs the result of the one before: it is looked up in the premises or
calculated. Half of all problems, selected by a hash of the prompt, are reserved for training and never asked.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice, pairwise
from typing import Literal

from toolkit.tasks import Benchmark, Item
from toolkit.tasks.base import Field

Skill = Literal["mathematics", "words", "relations"]
Work = Callable[[str], str]
"""Writes out a step, which ends with its answer, given the result of the step before (empty for the first)."""

MARK = "Answer: "
TASK = " Task: "


def _words_in(file: str) -> list[str]:
    return (resources.files("benchmarks") / file).read_text("utf-8").split()


NAMES = _words_in("names.txt")
WORDS = _words_in("words.txt")


@dataclass(frozen=True)
class Problem:
    """One question, and how each of its steps is worked out.

    Attributes:
        prompt: What a model is asked.
        level: Difficulty, from 1.
        skills: The skill of each step, in order.
        work: How each step is worked out.
        mistakes: Wrong but plausible results of the first step.
    """

    prompt: str
    level: int
    skills: tuple[Skill, ...]
    work: tuple[Work, ...]
    mistakes: tuple[str, ...] = ()

    def worked(self, first_result: str | None = None) -> list[str]:
        """Return the work of every step; `first_result` replaces the result of the first step."""
        steps: list[str] = []
        result = ""
        for work in self.work:
            steps.append(work(result))
            result = first_result if first_result is not None and len(steps) == 1 else result_of(steps[-1])
        return steps

    @property
    def answer(self) -> str:
        """The result of the last step."""
        return result_of(self.worked()[-1])

    @property
    def trivial(self) -> bool:
        """Whether a step leaves the result as it is, so that the one before suffices."""
        results = [result_of(work) for work in self.worked()]
        return any(first == second for first, second in pairwise(results))

    @property
    def for_training(self) -> bool:
        """Whether the problem is reserved for training; the others are for benchmarks."""
        return hashlib.sha256(self.prompt.encode()).digest()[0] < 128


Draw = Callable[[random.Random, int], Problem]
"""Draws one problem of a level."""
DRAWN: dict[str, Callable[[], Iterator[Problem]]] = {}
"""The problems behind the questions of each benchmark that has been loaded, in order."""


def result_of(work: str) -> str:
    """Return what follows the last `Answer: `."""
    return work.rpartition(MARK)[2]


def working_of(work: str) -> str:
    """Return what precedes the last `Answer: `."""
    return work.rpartition(MARK)[0]


def problems(draw: Draw, levels: Sequence[int], seed: int, training: bool) -> Iterator[Problem]:
    """Draw problems without end, cycling through the levels.

    Args:
        draw: Draws one problem.
        levels: The levels; a level listed twice occurs twice as often.
        seed: Seed of everything that is drawn.
        training: Whether to yield the problems for training, which may repeat, or those for benchmarks, each of them once.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        for level in levels:
            problem = draw(rng, level)
            while problem.for_training != training or problem.trivial or problem.prompt in seen:
                problem = draw(rng, level)
            if not training:
                seen.add(problem.prompt)
            yield problem


def ask_one_of(rng: random.Random, level: int, draw_words_problem: Draw, draw_people_problem: Draw) -> Problem:
    """Draw two problems, join their premises and ask one of them, so that only the task says which, and in which order.

    Neither of the two would be for training on its own.

    Args:
        rng: Source of randomness.
        level: Level of both.
        draw_words_problem: Draws problems about a list of words, in two orders of skills; two thirds ask one of these.
        draw_people_problem: Draws problems about people; only those that begin with a relation are used.
    """

    def draw_untaught(draw: Draw, first_skills: Sequence[Skill]) -> Problem:
        while True:
            problem = draw(rng, level)
            if problem.skills[0] in first_skills and not (problem.trivial or problem.for_training):
                return problem

    both = [
        draw_untaught(draw_words_problem, ("words", "mathematics")),
        draw_untaught(draw_people_problem, ("relations",)),
    ]
    (asked,) = rng.choices(both, weights=(2, 1))
    premises = " ".join(problem.prompt.partition(TASK)[0] for problem in both)
    return replace(asked, prompt=premises + TASK + asked.prompt.partition(TASK)[2])


def benchmark(
    name: str, field: Field, metric: str, draw: Draw, levels: Sequence[int], seed: int, size: int = 1000
) -> Benchmark:
    """Make a benchmark of the problems that are not for training."""

    def drawn() -> Iterator[Problem]:
        return islice(problems(draw, levels, seed, training=False), size)

    def load() -> Iterator[Item]:
        for number, problem in enumerate(drawn()):
            yield Item(str(number), problem.prompt, (problem.answer,), stratum=f"level {problem.level}")

    DRAWN[name] = drawn
    return Benchmark(
        name=name,
        version="1",
        field=field,
        metric=metric,
        synthetic=True,
        source=f"this package, seed {seed}",
        licence="Apache-2.0",
        load=load,
        size=size,
    )


def calculate(start: str, steps: Sequence[tuple[str, int]]) -> str:
    """Write out a calculation, one operation after the other: `13 - 18 = -5; -5 + 4 = -1. Answer: -1`."""
    value, lines = int(start), []
    for sign, operand in steps:
        result = {"+": value + operand, "-": value - operand, "*": value * operand}[sign]
        lines.append(f"{value} {sign} {operand} = {result}")
        value = result
    return f"{'; '.join(lines)}. {MARK}{value}"


def draw_operations(rng: random.Random, level: int) -> list[tuple[str, int]]:
    """Draw operations on a number: one sum at level 1, two at level 2, a product and a sum from level 3 on."""
    if level >= 3:
        return [("*", rng.randint(2, 9)), (rng.choice("+-"), rng.randint(1, 20))]
    return [(rng.choice("+-"), rng.randint(1, 20)) for _ in range(level)]


def draw_calculation_of(rng: random.Random, level: int, target: int) -> tuple[int, list[tuple[str, int]]]:
    """Draw a calculation with a given result: its first number and the operations."""
    while True:
        start = rng.randint(2, 12 if level >= 3 else 20)
        steps = draw_operations(rng, level)
        value = int(result_of(calculate(str(start), steps[:-1]))) if steps[1:] else start
        difference = target - value
        if 1 <= abs(difference) <= 40:
            return start, [*steps[:-1], ("+" if difference > 0 else "-", abs(difference))]


def expression(start: object, steps: Sequence[tuple[str, int]]) -> str:
    """Write a calculation as it is asked: `13 - 18 + 4`."""
    return " ".join([str(start), *(f"{sign} {operand}" for sign, operand in steps)])


def numbered(words: Sequence[str]) -> str:
    """Write words with their numbers: `red 1, sun 2`."""
    return ", ".join(f"{word} {number}" for number, word in enumerate(words, 1))


def with_initials(words: Sequence[str]) -> str:
    """Write words with their first letters: `red r, sun s`."""
    return ", ".join(f"{word} {word[0]}" for word in words)


def search(held: Mapping[str, Sequence[str]], thing: str) -> str:
    """Write out a search for the owner of a thing, person by person: `Ann sun pen; Tom hat cup. Answer: Tom`."""
    searched, owner = [], "nobody"
    for person, things in held.items():
        searched.append(" ".join((person, *things)))
        if thing in things:
            owner = person
            break
    return f"{'; '.join(searched)}. {MARK}{owner}"


def draw_bosses(rng: random.Random, people: Sequence[str]) -> dict[str, str]:
    """Draw a boss for two of the people."""
    bosses: dict[str, str] = {}
    for person in rng.sample(list(people), 2):
        bosses[person] = rng.choice([other for other in people if other != person])
    return bosses


def boss_sentences(bosses: dict[str, str]) -> str:
    """Write down who is whose boss: `Ann's boss is Tom. Eve's boss is Ann.`."""
    return " ".join(f"{person}'s boss is {boss}." for person, boss in bosses.items())


def draw_words(rng: random.Random, count: int) -> list[str]:
    """Draw words with different first letters, which alone determine their alphabetical order."""
    by_initial: dict[str, str] = {}
    while len(by_initial) < count:
        word = rng.choice(WORDS)
        by_initial.setdefault(word[0], word)
    words = list(by_initial.values())
    rng.shuffle(words)
    return words
