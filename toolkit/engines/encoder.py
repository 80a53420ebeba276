"""Text encoders: sentence-transformers from any reference to weights, and how many texts are embedded."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from toolkit.core.errors import CheckpointError, PolicyError
from toolkit.core.progress import Progress
from toolkit.core.workspace import Workspace
from toolkit.suites.keys import encoder_identity
from toolkit.suites.models import Weights
from toolkit.suites.suite import Suite
from toolkit.suites.weights import fetch, unreadable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""From texts to embeddings, `(texts, dimensions)`."""

BATCH_TEXTS = 8
"""Texts of a batch on CPUs: few enough for the processor's cache."""
CALL_TEXTS = 64
"""Texts of one call of an encoder, at least, and the sample that says how long the others will take."""
CALL_SECONDS = 1.0
"""Time of a call of an encoder, about: short, so that progress is smooth and a stop is soon."""
PART_TEXTS = 2000
"""Texts that are embedded before they are committed."""
PART_SECONDS = 30.0
"""Seconds after which texts are committed, however few they are."""
ANNOUNCED_SECONDS = 10.0
"""Shortest time of an embedding that is announced."""


class SuiteEncoder:
    """The encoder of a suite, loaded when the first texts are embedded.

    Without an encoder, embeddings have no dimensions: `(texts, 0)`.
    """

    def __init__(self, suite: Suite, workspace: Workspace) -> None:
        self._config = suite.config
        self._identity = suite.encoder
        self._workspace = workspace
        self._encode: Encode | None = None

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts; returns `(texts, dimensions)`.

        Raises:
            CheckpointError: The encoder is not available, or cannot be read.
            PolicyError: The embeddings of the suite are vectors of the user's own, which no encoder here can make.
        """
        encoder = self._config.features.encoder
        if encoder.is_none:
            return np.zeros((len(texts), 0), dtype=np.float32)
        if encoder.is_own:
            raise PolicyError(
                f"The embeddings of suite {self._config.name} are vectors of your own ({encoder.checkpoint}), so the toolkit "
                "cannot embed other texts. Its routers can be evaluated on the cache; to route new questions, import the "
                "results with an encoder (toolkit import --encoder) and train again."
            )
        if self._encode is None:
            if (identity := encoder_identity(self._config, self._workspace)) != self._identity:
                raise CheckpointError(
                    f"The encoder {encoder.checkpoint} has changed since it embedded texts of suite {self._config.name}: it "
                    f"was {self._identity} and is {identity}, and embeddings of both do not mix. Put the former files back, or "
                    "name the encoder anew in the suite file and generate again; what is cached already takes no time."
                )
            self._encode = load_encoder(encoder, self._workspace, self._config.engine.device)
        return self._encode(texts)


def load_encoder(weights: Weights, workspace: Workspace, device: str = "auto") -> Encode:
    """Load an encoder.

    Args:
        weights: Reference to its weights.
        workspace: The suite file's folder, and the folder of downloads.
        device: Device, as under `[engine]` in the suite.

    Raises:
        CheckpointError: The encoder is not available, or cannot be read.
    """
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    path = fetch(weights, workspace)
    _check_modules(weights, path)
    try:
        model = SentenceTransformer(str(path), device=None if device == "auto" else device, trust_remote_code=False)
    except Exception as error:  # libraries raise errors of their own for files that are damaged or hold pickles
        raise unreadable(weights, error, "sentence-transformers") from None

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        encode_all = _encode_in_threads if model.device.type == "cpu" else _encode_batch
        return encode_all(model, texts)

    return encode


def _encode_batch(model: "SentenceTransformer", texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float32)


def _encode_in_threads(model: "SentenceTransformer", texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Embed texts, those of similar length together, one batch on each of torch's threads; returns `(texts, dimensions)`.

    By itself, torch shares every operation of one batch between its threads. Those of so small a network are too short for
    that: most of the time, the threads wait for each other.
    """
    import torch

    order = sorted(range(len(texts)), key=lambda n: len(texts[n]), reverse=True)
    batches = [order[start : start + BATCH_TEXTS] for start in range(0, len(order), BATCH_TEXTS)]
    threads = torch.get_num_threads()
    if threads == 1 or len(batches) < 2:
        parts = [_encode_batch(model, [texts[n] for n in batch]) for batch in batches]
    else:
        with ThreadPoolExecutor(min(threads, len(batches)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            parts = list(pool.map(lambda batch: _encode_batch(model, [texts[n] for n in batch]), batches))
        torch.set_num_threads(threads)  # a part of the setting holds for all threads of the process
    vectors = np.concatenate(parts)
    vectors[order] = vectors.copy()
    return vectors


def _check_modules(weights: Weights, path: Path) -> None:
    """Check that an encoder consists of the library's own modules; before version 6, the library imports any class by name.

    Raises:
        CheckpointError: A module is somebody else's.
    """
    try:
        modules = json.loads((path / "modules.json").read_text("utf-8"))
        foreign = [module["type"] for module in modules if not module["type"].startswith("sentence_transformers.")]
    except FileNotFoundError:  # a plain transformers checkpoint
        return
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise unreadable(weights, error, "sentence-transformers") from None
    if foreign:
        raise CheckpointError(
            f"The encoder {weights.checkpoint} consists of {foreign[0]!r}, which is not part of sentence-transformers, and the "
            "toolkit runs no code that comes with weights. Use another encoder (checkpoint under [features.encoder])."
        )


class EmbeddedPart(NamedTuple):
    """Some texts and their embeddings, `(texts, dimensions)`."""

    texts: list[str]
    vectors: npt.NDArray[np.float32]


def embed_parts(
    texts: Sequence[str],
    encode: Encode,
    progress: Progress,
    *,
    what: str = "texts",
    advice: str = "",
    advance: Callable[[int], None] = lambda n: None,
) -> Iterator[EmbeddedPart]:
    """Embed texts, those of similar length together, and yield them a part at a time, to be committed.

    The first texts are of all lengths, so that their time tells how long the rest will take. It ends early, with all that is
    embedded, once the progress says to stop.

    Args:
        texts: Distinct texts.
        encode: The encoder.
        progress: Is told of the stage and of the expected time, and may stop after any call of the encoder.
        what: What the texts are, e.g. `questions`.
        advice: Is added to the expected time.
        advance: Is called with the number of texts of every call of the encoder.

    Raises:
        CheckpointError: The encoder returns numbers that are not finite.
    """
    if not texts:
        return
    title = f"embedding {len(texts):,} {what}"
    progress.stage(title)
    ordered = _all_lengths_first(texts)
    part: list[str] = []
    vectors: list[npt.NDArray[np.float32]] = []
    n_done, n_next, part_started = 0, 1, time.monotonic()  # the first text alone: an encoder is loaded for it
    while n_done < len(ordered) and not progress.stopped():
        started, call = time.monotonic(), ordered[n_done : n_done + n_next]
        vectors.append(_checked(encode(call)))
        part += call
        n_done += len(call)
        advance(len(call))
        seconds = time.monotonic() - started
        if n_done == 1 + CALL_TEXTS:
            _announce(progress, title, seconds / CALL_TEXTS * (len(ordered) - n_done), advice)
        n_next = max(CALL_TEXTS, min(2 * n_next, PART_TEXTS) if seconds < CALL_SECONDS / 2 else n_next)
        if len(part) >= PART_TEXTS or time.monotonic() - part_started >= PART_SECONDS:
            yield EmbeddedPart(part, np.concatenate(vectors))
            part, vectors, part_started = [], [], time.monotonic()
    if part:
        yield EmbeddedPart(part, np.concatenate(vectors))


def _all_lengths_first(texts: Sequence[str]) -> list[str]:
    """Return texts in the order of embedding: some of all lengths, then the others, longest first."""
    ordered = sorted(texts, key=len, reverse=True)
    sample = dict.fromkeys(np.linspace(0, len(ordered) - 1, 1 + CALL_TEXTS).astype(np.int64).tolist())
    return [ordered[n] for n in sample] + [text for n, text in enumerate(ordered) if n not in sample]


def _announce(progress: Progress, title: str, seconds: float, advice: str) -> None:
    """Say how long the rest of an embedding will take, if it is long."""
    if seconds >= ANNOUNCED_SECONDS:
        time_left = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        progress.stage(f"{title}: about {time_left}{advice}")


def _checked(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise CheckpointError("The encoder returns vectors with numbers that are not finite. Use another encoder.")
    return vectors
