"""A suite as resolved: every model and every question with its key.

A suite is resolved from its file and the benchmarks' data once (`toolkit.suites.resolving`), recorded in the cache, and read
back from there: replay needs neither checkpoints nor data sets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Literal
from uuid import UUID

from toolkit.core.hashing import key
from toolkit.suites.config import SuiteConfig
from toolkit.suites.keys import root_key
from toolkit.suites.tree import PathTree
from toolkit.tasks import Reference

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Model:
    """A model of the pool.

    Attributes:
        key: Hash of `identity`.
        name: Its name in this suite.
        identity: Everything that changes its responses.
        rate_in: Price of a prompt token, in cost units before normalisation.
        rate_out: Price of a completion token.
    """

    key: UUID
    name: str
    identity: dict[str, Any]
    rate_in: float
    rate_out: float


@dataclass(frozen=True)
class Question:
    """One question of a suite.

    Attributes:
        key: Hash of everything below down to `reference`.
        benchmark: Name of the benchmark.
        version: Version of the benchmark.
        item: Id within the benchmark.
        prompt: The benchmark's prompt.
        reference: What responses are compared with.
        metric: Label of the metric that is the quality, e.g. `token_f1@1`.
        split: The split that it belongs to.
    """

    key: UUID
    benchmark: str
    version: str
    item: str
    prompt: str
    reference: Reference
    metric: str
    split: Split


@dataclass(frozen=True)
class Suite:
    """A suite as resolved and as recorded in a cache.

    Attributes:
        config: The suite file as loaded, defaults included.
        models: The pool, in order; a model's position is a router's action.
        questions: All questions, in the order of the suite's benchmarks.
        encoder: Name of the encoder and a hash of its weights.
    """

    config: SuiteConfig
    models: tuple[Model, ...]
    questions: tuple[Question, ...]
    encoder: str

    @property
    def name(self) -> str:
        """The suite's name; several recorded suites may share one, of which the newest is current."""
        return self.config.name

    @property
    def horizon(self) -> int:
        """Number of hops L."""
        return self.config.horizon

    @cached_property
    def key(self) -> UUID:
        """Hash of everything that the recorded rows depend on; a complete tree adds nothing to it."""
        numbers = self.tree.numbers
        return key(
            "suite",
            self.name,
            self.horizon,
            self.config.samples,
            self.config.prompts.model_dump(),
            self.config.features.text,
            self.encoder,
            [[str(model.key), model.name, model.rate_in, model.rate_out] for model in self.models],
            [[str(question.key), question.metric, question.split] for question in self.questions],
            *([] if numbers is None else [list(numbers)]),
        )

    @cached_property
    def tree(self) -> PathTree:
        """The nodes of every question's tree."""
        return self.config.path_tree()

    def paths(self) -> Iterator[tuple[int, tuple[Model, ...]]]:
        """Yield the number of every node that exists and the models along the path to it, in the order of the numbers."""
        return ((number, tuple(self.models[position] for position in path)) for number, path in self.tree.paths())

    @cached_property
    def _positions(self) -> dict[UUID, int]:
        return {model.key: position for position, model in enumerate(self.models)}

    def has_path(self, path: Sequence[UUID]) -> bool:
        """Return whether the tree has a path, given the keys of its models."""
        return self.tree.numbers is None or self.tree.has(tuple(self._positions[model] for model in path))

    @cached_property
    def _roots(self) -> tuple[UUID, ...]:
        samples = range(self.config.samples)
        return tuple(root_key(question.key, self.config, sample) for question in self.questions for sample in samples)

    def trees(self) -> Iterator[tuple[Question, int, UUID]]:
        """Yield question, sample and root key of every tree of the suite, in the order of the replay table."""
        trees = product(self.questions, range(self.config.samples))
        return ((question, sample, root) for (question, sample), root in zip(trees, self._roots, strict=True))

    def root(self, question: int, sample: int) -> UUID:
        """Return the key of the root of a tree.

        Args:
            question: Position of its question in `questions`.
            sample: Number of the sample, from 0.
        """
        return self._roots[question * self.config.samples + sample]
