"""Verifies a cache against the checkpoints: token counts by the tokenizers, a sample of embeddings by the encoder.

Reads only, like `toolkit.generation.verify`, which needs nothing but the file.
"""

from contextlib import closing

import numpy as np

from toolkit.core.errors import CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.engines import OpenEngine, open_engine
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.generation.verify import Finding, count_violations
from toolkit.store import Cache
from toolkit.suites.keys import encoder_identity
from toolkit.suites.resolving import resolve_models
from toolkit.suites.suite import Suite

MAX_EMBEDDINGS = 256
"""Size of the sample of embeddings that are computed again."""
EMBEDDING_TOLERANCE = 1e-3
"""Largest difference of an element from the cached vector, relative to the vector's length.

Another batch size, device or number of threads adds up in another order, which changes an element by about 1e-7."""


def verify_tokens(suite: Suite, cache: Cache, workspace: Workspace, engine: OpenEngine = open_engine) -> Finding:
    """Count the tokens of every prompt and response of a suite's models again; served models are left out.

    Raises:
        CheckpointError: The checkpoints are not those that generated the cache, or are not available.
    """
    verify_checkpoints(suite, workspace)
    rows = []
    for model, config in zip(suite.models, suite.config.models, strict=True):
        if config.is_served:  # only its server can count
            continue
        with closing(engine(suite.config.engine, config, workspace)) as opened:
            for generation in cache.generations.of_model(model.key):
                counts = opened.count(generation.prompt), opened.count(generation.response)
                is_right = counts == (generation.prompt_tokens, generation.completion_tokens)
                rows.append((str(generation.generation), is_right))
    return count_violations(f"token counts of suite {suite.name} are those of its tokenizers", rows)


def verify_embeddings(suite: Suite, cache: Cache, workspace: Workspace, seed: int = 0, encode: Encode | None = None) -> Finding:
    """Embed a seeded sample of a suite's texts again and compare with the cached vectors, if it has an encoder.

    Raises:
        CheckpointError: The encoder is not the one that embedded the texts, or is not available.
    """
    if encoder_identity(suite.config, workspace) != suite.encoder:
        raise CheckpointError(
            f"The encoder of suite {suite.name} has changed: it is not {suite.encoder}, which embedded the texts of the cache. "
            "Restore that encoder's files."
        )
    check = f"embeddings of suite {suite.name} are those of its encoder (a sample)"
    has_encoder = suite.config.features.encoder.has_weights
    sample = cache.embeddings.sample(suite, seed, MAX_EMBEDDINGS) if has_encoder else []
    if not sample:
        return Finding(check=check, rows=0, wrong=0, example=None)
    vectors = (encode or SuiteEncoder(suite, workspace))([embedding.text for embedding in sample])
    cached = np.array([embedding.vector for embedding in sample], dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1).clip(min=1e-9)
    is_right = np.abs(vectors - cached).max(axis=1) <= EMBEDDING_TOLERANCE * lengths
    keys = (embedding.key for embedding in sample)
    return count_violations(check, zip(keys, is_right.tolist(), strict=True))


def verify_checkpoints(suite: Suite, workspace: Workspace) -> None:
    """Check that a suite still refers to the weights that generated its responses.

    Raises:
        CheckpointError: A local checkpoint or adapter has changed.
    """
    for recorded, current in zip(suite.models, resolve_models(suite.config, workspace), strict=True):
        if recorded.key != current.key:
            raise CheckpointError(
                f"The checkpoint or adapter of model {recorded.name!r} of suite {suite.name} has changed since the cache was "
                "generated. Restore the previous files, or generate with the new ones."
            )
