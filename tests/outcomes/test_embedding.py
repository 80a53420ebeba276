"""Texts of an import are embedded once, committed as they go; what a stopped import leaves is no harm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.scripted import encode, resolve_config, suite_config
from toolkit.core.errors import CacheError
from toolkit.core.progress import NoProgress
from toolkit.engines import encoder as engines_encoder
from toolkit.generation.verify import verify
from toolkit.outcomes.embedding import embed_missing
from toolkit.store import Cache
from toolkit.suites.suite import Suite

TEXTS = [f"text {n} {'x' * (n % 40)}" for n in range(500)]


class Stopping(NoProgress):
    """Counts texts, and stops after some of them."""

    def __init__(self, limit: int = 10**9) -> None:
        self.limit, self.done, self.stages = limit, 0, list[str]()

    def stage(self, title: str) -> None:
        self.stages.append(title)

    def advance(self, done: int) -> None:
        self.done += done

    def stopped(self) -> bool:
        return self.done >= self.limit


class Counting:
    """An encoder that knows which texts it has embedded."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.texts += texts
        return encode(texts)


def cached(cache: Cache) -> dict[str, list[float]]:
    rows = cache.arrow("SELECT text::VARCHAR AS text, encoder, vector FROM embeddings").to_pylist()
    assert len(rows) == len({(row["text"], row["encoder"]) for row in rows})
    return {row["text"]: row["vector"] for row in rows}


def test_a_stopped_import_resumes_and_embeds_nothing_twice(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_encoder, "PART_TEXTS", 100)
    cache, counting = Cache(tmp_path / "c.duckdb"), Counting()
    with pytest.raises(KeyboardInterrupt):
        embed_missing(cache, suite, TEXTS, counting, Stopping(150))
    n_first = len(counting.texts)
    assert 150 <= n_first == len(cached(cache)) < 500
    progress = Stopping()
    assert embed_missing(cache, suite, TEXTS, counting, progress) == 500 - n_first == progress.done
    assert sorted(counting.texts) == sorted(TEXTS)
    assert embed_missing(cache, suite, TEXTS, counting, progress) == 0
    assert len(counting.texts) == 500
    keys = cache.arrow("SELECT left(sha256(t), 32)::UUID::VARCHAR AS key, t FROM (SELECT unnest($t) AS t)", {"t": TEXTS})
    vectors = cached(cache)
    for row in keys.to_pylist():
        np.testing.assert_array_equal(np.array(vectors[row["key"]], np.float32), encode([row["t"]])[0])


def test_an_error_of_the_encoder_loses_only_the_part_in_flight(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_encoder, "PART_TEXTS", 64)
    cache, counting = Cache(tmp_path / "c.duckdb"), Counting()

    def failing(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if len(counting.texts) > 300:
            raise RuntimeError("out of memory")
        return counting(texts)

    with pytest.raises(RuntimeError):
        embed_missing(cache, suite, TEXTS, failing, NoProgress())
    assert 300 - 64 <= len(cached(cache)) <= len(counting.texts)


def test_the_first_of_a_suite_of_one_hop_are_called_questions(tmp_path: Path) -> None:
    suite, progress = resolve_config(suite_config(horizon=1), tmp_path), Stopping()
    embed_missing(Cache(tmp_path / "c.duckdb"), suite, TEXTS, encode, progress)
    assert progress.stages == ["embedding 500 questions"]


def test_without_an_encoder_nothing_is_embedded_and_no_file_is_made(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(features={"encoder": "none"}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    assert embed_missing(cache, suite, TEXTS, Counting(), NoProgress()) == 0
    assert not cache.exists()


def test_a_cache_with_embeddings_alone_confuses_nobody(suite: Suite, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.duckdb")
    embed_missing(cache, suite, TEXTS[:10], encode, NoProgress())
    assert cache.suites.get(suite.name) is None
    assert cache.suites.names() == []
    assert all(finding.wrong == 0 for finding in verify(cache))
    unused = {entry.table: entry.unused for entry in cache.housekeeping.unused()}
    assert unused["embeddings"] == 10
    cache.housekeeping.prune()
    assert cached(cache) == {}


def test_leftovers_beside_a_suite_are_no_violation(cache: Cache, suite: Suite) -> None:
    embed_missing(cache, suite, TEXTS[:10], encode, NoProgress())
    assert all(finding.wrong == 0 for finding in verify(cache))


def test_a_cache_that_others_hold_is_an_error_that_says_so(suite: Suite, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.duckdb", wait=0.1)
    cache.create()
    with cache.hold(), pytest.raises(CacheError):
        embed_missing(Cache(cache.path, wait=0.1), suite, TEXTS[:3], encode, NoProgress())
