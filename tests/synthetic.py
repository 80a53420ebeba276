"""Synthetic tables with something to learn: models that are good at some topics, and responses that hint at their quality."""

import numpy as np
import numpy.typing as npt

from toolkit.core import tree
from toolkit.replay.table import TransitionTable


def synthetic_table(
    rows: int = 2000,
    n_models: int = 3,
    horizon: int = 3,
    dimensions: int = 384,
    seed: int = 0,
    noise: float = 1.0,
    topics: int = 8,
) -> TransitionTable:
    """Make a table of 70% training, 10% validation and 20% test questions.

    Each model has a skill for each topic, and a question's embedding is a noisy version of its topic's. A later hop keeps most
    correct responses, and corrects a wrong one with its skill as probability. The embedding of a response is shifted a little
    in one direction if it is correct, and in the opposite one if not.
    """
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, topics, rows)
    skill = rng.uniform(0.05, 0.9, (n_models, topics))
    centres = rng.normal(size=(topics, dimensions))
    direction = rng.normal(size=dimensions)
    n_nodes, n_decision_nodes = tree.n_nodes(n_models, horizon), tree.n_decision_nodes(n_models, horizon)
    correct = np.zeros((rows, n_nodes), dtype=bool)
    cost = np.zeros((rows, n_nodes))
    price = np.linspace(0.3, 1.0, n_models)
    length = rng.lognormal(0, 0.3, rows)
    for node in range(1, n_nodes):
        parent, action = (node - 1) // n_models, (node - 1) % n_models
        corrects = rng.random(rows) < skill[action, topic]
        correct[:, node] = np.where(correct[:, parent], rng.random(rows) < 0.85, corrects)
        cost[:, node] = price[action] * length * (1 + 0.2 * len(tree.path_of(node, n_models)))
    questions = centres[topic] + noise * rng.normal(size=(rows, dimensions)) * np.sqrt(dimensions / 32)
    side = np.where(correct[:, 1:n_decision_nodes, None], 1, -1)
    responses = 0.6 * side * direction + 2.0 * rng.normal(size=(rows, n_decision_nodes - 1, dimensions))
    vectors = np.concatenate([np.zeros((1, dimensions)), _unit(questions), _unit(responses.reshape(-1, dimensions))])
    texts = np.zeros((rows, n_decision_nodes, 2), np.int32)
    texts[:, :, 0] = np.arange(1, rows + 1)[:, None]
    texts[:, 1:, 1] = rows + 1 + np.arange(rows * (n_decision_nodes - 1)).reshape(rows, -1)
    split = np.array(["train"] * rows, dtype="<U10")
    split[int(0.7 * rows) : int(0.8 * rows)] = "validation"
    split[int(0.8 * rows) :] = "test"
    return TransitionTable(
        models=tuple("abcdefgh"[:n_models]),
        horizon=horizon,
        benchmarks=("first", "second"),
        benchmark=(topic % 2).astype(np.int64),
        split=split,
        quality=correct.astype(float),
        hop_cost=cost,
        vectors=vectors.astype(np.float32),
        texts=texts,
    )


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit: npt.NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
