"""The overhead of a router's decisions: seconds of its encoder and of its network, one decision at a time, as in live use."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from toolkit.core import tree
from toolkit.core.workspace import Workspace
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.replay.exact import ends
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.store import Cache
from toolkit.suites.suite import Split, Suite

if TYPE_CHECKING:
    from toolkit.routing.router import Router

SAMPLES_PER_HOP = 32
"""Texts that are embedded, and nodes that are decided, for each hop."""
REPEATS = 3
"""Measurements of each, of which the shortest counts."""


class Overhead(NamedTuple):
    """The cost of one decision, without the models' responses.

    Attributes:
        encoder: Seconds to embed the newest text.
        network: Seconds from the observation to the action.
        rate: Price of a second, in cost units.
    """

    encoder: float
    network: float
    rate: float = 0.0

    @property
    def question(self) -> float:
        """Cost of embedding a question once, in cost units: the overhead of a router that sees nothing else."""
        return self.rate * self.encoder

    @property
    def decision(self) -> float:
        """Cost of one decision, in cost units."""
        return self.rate * (self.encoder + self.network)


def decisions(table: TransitionTable, shares: Floats) -> Floats:
    """Return the expected number of a policy's decisions on each row, `(rows,)`; stopping is one of them.

    Args:
        table: The table, of which only the shape is used.
        shares: Probability of ending at each end, `(rows, ends)`.
    """
    counts = decisions_to(table)
    expected: Floats = shares @ counts[ends(table, allow_stop=shares.shape[1] == len(counts))]
    return expected


def decisions_to(table: TransitionTable) -> Ints:
    """Return the number of decisions of an episode that ends at each node, `(N,)`."""
    depths = range(table.horizon + 1)
    return np.repeat([min(depth + 1, table.horizon) for depth in depths], [table.n_models**depth for depth in depths])


def measure(router: "Router", suite: Suite, cache: Cache, table: TransitionTable, split: Split, encode: Encode) -> Overhead:
    """Time the encoder and the network on a sample of decisions, equally many at each hop.

    The shortest of a few measurements counts, so that other work on the machine does not.

    Args:
        router: The router.
        suite: The suite.
        cache: Its cache, for the texts.
        table: Its table.
        split: The split whose texts are used.
        encode: The suite's encoder.
    """
    rows, rng = table.rows(split), np.random.default_rng(0)
    texts = cache.embeddings.texts_by_hop(suite, rows.tolist(), SAMPLES_PER_HOP)
    levels = [tree.level(table.n_models, depth) for depth in range(table.horizon)]
    nodes = np.concatenate([rng.integers(level.start, level.stop, SAMPLES_PER_HOP) for level in levels])
    observations = router.observer(table)(rng.choice(rows, len(nodes)), nodes)
    return Overhead(
        encoder=_mean_seconds(lambda text: encode([text]), texts),
        network=_mean_seconds(
            lambda observation: router.algorithm.predict(observation, deterministic=True),
            np.split(observations, len(observations)),
        ),
    )


def overhead_of(
    router: "Router", suite: Suite, cache: Cache, table: TransitionTable, split: Split, rate: float = 0.0, again: bool = False
) -> Overhead | None:
    """Return the overhead recorded with a router's run; None if it was not measured and is not needed.

    Args:
        router: The router.
        suite: The suite.
        cache: Its cache.
        table: Its table.
        split: The split whose texts are used to measure it.
        rate: Price of a second, in cost units. If it is not 0, the overhead is measured unless it is recorded.
        again: Whether to measure it in any case.

    Raises:
        CheckpointError: The suite's encoder is needed and is not available.
    """
    run = router.card["run"]
    seconds = cache.runs.overhead(run)
    if again or (rate and seconds is None):
        encode = SuiteEncoder(suite, Workspace.beside(cache.path))
        measured = measure(router, suite, cache, table, split, encode)
        seconds = measured.encoder, measured.network
        cache.runs.add_overhead(run, *seconds)
    return Overhead(*seconds, rate) if seconds else None


def _mean_seconds(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Return the mean time of an item."""
    work(items[0])  # loads and compiles what is loaded and compiled once
    seconds = np.empty((REPEATS, len(items)))
    for repeat in range(REPEATS):
        for n, item in enumerate(items):
            started = time.perf_counter()
            work(item)
            seconds[repeat, n] = time.perf_counter() - started
    return float(seconds.min(0).mean())
