"""Checks of a cache that need a checkpoint: token counts by the tokenizers, a sample of embeddings by the encoder.

Reads only, like `toolkit.generation.verify`, which needs nothing but the file.
"""

from collections.abc import Sequence
from uuid import UUID

import numpy as np

from toolkit.core.errors import CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.engines import OpenEngine, open_engine
from toolkit.generation.embedding import Encode, SuiteEncoder
from toolkit.generation.verify import READ_ROWS, Finding
from toolkit.store import Cache, decision_texts
from toolkit.suites.suite import Suite, encoder_identity, resolve_models

SAMPLE = 256
"""Embeddings that are computed again."""
TOLERANCE = 1e-3
"""Largest difference of a number of a vector from the cached one, in units of that vector's length.

Another batch, device or number of threads adds up in another order, which moves a number by some 1e-7."""


def check_tokens(suite: Suite, cache: Cache, workspace: Workspace, engine: OpenEngine = open_engine) -> Finding:
    """Count the tokens of every prompt and response of a suite's models again.

    Raises:
        CheckpointError: The checkpoints at hand are not those that generated the cache, or cannot be had.
    """
    rows, wrong = 0, []
    for model, config in zip(same_models(suite, workspace), suite.config.models, strict=True):
        if config.is_served:  # only its server can count
            continue
        opened = engine(suite.config.engine, config, workspace)
        query = (
            "SELECT generation, prompt, response, prompt_tokens, completion_tokens FROM generations"
            " WHERE model = ? AND status = 'ok'"
        )
        for part in cache.arrow(query, [model]).to_batches(READ_ROWS):
            for row in part.to_pylist():
                rows += 1
                counted = opened.count(row["prompt"]), opened.count(row["response"])
                if counted != (row["prompt_tokens"], row["completion_tokens"]):
                    wrong.append(row["generation"])
        opened.close()
    check = f"token counts of suite {suite.name} are those of its tokenizers"
    return Finding(check, rows, len(wrong), wrong[0] if wrong else None)


def check_embeddings(suite: Suite, cache: Cache, workspace: Workspace, seed: int = 0, encode: Encode | None = None) -> Finding:
    """Embed a seeded sample of a suite's texts again and compare with the cached vectors.

    Raises:
        CheckpointError: The encoder at hand is not the one of the cache, or cannot be had.
    """
    if encoder_identity(suite.config, workspace) != suite.encoder:
        raise CheckpointError(f"The encoder of suite {suite.name} is not the one that embedded its texts, {suite.encoder}.")
    rows = cache.arrow(
        f"WITH {decision_texts(suite)}, texts AS (SELECT DISTINCT text FROM decision_texts)"
        " SELECT e.text AS key, texts.text, e.vector FROM texts"
        " JOIN embeddings AS e ON e.encoder = $encoder AND e.text = left(sha256(texts.text), 32)::UUID"
        " ORDER BY sha256($seed || texts.text) LIMIT $limit",
        {"suite": suite.key, "encoder": suite.encoder, "seed": str(seed), "limit": SAMPLE},
    ).to_pylist()
    check = f"embeddings of suite {suite.name} are those of its encoder (a sample)"
    if not rows:
        return Finding(check, 0, 0, None)
    again = (encode or SuiteEncoder(suite, workspace))([row["text"] for row in rows])
    cached = np.array([row["vector"] for row in rows], dtype=np.float32)
    length = np.linalg.norm(again, axis=1).clip(min=1e-9)
    wrong = np.flatnonzero(np.abs(again - cached).max(axis=1) > TOLERANCE * length)
    return Finding(check, len(rows), len(wrong), rows[wrong[0]]["key"] if len(wrong) else None)


def same_models(suite: Suite, workspace: Workspace) -> Sequence[UUID]:
    """Return the keys of a suite's models, after making sure that the suite still refers to what generated its answers.

    Raises:
        CheckpointError: A local checkpoint or adapter has changed.
    """
    for known, today in zip(suite.models, resolve_models(suite.config, workspace), strict=True):
        if known.key != today.key:
            raise CheckpointError(
                f"What model {known.name!r} of suite {suite.name} refers to has changed since it generated. "
                "Put the checkpoint and adapter back that were there, or generate anew."
            )
    return [model.key for model in suite.models]
