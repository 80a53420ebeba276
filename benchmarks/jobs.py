"""Jobs: small problems that name themselves, so that whoever reads one knows which skill it needs.

Work on a job ends with its result or, if another skill has to go on, with the job that is left:

    count ink, bed, milk, then + 7 - 2
    ink 1, bed 2, milk 3. Answer: calculate 3 + 7 - 2
    3 + 7 = 10; 10 - 2 = 8. Answer: 8
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.problems import (
    MARK,
    Problem,
    Skill,
    Work,
    boss_sentences,
    calculate,
    draw_calculation_of,
    draw_operations,
    draw_words,
    expression,
    numbered,
    result_of,
    working_of,
)
from benchmarks.word_lists import manipulate

KINDS = ("friend", "coach")


@dataclass(frozen=True)
class Job:
    """A job, and how each of its steps is worked out.

    Attributes:
        text: What is to be done.
        skills: The skill of each step, in order.
        work: How each step is worked out.
    """

    text: str
    skills: tuple[Skill, ...]
    work: tuple[Work, ...]


DrawJob = Callable[[random.Random, int, Mapping[tuple[str, str], str]], Job]
"""Draws a job of a level, given who is whose friend and coach."""


def _same(work: str, _: str) -> str:
    """Return the work of a step that does not depend on the result before."""
    return work


def calculation(rng: random.Random, level: int, _: Mapping[tuple[str, str], str]) -> Job:
    """Draw a calculation whose result is not negative, of one operation at level 1 and of two at level 2."""
    while True:
        start, operations = rng.randint(2, 12), draw_operations(rng, rng.choice((2, 3)) if level > 1 else 1)
        work = calculate(str(start), operations)
        if int(result_of(work)) >= 0:
            return Job(f"calculate {expression(start, operations)}", ("mathematics",), (partial(_same, work),))


def arrangement(rng: random.Random, level: int, _: Mapping[tuple[str, str], str]) -> Job:
    """Draw words to sort or to reverse, three or four at level 1 and five at level 2."""
    order, words = rng.choice(("sort", "reverse")), draw_words(rng, 5 if level > 1 else rng.randint(3, 4))
    return Job(f"{order} {', '.join(words)}", ("words",), (lambda _: manipulate(order, words),))


def enquiry(rng: random.Random, level: int, relations: Mapping[tuple[str, str], str]) -> Job:
    """Draw a person to find, over one or two relations at level 1 and over three at level 2."""
    length = 3 if level > 1 else rng.randint(1, 2)
    person = rng.choice([person for person, _ in relations])
    text, links = person, []
    for _ in range(length):
        kind = rng.choice(KINDS)
        text += f"'s {kind}"
        links.append(f"{person}'s {kind} is {relations[person, kind]}")
        person = relations[person, kind]
    return Job(f"find {text}", ("relations",), (lambda _: f"{'; '.join(links)}. {MARK}{person}",))


def counting(rng: random.Random, level: int, _: Mapping[tuple[str, str], str]) -> Job:
    """Draw words to count, and a calculation to go on with, whose result is not negative."""
    while True:
        words, operations = draw_words(rng, rng.randint(3, 4) + level - 1), draw_operations(rng, level)
        work = calculate(str(len(words)), operations)
        if int(result_of(work)) < 0:
            continue
        left = f"calculate {expression(len(words), operations)}"
        return Job(
            f"count {', '.join(words)}, then {expression('', operations).strip()}",
            ("words", "mathematics"),
            (partial(_same, f"{numbered(words)}. {MARK}{left}"), partial(_same, work)),
        )


def choice(rng: random.Random, level: int, _: Mapping[tuple[str, str], str]) -> Job:
    """Draw words, and a calculation that says which of them to take."""
    words = draw_words(rng, rng.randint(3, 4) + level - 1)
    place = rng.randint(2, len(words))
    start, operations = draw_calculation_of(rng, level, place)
    listed = ", ".join(words)
    steps = working_of(calculate(str(start), operations))
    return Job(
        f"take word {expression(start, operations)} of {listed}",
        ("mathematics", "words"),
        (
            lambda _: f"{steps}{MARK}take word {place} of {listed}",
            lambda _: f"{numbered(words[:place])}. {MARK}{words[place - 1]}",
        ),
    )


def job_of_boss(rng: random.Random, level: int, people: Sequence[str], jobs: Sequence[Job], kind: str, facts: str) -> Problem:
    """Give each of the people a job and a boss, and ask for the job of somebody's boss.

    Args:
        rng: Source of randomness.
        level: Level of the problem.
        people: As many as there are jobs.
        jobs: Jobs of different kinds, which are shuffled.
        kind: What a job is called: `job` or `project`.
        facts: Premises that the jobs need, ending with a space; may be empty.
    """
    shuffled = list(jobs)
    rng.shuffle(shuffled)
    jobs_of = dict(zip(people, shuffled, strict=True))
    bosses = {person: rng.choice([other for other in people if other != person]) for person in people}
    employee = rng.choice(people)
    boss = bosses[employee]
    listed = "; ".join(f"{person}: {job.text}" for person, job in jobs_of.items())
    return Problem(
        prompt=f"{facts}{kind.capitalize()}s: {listed}. {boss_sentences(bosses)} Task: {kind} of {employee}'s boss",
        level=level,
        skills=("relations", *jobs_of[boss].skills),
        work=(lambda _: f"{employee}'s boss is {boss}. {MARK}{jobs_of[boss].text}", *jobs_of[boss].work),
        mistakes=tuple(job.text for person, job in jobs_of.items() if person != boss),
    )


def draw_relations(rng: random.Random, people: Sequence[str]) -> dict[tuple[str, str], str]:
    """Draw everybody's friend and coach."""
    return {(person, kind): rng.choice([other for other in people if other != person]) for person in people for kind in KINDS}


def relation_sentences(relations: Mapping[tuple[str, str], str]) -> str:
    """Write down who is whose friend and coach: `Mia's friend is Leo. Leo's coach is Max.`."""
    return " ".join(f"{person}'s {kind} is {other}." for (person, kind), other in relations.items())
