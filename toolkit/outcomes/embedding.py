"""Embeds the texts of an import: each once, committed as it goes, so that a stopped import continues where it was."""

from collections.abc import Sequence

from toolkit.core.errors import BenchmarkError
from toolkit.core.progress import Progress
from toolkit.engines.encoder import Encode, embed_parts
from toolkit.outcomes.vectors import OwnVectors, shown
from toolkit.store import Cache
from toolkit.suites.models import NO_ENCODER
from toolkit.suites.suite import Suite


def without_vector(cache: Cache, suite: Suite, texts: Sequence[str]) -> Sequence[str]:
    """Return those of distinct texts that a suite's encoder has yet to embed; none if it has no encoder."""
    if suite.encoder == NO_ENCODER:
        return []
    return cache.embeddings.without_vector(suite.encoder, texts) if cache.exists() else texts


def embed_missing(cache: Cache, suite: Suite, texts: Sequence[str], encode: Encode, progress: Progress) -> int:
    """Embed the texts that have no embedding in the cache yet, and commit them, some thousand at a time.

    Args:
        cache: The cache; it is created if there is a text to embed and no file.
        suite: The suite, recorded or not.
        texts: Distinct texts that its decision nodes observe.
        encode: The suite's encoder.
        progress: Is told of stages and of every text that is embedded, and may stop the work.

    Returns:
        How many texts have been embedded; none if the suite has no encoder.

    Raises:
        BenchmarkError: The embeddings of the suite are vectors of the user's own, and `encode` does not have them.
        KeyboardInterrupt: The progress says to stop; what is embedded is committed.
    """
    missing = without_vector(cache, suite, texts)
    if not missing:
        return 0
    if suite.config.features.encoder.is_own and not isinstance(encode, OwnVectors):
        raise BenchmarkError(
            f"{len(missing)} texts of suite {suite.name} have no vector in {cache.path}, and its vectors are your own, e.g. "
            f"{shown(missing[0])}. Name a file that has a vector for every text of the suite: --embeddings FILE"
        )
    cache.create()
    what = "questions" if suite.horizon == 1 else "texts"
    advice = "; --encoder none skips it"
    for part in embed_parts(missing, encode, progress, what=what, advice=advice, advance=progress.advance):
        cache.embeddings.add(suite.encoder, *part)
    if progress.stopped():
        raise KeyboardInterrupt
    return len(missing)
