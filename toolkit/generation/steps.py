"""The steps of a run, each a hop and a model: opened one ahead, and rendered block by block, one block ahead of the engine.

A block is a fixed part of the suite's trees, so that neither the memory of a run nor the time until an engine's first batch
grows with the suite. Batches are cut from one block each.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Self
from uuid import UUID

from toolkit.core.background import in_background
from toolkit.engines import Engine
from toolkit.engines.guard import BatchRunner
from toolkit.generation.batching import Request, render_requests
from toolkit.store import Frontier
from toolkit.suites.models import ModelConfig
from toolkit.suites.suite import Model, Suite

BLOCK_PROMPTS = 2**14
"""Prompts of a block at most: many batches of any engine, and few enough for memory."""

Positions = Sequence[int]
"""Trees, by their rows in the replay table."""


class Step(NamedTuple):
    """All that one model generates at one hop."""

    depth: int
    model: Model
    config: ModelConfig


class Block(NamedTuple):
    """The requests of a part of the trees, done ones included, in their order; and the nodes that need no generation."""

    requests: list[Request]
    tried: set[UUID]


class OpenedStep(NamedTuple):
    """A step whose model is ready, and its blocks as far as they could be begun."""

    runner: BatchRunner
    blocks: Iterator[Block] | None


def block_trees(suite: Suite, depth: int) -> int:
    """Return the number of trees of a block at a hop: all samples of as many questions as fit."""
    prompts = max(count for (hop, _), count in suite.tree.count().items() if hop == depth)
    samples = suite.config.samples
    return max(1, BLOCK_PROMPTS // (prompts * samples)) * samples


def missing_blocks(suite: Suite, frontier: Frontier, step: Step, positions: Positions) -> list[Positions]:
    """Return the blocks of the given trees in which a step has something to generate."""
    size = block_trees(suite, step.depth)
    blocks = (positions[start : start + size] for start in range(0, len(positions), size))
    return [block for block in blocks if not frontier.is_done(step.depth, step.model.key, block)]


def render_blocks(suite: Suite, frontier: Frontier, step: Step, blocks: Sequence[Positions], engine: Engine) -> Iterator[Block]:
    """Render the prompts of blocks in another thread, and yield one block while the next is rendered; the first begins now."""

    def render(trees: Positions) -> Future[Block]:
        def block() -> Block:
            parents = [
                parent for parent in frontier.parents(step.depth - 1, trees) if suite.has_path((*parent.path, step.model.key))
            ]
            requests = render_requests(suite, step.model, step.config, parents, engine)
            return Block(requests, frontier.tried(step.depth, trees))

        return in_background(block)

    def rendered(block: Future[Block]) -> Iterator[Block]:
        for trees in blocks[1:]:
            present = block.result()
            block = render(trees)
            yield present
        yield block.result()

    return rendered(render(blocks[0])) if blocks else iter(())


class StepAhead:
    """A step that is opened in another thread while the last block of the one before is generated; at most one at a time."""

    def __init__(self) -> None:
        self._opening: tuple[Step, Future[OpenedStep]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def begin(self, step: Step, open_step: Callable[[], OpenedStep]) -> None:
        """Begin to open a step."""
        self.discard()
        self._opening = step, in_background(open_step)

    def take(self, step: Step) -> OpenedStep | None:
        """Return a step if it was begun; any other is closed.

        Raises:
            ToolkitError: It cannot be opened.
        """
        if self._opening and self._opening[0] == step:
            opening, self._opening = self._opening[1], None
            return opening.result()
        self.discard()
        return None

    def discard(self) -> None:
        """Wait for what was begun, since libraries do not load two models at once, and close it."""
        if self._opening:
            opening, self._opening = self._opening[1], None
            if not opening.exception():
                opening.result().runner.close()
