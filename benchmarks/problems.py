"""What the generated benchmarks of the quickstart share: problems of one or two steps, each step the field of one skill.

A problem of two steps is written so that no skill does both: the first result is read off the premises or calculated, and the
second step needs it. Half of all problems, told apart by a hash of the prompt, belong to training and are never asked.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from toolkit.tasks.base import Benchmark, Item

Skill = Literal["mathematics", "words", "relations"]
Work = Callable[[str], str]
"""From the result of the step before (empty for the first) to the written work of this one, which ends with its answer."""

MARK = "Answer: "
TASK = " Task: "
NAMES = [
    "Ann",
    "Ben",
    "Carl",
    "Dan",
    "Eve",
    "Frank",
    "George",
    "Henry",
    "Ian",
    "Karl",
    "Lee",
    "Nick",
    "Oscar",
    "Paul",
    "Sam",
    "Tom",
    "Victor",
    "Alice",
    "Bob",
    "Emma",
    "Grace",
    "Helen",
    "Jane",
    "Kate",
    "Lily",
    "Mary",
    "Nina",
    "Peter",
    "Ruth",
    "Sarah",
    "Anna",
    "David",
    "Eric",
    "James",
    "John",
    "Kevin",
    "Laura",
    "Lisa",
    "Max",
    "Mike",
    "Robert",
    "Simon",
    "Susan",
    "Adam",
    "Alex",
]
WORDS = [
    "apple",
    "arm",
    "army",
    "art",
    "baby",
    "ball",
    "band",
    "bank",
    "barn",
    "base",
    "bath",
    "beach",
    "bean",
    "bear",
    "bed",
    "bell",
    "belt",
    "bench",
    "bird",
    "boat",
    "body",
    "bone",
    "book",
    "boot",
    "bowl",
    "box",
    "boy",
    "bread",
    "brick",
    "bridge",
    "brush",
    "bus",
    "cake",
    "camp",
    "card",
    "case",
    "cat",
    "cave",
    "chain",
    "chair",
    "chalk",
    "child",
    "city",
    "clock",
    "cloth",
    "cloud",
    "coal",
    "coast",
    "coat",
    "coin",
    "corn",
    "cow",
    "cream",
    "crop",
    "crowd",
    "crown",
    "cup",
    "dance",
    "desk",
    "dish",
    "dog",
    "doll",
    "door",
    "dress",
    "drum",
    "duck",
    "dust",
    "eagle",
    "ear",
    "earth",
    "edge",
    "egg",
    "engine",
    "eye",
    "face",
    "farm",
    "fence",
    "field",
    "film",
    "fire",
    "fish",
    "flag",
    "floor",
    "flower",
    "fly",
    "foot",
    "fork",
    "forest",
    "fox",
    "frame",
    "friend",
    "frog",
    "fruit",
    "game",
    "garden",
    "gate",
    "giant",
    "girl",
    "glass",
    "glove",
    "goat",
    "gold",
    "grain",
    "grape",
    "grass",
    "ground",
    "guide",
    "guitar",
    "hair",
    "hall",
    "hammer",
    "hand",
    "hat",
    "head",
    "heart",
    "hill",
    "hole",
    "home",
    "honey",
    "hook",
    "horn",
    "horse",
    "hotel",
    "house",
    "ice",
    "ink",
    "iron",
    "island",
    "jacket",
    "jar",
    "jelly",
    "jewel",
    "judge",
    "juice",
    "jungle",
    "key",
    "king",
    "kitchen",
    "kite",
    "knee",
    "knife",
    "ladder",
    "lake",
    "lamp",
    "land",
    "lawn",
    "leaf",
    "leather",
    "leg",
    "lemon",
    "letter",
    "library",
    "lion",
    "lip",
    "lock",
    "machine",
    "map",
    "mask",
    "meal",
    "meat",
    "metal",
    "milk",
    "mill",
    "mine",
    "mirror",
    "moon",
    "mother",
    "mouse",
    "mouth",
    "mud",
    "music",
    "nail",
    "neck",
    "needle",
    "nest",
    "net",
    "night",
    "nose",
    "nurse",
    "oak",
    "oil",
    "onion",
    "orange",
    "oven",
    "owl",
    "page",
    "paint",
    "pan",
    "paper",
    "park",
    "party",
    "path",
    "pear",
    "pen",
    "pencil",
    "piano",
    "pig",
    "pin",
    "pipe",
    "plane",
    "plant",
    "plate",
    "pocket",
    "poem",
    "pool",
    "pot",
    "prince",
    "queen",
    "quilt",
    "rabbit",
    "radio",
    "rail",
    "rain",
    "ring",
    "river",
    "road",
    "rock",
    "roof",
    "room",
    "root",
    "rope",
    "rule",
    "sail",
    "salt",
    "sand",
    "school",
    "sea",
    "seat",
    "seed",
    "sheep",
    "shell",
    "ship",
    "shirt",
    "shoe",
    "shop",
    "silk",
    "silver",
    "sister",
    "skin",
    "sky",
    "smoke",
    "snake",
    "snow",
    "soap",
    "sock",
    "soil",
    "song",
    "soup",
    "spoon",
    "spring",
    "star",
    "station",
    "steam",
    "stick",
    "stone",
    "storm",
    "story",
    "street",
    "sugar",
    "sun",
    "table",
    "tail",
    "tank",
    "tea",
    "tent",
    "thread",
    "ticket",
    "tiger",
    "toe",
    "tooth",
    "tower",
    "town",
    "toy",
    "train",
    "tree",
    "truck",
    "uncle",
    "valley",
    "vase",
    "village",
    "violin",
    "voice",
    "wagon",
    "wall",
    "watch",
    "water",
    "wave",
    "wheel",
    "wind",
    "window",
    "wing",
    "winter",
    "wolf",
    "wood",
    "wool",
    "world",
    "worm",
    "yard",
    "zebra",
    "zoo",
]


@dataclass(frozen=True)
class Problem:
    """One question, and how each of its steps is worked out.

    Attributes:
        prompt: What a model is asked.
        level: Difficulty, from 1.
        skills: The skill of each step, in the order in which they are needed.
        work: How each step is worked out.
        mistakes: Wrong results of the first step that could have been right.
    """

    prompt: str
    level: int
    skills: tuple[Skill, ...]
    work: tuple[Work, ...]
    mistakes: tuple[str, ...] = field(default=())

    def worked(self, first: str | None = None) -> list[str]:
        """Return the work of every step; `first` stands in for the result of the first step."""
        steps: list[str] = []
        result = ""
        for work in self.work:
            steps.append(work(result))
            result = first if first is not None and len(steps) == 1 else result_of(steps[-1])
        return steps

    @property
    def answer(self) -> str:
        """The result of the last step."""
        return result_of(self.worked()[-1])

    @property
    def trivial(self) -> bool:
        """Whether the second step leaves the result as it is, so that the first alone would do."""
        results = [result_of(work) for work in self.worked()]
        return len(results) == 2 and results[0] == results[1]

    @property
    def for_training(self) -> bool:
        """Whether the problem may be learnt from; the others are for benchmarks."""
        return hashlib.sha256(self.prompt.encode()).digest()[0] < 128


Draw = Callable[[random.Random, int], Problem]
"""Draws one problem of a level."""


def result_of(work: str) -> str:
    """Return what stands behind the last `Answer: `."""
    return work.rpartition(MARK)[2]


def problems(draw: Draw, levels: Sequence[int], seed: int, training: bool) -> Iterator[Problem]:
    """Draw problems for ever, the levels in turn: for training, some of them again and again, or for benchmarks, none twice."""
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


def asked_among(rng: random.Random, level: int, words: Draw, people: Draw) -> Problem:
    """Draw two problems and join their premises, so that the task alone tells which of them is asked, and in which order.

    Neither of them, asked by itself, is for training.

    Args:
        rng: Draws.
        level: Of both.
        words: Draws problems about a list of words, of two orders: two thirds of all.
        people: Draws problems about people, of which those that begin with a relation are asked.
    """

    def untaught(draw: Draw, first: Sequence[Skill]) -> Problem:
        while True:
            problem = draw(rng, level)
            if problem.skills[0] in first and not (problem.trivial or problem.for_training):
                return problem

    both = [untaught(words, ("words", "mathematics")), untaught(people, ("relations",))]
    (asked,) = rng.choices(both, weights=(2, 1))
    premises = " ".join(problem.prompt.partition(TASK)[0] for problem in both)
    return replace(asked, prompt=premises + TASK + asked.prompt.partition(TASK)[2])


def benchmark(
    name: str,
    field: Literal["qa", "code", "mathematics"],
    metric: str,
    draw: Draw,
    levels: Sequence[int],
    seed: int,
    size: int = 1000,
) -> Benchmark:
    """Make a benchmark of the problems that are not for training."""

    def load() -> Iterator[Item]:
        drawn = problems(draw, levels, seed, training=False)
        for number, problem in zip(range(size), drawn, strict=False):
            yield Item(str(number), problem.prompt, (problem.answer,), stratum=f"level {problem.level}")

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


def operations(rng: random.Random, level: int) -> list[tuple[str, int]]:
    """Draw what is done to a number: one sum at level 1, two at level 2, a product and a sum from level 3 on."""
    if level >= 3:
        return [("*", rng.randint(2, 9)), (rng.choice("+-"), rng.randint(1, 20))]
    return [(rng.choice("+-"), rng.randint(1, 20)) for _ in range(level)]


def reaching(rng: random.Random, level: int, target: int) -> tuple[int, list[tuple[str, int]]]:
    """Draw a calculation with a given result: its first number and the operations."""
    while True:
        start = rng.randint(2, 12 if level >= 3 else 20)
        steps = operations(rng, level)
        value = int(result_of(calculate(str(start), steps[:-1]))) if steps[1:] else start
        last = target - value
        if 1 <= abs(last) <= 40:
            return start, [*steps[:-1], ("+" if last > 0 else "-", abs(last))]


def expression(start: object, steps: Sequence[tuple[str, int]]) -> str:
    """Write a calculation as it is asked: `13 - 18 + 4`."""
    return " ".join([str(start), *(f"{sign} {operand}" for sign, operand in steps)])


def numbered(words: Sequence[str]) -> str:
    """Write words with their numbers: `red 1, sun 2`."""
    return ", ".join(f"{word} {number}" for number, word in enumerate(words, 1))


def with_initials(words: Sequence[str]) -> str:
    """Write words with their first letters: `red r, sun s`."""
    return ", ".join(f"{word} {word[0]}" for word in words)


def draw_bosses(rng: random.Random, people: Sequence[str]) -> dict[str, str]:
    """Draw whose boss is who, for two of the people."""
    bosses: dict[str, str] = {}
    for one in rng.sample(list(people), 2):
        bosses[one] = rng.choice([other for other in people if other != one])
    return bosses


def told(bosses: dict[str, str]) -> str:
    """Write whose boss is who: `Ann's boss is Tom. Eve's boss is Ann.`."""
    return " ".join(f"{one}'s boss is {other}." for one, other in bosses.items())


def draw_words(rng: random.Random, count: int) -> list[str]:
    """Draw words with different first letters, so that their order does not hang on a second one."""
    chosen: dict[str, str] = {}
    while len(chosen) < count:
        word = rng.choice(WORDS)
        chosen.setdefault(word[0], word)
    words = list(chosen.values())
    rng.shuffle(words)
    return words
