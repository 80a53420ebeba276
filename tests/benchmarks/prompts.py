"""Prompts to measure engines with: contexts of a suite's hops, rendered and ordered as `generate` does.

The quickstart's come from the shipped reference cache. For random weights, questions and responses are random words.
"""

import random
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid5

from transformers import AutoConfig

from benchmarks.reference import reference_folder
from tests.benchmarks.random_model import words
from tests.scripted import resolve_config, suite_config
from toolkit.core.workspace import Workspace
from toolkit.engines import Engine, Prompt
from toolkit.engines.tokenizer import ChatTokenizer
from toolkit.generation.batching import render_requests
from toolkit.store import Cache, Frontier, Parent
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.models import Example, ModelConfig
from toolkit.suites.resolving import resolve
from toolkit.suites.suite import Question, Suite
from toolkit.tasks import Reference

HOPS = (1, 2, 3)
EXAMPLES = 3
"""Few-shot examples of the prompts that are not part of a tree."""
UNSET = UUID(int=0)


Respond = Callable[[Question, tuple[int, ...]], str]
"""Returns the response at the end of a path, given the question."""


class Workload(NamedTuple):
    """Prompts that every engine responds to.

    Attributes:
        name: What they are.
        prompts: In the order in which `generate` hands them over.
        tokens: Tokens of each prompt.
    """

    name: str
    prompts: list[Prompt]
    tokens: list[list[int]]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(map(len, self.tokens))


class RandomSize(NamedTuple):
    """Size of a workload for a model with random weights.

    Attributes:
        prompts: Prompts of each hop, about.
        few_shot: Examples before each question.
        words: Shortest and longest question and example, in tokens.
        max_tokens: Longest response, in tokens.
        models: Models of the pool: the contexts of each question at hop 2.
    """

    prompts: int
    few_shot: int
    words: tuple[int, int]
    max_tokens: int
    models: int = 3


def workload(name: str, suite: Suite, config: ModelConfig, parents: Sequence[Parent], engine: Engine) -> Workload:
    """Render the prompts of the suite's first model at these parents."""
    requests = render_requests(suite, suite.models[0], config, parents, engine)
    prompts = [request.prompt for request in requests]
    chat: ChatTokenizer = getattr(engine, "chat")  # noqa: B009
    return Workload(name, prompts, [chat.encode(prompt.text) for prompt in prompts])


def reference_workloads(
    engine: Engine, config: ModelConfig, questions: Sequence[int], few_shot: int, folder: Path
) -> list[Workload]:
    """Return the quickstart's contexts of hops 1 to 3 in the reference cache, and prompts behind few-shot examples.

    Args:
        engine: Renders and counts for the suite's first model.
        config: The suite's first model.
        questions: Questions of each hop, evenly from all benchmarks.
        few_shot: Prompts behind few-shot examples.
        folder: A folder for the cache.
    """
    file = find_suite("quickstart")
    suite = resolve(load_config(file), Workspace(file.parent, folder))
    cache = Cache(folder / "reference.duckdb")
    cache.transfer.merge(reference_folder())
    frontier = Frontier(suite)
    frontier.add(cache.generations.tried(suite))
    by_benchmark: dict[str, list[Question]] = {}
    for question in suite.questions:
        by_benchmark.setdefault(question.benchmark, []).append(question)
    rounds = zip(*by_benchmark.values(), strict=False)
    ordered = [question for questions in rounds for question in questions]
    workloads = []
    for hop, number in zip(HOPS, questions, strict=True):
        keys = {question.key for question in ordered[:number]}
        trees = range(len(suite.questions) * suite.config.samples)
        parents = [parent for parent in frontier.parents(hop - 1, trees) if parent.question in keys]
        workloads.append(workload(f"hop {hop}", suite, config, parents, engine))
    examples = tuple(Example(user=question.prompt, assistant=question.reference.answers[0]) for question in ordered[-EXAMPLES:])
    shown = config.model_copy(update={"few_shot": examples})
    return [*workloads, workload("few-shot", suite, shown, tree_parents(ordered[:few_shot], 1, 1, lambda *_: ""), engine)]


def _parent(question: UUID, path: tuple[int, ...], responses: Sequence[str]) -> Parent:
    """Return a parent with keys that no cache has."""
    node = uuid5(question, str(path))
    keys = tuple(uuid5(UNSET, str(model)) for model in path)
    return Parent(node=node, root=question, question=question, sample=0, path=keys, responses=tuple(responses))


def tree_parents(questions: Sequence[Question], hop: int, models: int, respond: Respond) -> list[Parent]:
    """Return what the prompts of a hop start from, with responses that `respond` gives at the end of each path."""
    return [
        _parent(question.key, path, [respond(question, path[:length]) for length in range(1, hop)])
        for question in questions
        for path in product(range(models), repeat=hop - 1)
    ]


def random_workloads(engine: Engine, config: ModelConfig, size: RandomSize, folder: Path) -> list[Workload]:
    """Return contexts of hops 1 to 3 that consist of random words, with responses of various lengths."""
    vocabulary = len(getattr(engine, "tokenizer"))  # noqa: B009
    empty = resolve_config(
        suite_config(benchmarks=[{"name": "arithmetic", "limit": 1}], prompts={"protocol": "append-v1"}), folder
    )
    workloads = []
    for hop in HOPS:
        generator = random.Random(hop)
        lengths = [generator.randint(*size.words) for _ in range(-(-size.prompts // size.models ** (hop - 1)))]
        questions = tuple(_random_question(number, length, vocabulary) for number, length in enumerate(lengths))

        def respond(question: Question, path: tuple[int, ...]) -> str:
            length = random.Random(f"{question.item} {path}").randint(1, size.max_tokens)
            return words(length, vocabulary, f"{question.item} {path} {length}")

        parents = tree_parents(questions, hop, size.models, respond)
        suite = Suite(empty.config, empty.models, questions, empty.encoder)
        workloads.append(workload(f"hop {hop}", suite, config, parents, engine))
    return workloads


def _random_question(number: int, length: int, vocabulary: int) -> Question:
    return Question(
        key=uuid5(UNSET, f"question {number}"),
        benchmark="random",
        version="1",
        item=str(number),
        prompt=words(length, vocabulary, f"question {number}"),
        reference=Reference(answers=("",)),
        metric="exact_match@1",
        split="train",
    )


def random_model(folder: Path, size: RandomSize, dtype: str) -> ModelConfig:
    """Return the settings of a checkpoint of random weights, with few-shot examples of random words."""
    vocabulary = AutoConfig.from_pretrained(folder).vocab_size
    examples = [
        Example(
            user=words(size.words[1], vocabulary, f"user {number}"),
            assistant=words(size.words[0], vocabulary, f"assistant {number}"),
        )
        for number in range(size.few_shot)
    ]
    return ModelConfig.model_validate(
        {
            "name": "random",
            "checkpoint": str(folder),
            "dtype": dtype,
            "max_tokens": size.max_tokens,
            "few_shot": examples,
            "base_rate": 1.0,
        }
    )
