"""Small handmade tables whose best paths are known."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from toolkit.core import tree
from toolkit.replay.table import TransitionTable


def make_table(
    quality: npt.NDArray[np.float64],
    hop_cost: npt.NDArray[np.float64],
    horizon: int,
    models: Sequence[str],
    vectors: npt.NDArray[np.float32] | None = None,
    benchmark: npt.NDArray[np.int64] | None = None,
    split: npt.NDArray[np.str_] | None = None,
    questions: tuple[str, ...] = (),
) -> TransitionTable:
    """Make a table in which every node of a row observes the row's own text.

    By default that is the row's one-hot vector, and all rows are training questions of one benchmark.
    """
    rows, n_decision_nodes = len(quality), sum(len(models) ** depth for depth in range(horizon))
    embeddings = np.eye(rows, dtype=np.float32) if vectors is None else vectors
    texts = np.zeros((rows, n_decision_nodes, 1), np.int32)
    texts[:, :, 0] = np.arange(1, rows + 1)[:, None]
    return TransitionTable(
        models=tuple(models),
        horizon=horizon,
        benchmarks=("toy",) if benchmark is None else tuple(f"toy{n}" for n in range(int(benchmark.max()) + 1)),
        benchmark=np.zeros(rows, np.int64) if benchmark is None else benchmark,
        split=np.array(["train"] * rows) if split is None else split,
        quality=quality,
        hop_cost=hop_cost,
        vectors=np.vstack([np.zeros((1, embeddings.shape[1]), np.float32), embeddings]),
        texts=texts,
        questions=questions,
    )


def with_missing(table: TransitionTable, seed: int, share: float = 0.5) -> TransitionTable:
    """Return a table in which a share of all complete paths are missing on each row, but not all of them.

    A node is available if a complete path that is not missing leads through it.
    """
    rng, models = np.random.default_rng(seed), table.n_models
    available = np.zeros(table.quality.shape, dtype=np.bool_)
    for row in range(len(available)):
        leaves = [leaf for leaf in table.leaves.tolist() if rng.random() >= share] or [int(rng.choice(table.leaves))]
        for leaf in leaves:
            path = tree.path_of(leaf, models)
            available[row, [tree.node_of(path[:depth], models) for depth in range(len(path) + 1)]] = True
    return replace(
        table,
        quality=np.where(available, table.quality, 0),
        hop_cost=np.where(available, table.hop_cost, 0),
        available=available,
    )


def known_table(rows: int = 12) -> TransitionTable:
    """Make a table in which a question's embedding determines one right model at each of two hops, each worth half a point."""
    rng = np.random.default_rng(0)
    quality = np.zeros((rows, tree.n_nodes(3, 2)))
    for row in range(rows):
        for first, second in product(range(3), repeat=2):
            quality[row, tree.node_of((first, second), 3)] = 0.5 * (first == row % 3) + 0.5 * (second == row // 3 % 3)
    cost = np.tile([0, 1, 2, 3, *[1, 2, 3] * 3], (rows, 1)).astype(float)
    vectors = rng.normal(size=(rows, 16)).astype(np.float32)
    return make_table(quality, cost, 2, ["cheap", "middle", "dear"], vectors)
