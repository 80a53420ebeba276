"""Generated tables with something to learn: models that know some topics, answers that tell a little about their quality."""

import numpy as np

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

    A question's embedding is noisy about its topic; each model has a skill for each topic. A later hop mostly keeps a
    right answer, and mends a wrong one with the chance of its own skill. An answer's embedding leans a little to one side where
    it is right.
    """
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, topics, rows)
    skill = rng.uniform(0.05, 0.9, (n_models, topics))
    centres = rng.normal(size=(topics, dimensions))
    direction = rng.normal(size=dimensions)
    nodes, decision = tree.n_nodes(n_models, horizon), tree.n_decision_nodes(n_models, horizon)
    right = np.zeros((rows, nodes), dtype=bool)
    cost = np.zeros((rows, nodes))
    price = np.linspace(0.3, 1.0, n_models)
    length = rng.lognormal(0, 0.3, rows)
    for node in range(1, nodes):
        parent, action = (node - 1) // n_models, (node - 1) % n_models
        able = rng.random(rows) < skill[action, topic]
        right[:, node] = np.where(right[:, parent], rng.random(rows) < 0.85, able)
        cost[:, node] = price[action] * length * (1 + 0.2 * len(tree.path_of(node, n_models)))
    question = centres[topic] + noise * rng.normal(size=(rows, dimensions)) * np.sqrt(dimensions / 32)
    answers = 0.6 * np.where(right[:, 1:decision, None], 1, -1) * direction + 2.0 * rng.normal(
        size=(rows, decision - 1, dimensions)
    )
    vectors = np.concatenate([np.zeros((1, dimensions)), _unit(question), _unit(answers.reshape(-1, dimensions))])
    texts = np.zeros((rows, decision, 2), np.int32)
    texts[:, :, 0] = np.arange(1, rows + 1)[:, None]
    texts[:, 1:, 1] = rows + 1 + np.arange(rows * (decision - 1)).reshape(rows, -1)
    split = np.array(["train"] * rows, dtype="<U10")
    split[int(0.7 * rows) : int(0.8 * rows)] = "validation"
    split[int(0.8 * rows) :] = "test"
    return TransitionTable(
        tuple("abcdefgh"[:n_models]),
        horizon,
        ("first", "second"),
        (topic % 2).astype(np.int64),
        split,
        right.astype(float),
        cost,
        vectors.astype(np.float32),
        texts,
    )


def _unit(vectors: "np.ndarray[tuple[int, int], np.dtype[np.float64]]") -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    unit: np.ndarray[tuple[int, int], np.dtype[np.float64]] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
