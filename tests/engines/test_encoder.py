"""Encoders: equal embeddings whatever the threads and the batches; texts in parts, with an estimate; suites without one."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests import scripted
from tests.scripted import resolve_config, suite_config
from toolkit.core.errors import CheckpointError, PolicyError
from toolkit.core.progress import NoProgress
from toolkit.core.workspace import Workspace
from toolkit.engines import encoder as module
from toolkit.engines.encoder import EmbeddedPart, SuiteEncoder, embed_parts, load_encoder
from toolkit.suites.models import Encoder


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def texts_of_all_lengths(n: int = 60) -> list[str]:
    texts = [f"{number} {'what is the sum of these ' * (number % 7)}" for number in range(n)]
    random.Random(0).shuffle(texts)
    return texts


@pytest.mark.parametrize("n_threads", [1, 3])
def test_threads_and_batches_do_not_change_embeddings_or_their_order(
    n_threads: int, encoder: Path, tmp_path: Path, threads: None
) -> None:
    from sentence_transformers import SentenceTransformer

    texts = texts_of_all_lengths()
    model = SentenceTransformer(str(encoder), device="cpu")
    alone = np.concatenate([model.encode([text], show_progress_bar=False) for text in texts])
    encode = load_encoder(Encoder(checkpoint=str(encoder)), Workspace(tmp_path, tmp_path), "cpu")
    torch.set_num_threads(n_threads)
    for repeat in range(3):
        vectors = encode(texts)
        assert vectors.shape == (60, 16), repeat
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, alone, atol=1e-6)
    assert torch.get_num_threads() == n_threads
    assert np.abs(alone - alone[0]).max(1)[1:].min() > 1e-3  # so that another order would be seen


class Clock(NoProgress):
    """An encoder that takes a second for ten characters of text, the clock that it moves, and the progress that it makes."""

    def __init__(self, stop_after: float = float("inf")) -> None:
        self.now, self.stop_after, self.stages, self.calls = 0.0, stop_after, list[str](), list[list[str]]()

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.now += sum(len(text) for text in texts) / 10
        self.calls.append(list(texts))
        return scripted.encode(texts)

    def stage(self, title: str) -> None:
        self.stages.append(title)

    def stopped(self) -> bool:
        return self.now >= self.stop_after


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


def embed(clock: Clock, texts: Sequence[str], **options: Any) -> list[EmbeddedPart]:
    return list(embed_parts(texts, clock, clock, **options))


def test_every_text_is_embedded_once_and_parts_are_of_limited_size_and_time(clock: Clock) -> None:
    texts = ["x" * (n % 50) + str(n) for n in range(1000)]
    done: list[int] = []
    parts = embed(clock, texts, advance=done.append)
    assert sorted(text for part in parts for text in part.texts) == sorted(texts)
    for part in parts:
        np.testing.assert_array_equal(part.vectors, scripted.encode(part.texts))
    assert done == [len(call) for call in clock.calls]
    assert sum(done) == 1000
    longest_call = max(sum(map(len, call)) / 10 for call in clock.calls)
    assert all(sum(map(len, part.texts)) / 10 <= module.PART_SECONDS + longest_call for part in parts)
    for call in clock.calls[2:-1]:  # after the sample, texts of similar length together
        assert max(map(len, call)) - min(map(len, call)) <= 10


def test_fast_encoders_get_more_texts_at_a_time_and_parts_have_a_limit(clock: Clock) -> None:
    texts = [str(n) for n in range(10_000)]
    clock.__class__ = type(
        "Fast", (Clock,), {"__call__": lambda self, texts: self.calls.append(texts) or scripted.encode(texts)}
    )
    parts = embed(clock, texts)
    assert [len(call) for call in clock.calls[:4]] == [1, 64, 128, 256]
    assert max(len(call) for call in clock.calls) == module.PART_TEXTS
    assert max(len(part.texts) for part in parts) < 2 * module.PART_TEXTS


def test_the_time_is_estimated_on_texts_of_all_lengths(clock: Clock) -> None:
    texts = ["x" * (10 + n % 100) + f"{n:05}" for n in range(3000)]
    embed(clock, texts, what="questions", advice="; --encoder none skips it")
    total = sum(map(len, texts)) / 10
    assert clock.stages[0] == "embedding 3,000 questions"
    title, _, advice = clock.stages[1].partition("; ")
    minutes = float(title.removeprefix("embedding 3,000 questions: about ").removesuffix(" min"))
    assert advice == "--encoder none skips it"
    assert minutes == pytest.approx(total / 60, rel=0.1)


def test_short_work_is_not_announced(clock: Clock) -> None:
    embed(clock, [str(n) for n in range(80)])
    assert clock.stages == ["embedding 80 texts"]
    assert embed(clock, []) == []
    assert len(clock.stages) == 1


def test_a_stop_keeps_what_is_embedded(clock: Clock) -> None:
    clock.stop_after = 40.0
    texts = [f"{n:010}" for n in range(1000)]
    parts = embed(clock, texts)
    assert sum(len(part.texts) for part in parts) == sum(map(len, clock.calls)) < 1000


def test_vectors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(CheckpointError, match="not finite"):
        list(embed_parts(["a"], lambda texts: np.full((1, 4), np.nan, np.float32), NoProgress()))


def test_without_an_encoder_embeddings_have_no_dimensions(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(features={"encoder": "none"}), tmp_path)
    assert SuiteEncoder(suite, Workspace(tmp_path, tmp_path))(["a", "b"]).shape == (2, 0)


def test_a_suite_with_vectors_of_the_users_own_cannot_embed(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(features={"encoder": "own@0123456789ab"}), tmp_path)
    with pytest.raises(PolicyError, match=r"vectors of your own \(own@0123456789ab\).*evaluated on the cache.*--encoder"):
        SuiteEncoder(suite, Workspace(tmp_path, tmp_path))(["a"])
