"""Tables in which one feature of a question or a response decides which path is right."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tests.toy import make_table
from toolkit.core import tree
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.baselines import Choice

Vectors = npt.NDArray[np.float32]


def splits(rows: int, train: float = 0.6, validation: float = 0.2) -> npt.NDArray[np.str_]:
    """Return the split of each row: training questions first, then validation, then test."""
    n_train, n_validation = round(train * rows), round(validation * rows)
    return np.array(["train"] * n_train + ["validation"] * n_validation + ["test"] * (rows - n_train - n_validation))


def random_table(
    rows: int = 120,
    n_models: int = 3,
    horizon: int = 2,
    train: float = 0.6,
    validation: float = 0.2,
    benchmarks: int = 2,
    texts: bool = True,
    seed: int = 0,
) -> TransitionTable:
    """Make a table of random qualities, costs, embeddings and words; every node observes a text of its own."""
    rng = np.random.default_rng(seed)
    shape = rows, tree.n_nodes(n_models, horizon)
    quality, cost = rng.random(shape).round(1), rng.random(shape)
    quality[:, 0] = cost[:, 0] = 0
    words = rng.choice(["sort", "count", "reverse", "add"], (rows, 3))
    return with_responses(
        make_table(
            quality,
            cost,
            horizon,
            [f"m{n}" for n in range(n_models)],
            benchmark=rng.integers(0, benchmarks, rows) if benchmarks > 1 else None,
            split=splits(rows, train, validation),
            vectors=rng.normal(size=(rows, 8)).astype(np.float32),
            questions=tuple(" ".join(row) for row in words) if texts else (),
        ),
        rng.normal(size=(rows, tree.n_decision_nodes(n_models, horizon), 8)).astype(np.float32),
    )


def path_table(
    right: Ints, vectors: Vectors | None = None, questions: Sequence[str] = (), horizon: int = 2, seed: int = 0
) -> TransitionTable:
    """Make a table of two models at equal costs, in which exactly one complete path is right on each question.

    Args:
        right: Position of the right path among the complete ones, `(rows,)`.
        vectors: The embedding of each question; by default random, so that nothing can be read from it.
        questions: The text of each question.
        horizon: Number of hops.
        seed: Seed of the embeddings.
    """
    rows, leaves = len(right), tree.level(2, horizon)
    quality, cost = np.zeros((2, rows, leaves.stop))
    quality[np.arange(rows), leaves.start + right] = 1
    cost[:, 1:] = 1
    if vectors is None:
        vectors = np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)
    return make_table(quality, cost, horizon, ["a", "b"], vectors, split=splits(rows), questions=tuple(questions))


def revealing_table(rows: int = 400, seed: int = 0) -> TransitionTable:
    """Make a table in which a cheap model fails at random, an expensive one never, and only responses show failures."""
    rng = np.random.default_rng(seed)
    correct = rng.random(rows) < 0.6
    quality, cost = np.zeros((2, rows, tree.n_nodes(2, 2)))
    cheap, expensive = 1, 2
    quality[:, cheap] = quality[:, tree.node_of((0, 0), 2)] = correct
    quality[:, [expensive, *(tree.node_of(path, 2) for path in ((0, 1), (1, 0), (1, 1)))]] = 1
    cost[:, [cheap, tree.node_of((0, 0), 2), tree.node_of((1, 0), 2)]] = 0.1
    cost[:, [expensive, tree.node_of((0, 1), 2), tree.node_of((1, 1), 2)]] = 1
    vectors = rng.normal(size=(rows, 4)).astype(np.float32)
    responses = 0.3 * rng.normal(size=(rows, 3, 4)).astype(np.float32)
    responses[:, cheap, 0] += np.where(correct, 2, -2)
    return with_responses(make_table(quality, cost, 2, ["cheap", "expensive"], vectors, split=splits(rows)), responses)


def with_responses(table: TransitionTable, responses: Vectors) -> TransitionTable:
    """Add the newest response to what each decision node observes, `(rows, D, dimensions)`; that of a root is ignored."""
    rows, nodes, dimensions = responses.shape
    texts = np.zeros((rows, nodes, 2), dtype=np.int32)
    texts[:, :, 0] = table.texts[:, :, 0]
    texts[:, 1:, 1] = len(table.vectors) + np.arange(rows * nodes).reshape(rows, nodes)[:, 1:]
    return replace(table, vectors=np.concatenate([table.vectors, responses.reshape(-1, dimensions)]), texts=texts)


def reward(table: TransitionTable, choice: Choice, alpha: float) -> float:
    """Return the mean reward on the test split, given the ends that are reached there."""
    rows, nodes = table.rows("test"), np.asarray(choice, dtype=np.int64)
    rewards: Floats = table.quality[rows, nodes] - alpha * table.cost[rows, nodes]
    return float(rewards.mean())
