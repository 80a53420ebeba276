"""The state of a generate run: what it knows of the cache, and how it commits, also while others hold the file.

Knows nothing of engines or of the order of work.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from toolkit.core.errors import CacheBusyError
from toolkit.core.progress import Progress
from toolkit.engines import Failure
from toolkit.engines.guard import TokenBudget
from toolkit.generation.budget import Spending, Spent
from toolkit.store import Batch, Cache, Frontier
from toolkit.suites.suite import Question, Suite

MAX_WAIT_SECONDS = 5.0
"""Longest time that a finished batch waits for others who hold the cache file before it is spooled."""
MAX_WAIT_SECONDS_BLOCKED = 0.2
"""The same while the previous batch could not be committed either."""


@dataclass
class GenerationReport:
    """What one run of `generate` did.

    Attributes:
        generated: Generations, failed ones included.
        shared: Nodes that share the generation of another node.
        failures: How often each failure happened.
        filtered: Generations that a content filter withheld and that count as quality 0.
        prompt_tokens: Prompt tokens of the new responses.
        cached_tokens: Those among them that the engine had read before, in another prompt; None if it does not say.
        seconds: Duration of the run.
        stopped: Whether the run was stopped from outside.
        spent: Time, tokens and money spent.
        exhausted: Whether the run ended because its budget was exhausted.
        is_current: Whether the suite has become the current one of its name: a response has come, or none was missing.
    """

    generated: int = 0
    shared: int = 0
    failures: Counter[Failure] = field(default_factory=Counter)
    filtered: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    seconds: float = 0.0
    stopped: bool = False
    spent: Spent = field(default_factory=lambda: Spent(seconds=0.0, tokens=0, usd=0.0))
    exhausted: bool = False
    is_current: bool = False

    @property
    def failed(self) -> int:
        """Number of failed generations."""
        return self.failures.total()

    @property
    def transient(self) -> int:
        """Number of failed generations that the next run tries again; the others only with `--retry`."""
        return sum(count for failure, count in self.failures.items() if failure.transient)

    def add_prompt(self, tokens: int, cached: int | None) -> None:
        """Add the prompt of a new response; some servers leave out a count of 0."""
        self.prompt_tokens += tokens
        if cached is not None:
            self.cached_tokens = (self.cached_tokens or 0) + cached


class Shard(NamedTuple):
    """Part `number` (from 1) of `parts`: the questions whose key selects it, with their whole trees."""

    number: int
    parts: int

    def contains(self, question: UUID) -> bool:
        """Return whether a question is in this part."""
        return question.int % self.parts == self.number - 1


@dataclass
class GenerationState:
    """What a run knows; enough to continue while others hold the file.

    Attributes:
        suite: The suite.
        cache: The cache.
        progress: Is told of the progress, and may stop the run.
        shard: The part of the questions that this run generates.
        spending: What the run has spent of its budget.
        token_budget: Tokens of a batch; shared by all models.
        frontier: The nodes that need no generation, or that the next hop starts from.
        spooled: Responses of this run that the file does not hold yet, by generation.
        known: Responses to requests of the present block that are cached, by generation.
        works: Whether a response has come, or none was missing, so that the suite may become current.
        report: What the run has done so far.
    """

    suite: Suite
    cache: Cache
    progress: Progress
    shard: Shard
    spending: Spending
    token_budget: TokenBudget
    frontier: Frontier
    spooled: dict[UUID, str] = field(default_factory=dict)
    known: dict[UUID, str] = field(default_factory=dict)
    works: bool = False
    report: GenerationReport = field(default_factory=GenerationReport)

    @cached_property
    def questions(self) -> dict[UUID, Question]:
        """The suite's questions, by key."""
        return {question.key: question for question in self.suite.questions}

    @cached_property
    def positions(self) -> dict[UUID, int]:
        """The row of each tree in the replay table, by its root."""
        return {root: position for position, (_, _, root) in enumerate(self.suite.trees())}

    def should_stop(self) -> bool:
        """Decide whether no further batch may begin, and remember it if the budget is the reason."""
        self.report.exhausted = self.report.exhausted or self.spending.is_exhausted
        return self.progress.stopped() or self.report.exhausted

    @property
    def patience(self) -> float:
        """Longest time to wait for the file in the middle of the work, in seconds."""
        return MAX_WAIT_SECONDS_BLOCKED if self.cache.generations.is_blocked else min(MAX_WAIT_SECONDS, self.cache.wait)

    def tried_nodes(self) -> set[UUID]:
        """Return all nodes that need no generation."""
        positions = range(len(self.positions))
        return set().union(*(self.frontier.tried(depth, positions) for depth in range(1, self.suite.horizon + 1)))

    def look_up(self, generations: Sequence[UUID]) -> None:
        """Read which generations of a block are cached by now; does nothing while others hold the file."""
        with suppress(CacheBusyError):
            self.known = self.cache.generations.responses(generations, self.patience)

    def cached_responses(self, generations: Sequence[UUID], block: Sequence[UUID]) -> dict[UUID, str]:
        """Return the responses to those of the generations that are cached or spooled by now.

        The file is only read if others have written to it since the last time.

        Args:
            generations: The generations.
            block: All generations of the block, which are looked up together.
        """
        if self.cache.generations.changed_by_others():
            self.look_up(block)
        responses = {generation: self.known[generation] for generation in generations if generation in self.known}
        return responses | {generation: self.spooled[generation] for generation in generations if generation in self.spooled}

    def commit(self, batch: Batch, *, works: bool = False) -> None:
        """Keep a batch: commit it, or spool it until the next commit.

        Args:
            batch: The batch.
            works: Whether it has a response.
        """
        is_committed = self.cache.generations.commit_or_spool(batch, self.patience)
        self.works = self.works or works
        if is_committed:
            self.spooled.clear()
            with suppress(CacheBusyError):  # the next commit tries again, or the end of the run
                self.record_if_works(self.patience)
        else:
            self.spooled |= {row["generation"]: row["response"] for row in batch.generations if row["response"] is not None}

    def flush(self) -> None:
        """Commit what is spooled.

        Raises:
            CacheBusyError: Others hold the file; the batches stay spooled.
        """
        self.cache.generations.drain()
        self.spooled.clear()
        self.record_if_works()

    def record_if_works(self, wait: float | None = None) -> None:
        """Make the suite the current one of its name once it works.

        Raises:
            CacheBusyError: Others hold the file for longer than `wait` seconds.
        """
        if self.works and not self.report.is_current:
            self.cache.suites.record(self.suite, wait)
            self.report.is_current = True

    def finish(self) -> GenerationReport:
        """Complete the report of the run and return it."""
        self.report.stopped = self.progress.stopped()
        self.report.spent = self.spending.spent
        self.report.seconds = self.spending.seconds
        return self.report
