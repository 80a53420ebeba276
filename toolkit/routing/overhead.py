"""What a router's own decisions take: seconds of its encoder and of its network, one decision at a time, as it works live."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolkit.core import tree
from toolkit.core.workspace import Workspace
from toolkit.generation.embedding import Encode, SuiteEncoder
from toolkit.replay.environments import Observer
from toolkit.replay.exact import ends
from toolkit.replay.table import Floats, TransitionTable
from toolkit.routing.router import Router
from toolkit.store import Cache, decision_texts
from toolkit.suites.suite import Split, Suite

SAMPLE = 32
"""Texts a hop that are embedded, and decision nodes a hop that are decided."""
REPEAT = 3


class Overhead(NamedTuple):
    """What one decision takes beside the answers of the models.

    Attributes:
        encoder: Seconds to embed the newest text.
        network: Seconds from what is observed to the action.
        rate: Price of such a second, in cost units.
    """

    encoder: float
    network: float
    rate: float = 0.0

    @property
    def question(self) -> float:
        """Cost of embedding a question once, in cost units: what routers pay that see nothing else."""
        return self.rate * self.encoder

    @property
    def decision(self) -> float:
        """Cost of one decision, in cost units."""
        return self.rate * (self.encoder + self.network)


def decisions(table: TransitionTable, shares: Floats) -> Floats:
    """Return how many decisions a policy is expected to make on each row, `(rows,)`, to stop being one of them.

    Args:
        table: The table, of which only the shape is used.
        shares: Probability of ending at each end, `(rows, ends)`.
    """
    depths = range(table.horizon + 1)
    made = np.repeat([min(depth + 1, table.horizon) for depth in depths], [table.n_models**depth for depth in depths])
    counted: Floats = shares @ made[ends(table, allow_stop=shares.shape[1] == len(made))]
    return counted


def measure(router: Router, suite: Suite, cache: Cache, table: TransitionTable, split: Split, encode: Encode) -> Overhead:
    """Time the encoder and the network on some decisions of a split, as many of each hop.

    Of each, the shortest of a few times counts: other work on the machine does not. Equal texts are embedded again.

    Args:
        router: The router.
        suite: The suite.
        cache: Its cache, for the texts.
        table: Its table.
        split: The split whose texts are used.
        encode: The suite's encoder.
    """
    rows = table.rows(split)
    texts = cache.arrow(
        f"WITH {decision_texts(suite)} SELECT text FROM decision_texts JOIN (SELECT unnest($rows::INTEGER[]) AS position)"
        " USING (position) JOIN suite_paths AS p ON p.suite = $suite AND p.number = decision_texts.number"
        " QUALIFY row_number() OVER (PARTITION BY p.depth ORDER BY key, position, decision_texts.number) <= $sample",
        {"suite": suite.key, "rows": rows.tolist(), "sample": SAMPLE},
    )["text"].to_pylist()
    place = np.random.default_rng(0)
    nodes = np.concatenate([place.integers(*_bounds(table, depth), SAMPLE) for depth in range(table.horizon)])
    seen = Observer(table, told=router.conditioned)(place.choice(rows, len(nodes)), nodes)
    network = _seconds(lambda one: router.algorithm.predict(one, deterministic=True), np.split(seen, len(seen)))
    return Overhead(_seconds(lambda text: encode([text]), texts), network)


def overhead_of(
    router: Router, suite: Suite, cache: Cache, table: TransitionTable, split: Split, rate: float = 0.0, again: bool = False
) -> Overhead | None:
    """Return what is kept with a router's run, measured now where it is asked for or charged and not there; else None.

    Raises:
        CheckpointError: The suite's encoder is needed and cannot be had.
    """
    run = router.card["run"]
    kept = cache.overhead(run)
    if again or (rate and kept is None):
        measured = measure(
            router, suite, cache, table, split, SuiteEncoder(suite, Workspace(Path.cwd(), cache.path.parent / "weights"))
        )
        kept = measured.encoder, measured.network
        cache.add_overhead(run, *kept)
    return Overhead(*kept, rate) if kept else None


def _bounds(table: TransitionTable, depth: int) -> tuple[int, int]:
    level = tree.level(table.n_models, depth)
    return level.start, level.stop


def _seconds(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Return the mean time of an item."""
    work(items[0])  # whatever is only loaded or compiled once
    took = np.empty((REPEAT, len(items)))
    for n in range(REPEAT):
        for place, item in enumerate(items):
            started = time.perf_counter()
            work(item)
            took[n, place] = time.perf_counter() - started
    return float(took.min(0).mean())
