"""Vectors of a user's own: every kind of file gives the same, and what is missing or malformed is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.scripted import resolve_config, suite_config
from toolkit.core.errors import BenchmarkError, SuiteError
from toolkit.core.progress import NoProgress
from toolkit.core.workspace import Workspace
from toolkit.engines.encoder import SuiteEncoder
from toolkit.generation.generate import generate
from toolkit.outcomes.embedding import embed_missing
from toolkit.outcomes.vectors import Vectors, read_vectors
from toolkit.store import Cache

QUESTIONS = {("b", "1"): "What is 1?", ("b", "2"): "What is 2?", ("c", "1"): "Who?"}
TEXTS = [*QUESTIONS.values(), "a response", "another"]
Rows = list[dict[str, Any]]


def vector(text: str) -> list[float]:
    return [float(len(text)), float(sum(map(ord, text)) % 97) / 97, -1.5]


def by_text(texts: list[str]) -> Rows:
    return [{"text": text, "embedding": vector(text)} for text in texts]


def by_item() -> Rows:
    """Name questions by benchmark and item, and responses by their text."""
    rows: Rows = [
        {"text": None, "benchmark": benchmark, "item": item, "embedding": vector(text)}
        for (benchmark, item), text in QUESTIONS.items()
    ]
    return rows + [{"text": text, "benchmark": None, "item": None, "embedding": vector(text)} for text in TEXTS[3:]]


def write(folder: Path, rows: Rows, kind: str) -> Path:
    path = folder / f"vectors.{kind}"
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if kind == "parquet":
        frame.write_parquet(path)
    elif kind in ("feather", "arrow"):
        frame.write_ipc(path)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def expected(texts: list[str]) -> Vectors:
    """Return the vectors of texts as 32-bit numbers, `(texts, 3)`."""
    return np.array([vector(text) for text in texts], np.float32)


@pytest.mark.parametrize(
    "rows", [by_text(TEXTS), by_text(["unused", *reversed(TEXTS)]), by_item()], ids=["text", "more", "item"]
)
@pytest.mark.parametrize("kind", ["parquet", "feather", "arrow", "jsonl", "ndjson", "json"])
def test_every_kind_of_file_gives_the_same_vectors_and_the_same_identity(kind: str, rows: Rows, tmp_path: Path) -> None:
    own = read_vectors(write(tmp_path, rows, kind), QUESTIONS, TEXTS)
    np.testing.assert_array_equal(own(TEXTS), expected(TEXTS))
    np.testing.assert_array_equal(own(["another", "Who?"]), expected(["another", "Who?"]))
    assert (
        own.encoder.checkpoint == read_vectors(write(tmp_path, by_text(TEXTS), "parquet"), QUESTIONS, TEXTS).encoder.checkpoint
    )
    assert own.encoder.is_own


def test_the_identity_is_that_of_texts_and_vectors(tmp_path: Path) -> None:
    rows = by_text(TEXTS)
    identities = {read_vectors(write(tmp_path, rows, "parquet"), QUESTIONS, TEXTS).encoder.checkpoint}
    identities.add(read_vectors(write(tmp_path, rows, "parquet"), QUESTIONS, TEXTS[:-1]).encoder.checkpoint)
    rows[1]["embedding"] = [3.0, 2.0, 1.0]
    identities.add(read_vectors(write(tmp_path, rows, "parquet"), QUESTIONS, TEXTS).encoder.checkpoint)
    assert len(identities) == 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_array_has_the_order_of_the_questions(dtype: type, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3, dtype=dtype))
    own = read_vectors(tmp_path / "v.npy", QUESTIONS, TEXTS[:3])
    np.testing.assert_array_equal(own(TEXTS[:3]), np.eye(3, dtype=np.float32))


def test_blank_texts_need_no_vector_and_have_zeros(tmp_path: Path) -> None:
    own = read_vectors(write(tmp_path, by_text(TEXTS), "jsonl"), QUESTIONS, [*TEXTS, ""])
    np.testing.assert_array_equal(own(["", "Who?"]), [[0, 0, 0], *expected(["Who?"])])


def test_large_files_are_read_in_parts(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(5000)]
    own = read_vectors(write(tmp_path, by_text(texts), "parquet"), {}, texts)
    np.testing.assert_array_equal(own(texts), expected(texts))


def change(rows: Rows, n: int, **values: Any) -> Rows:
    return [row | values if number == n else row for number, row in enumerate(rows)]


MALFORMED: dict[str, tuple[Rows, str]] = {
    "infinite": (
        change(by_text(TEXTS), 1, embedding=[1.0, float("inf"), 0.0]),
        "row 2: its vector has a number that is not fin",
    ),
    "not a number": (change(by_text(TEXTS), 1, embedding=[1.0, float("nan"), 0.0]), "row 2: its vector has a number"),
    "too large": (change(by_text(TEXTS), 1, embedding=[1.0, 1e300, 0.0]), "row 2: .* not finite in 32 bits"),
    "shorter": (change(by_text(TEXTS), 2, embedding=[1.0, 2.0]), "row 3: its vector has 2 numbers, and those above have 3"),
    "empty": ([row | {"embedding": []} for row in by_text(TEXTS)], "row 1: its vector has 0 numbers|not a list of numbers"),
    "null": (change(by_text(TEXTS), 2, embedding=None), "row 3: its embedding is not a list of numbers"),
    "null within": (change(by_text(TEXTS), 2, embedding=[1.0, None, 2.0]), "row 3: .* (not a list of numbers|not finite)"),
    "text": ([row | {"embedding": "1,2,3"} for row in by_text(TEXTS)], "embedding is (of type|not a list)"),
    "number": ([row | {"embedding": 3.0} for row in by_text(TEXTS)], "embedding is (of type|not a list)"),
    "no embedding": ([{"text": text, "vector": [1.0]} for text in TEXTS], "has the columns text, vector.*column embedding"),
    "no text": ([{"question": text, "embedding": [1.0]} for text in TEXTS], "has the columns question, embedding.*column text"),
    "no item": ([{"benchmark": "b", "embedding": [1.0]}], "has the columns benchmark, embedding"),
    "no name": (change(by_text(TEXTS), 1, text=None), "row 2: the text or question that it names is null"),
    "twice": (
        by_text(TEXTS) + change(by_text(TEXTS[:1]), 0, embedding=[9.0, 9.0, 9.0]),
        "row 6: an earlier row has another vec",
    ),
    "lacking questions": (by_text(TEXTS[2:]), "no vector for 2 questions of 5 texts, e.g. question b / 1; question b / 2"),
    "lacking responses": (by_text(TEXTS[:3]), "no vector for 2 responses of 5 texts, e.g. response 'a response'.*column text"),
    "others": (by_text(["x"]), "no vector for 3 questions and 2 responses of 5 texts"),
}


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_malformed_or_missing_is_named(what: str, kind: str, tmp_path: Path) -> None:
    rows, message = MALFORMED[what]
    with pytest.raises(BenchmarkError, match=rf"vectors\.{kind}.*({message})"):
        read_vectors(write(tmp_path, rows, kind), QUESTIONS, TEXTS)


def test_equal_texts_may_differ_by_noise(tmp_path: Path) -> None:
    rows = by_text(TEXTS) + change(by_text(TEXTS[:1]), 0, embedding=[number + 1e-4 for number in vector(TEXTS[0])])
    np.testing.assert_array_equal(read_vectors(write(tmp_path, rows, "parquet"), QUESTIONS, TEXTS)(TEXTS), expected(TEXTS))


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}, 2, 3], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda path: np.save(path, np.eye(4)), "has 4 rows, and the results have 3 questions"),
        (lambda path: np.save(path, np.zeros(3)), r"of shape \(3,\), and should be \(questions, dimensions\)"),
        (lambda path: np.save(path, np.array([["a"], ["b"], ["c"]])), "array of <U1"),
        (pickled, "cannot be read"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
        (lambda path: np.save(path, np.eye(3)), "no vector for 2 responses of 5 texts"),
    ],
)
def test_a_wrong_array_is_refused(save: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    save(tmp_path / "v.npy")
    with pytest.raises(BenchmarkError, match=message):
        read_vectors(tmp_path / "v.npy", QUESTIONS, TEXTS)


@pytest.mark.parametrize("name", ["v.parquet", "v.feather", "v.txt", "v.csv"])
def test_a_file_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("text,embedding\n")
    with pytest.raises(BenchmarkError, match=r"cannot be read|unknown kind\. A file of vectors is Parquet"):
        read_vectors(tmp_path / name, QUESTIONS, TEXTS)
    with pytest.raises(BenchmarkError, match="There is no file of vectors"):
        read_vectors(tmp_path / "none.parquet", QUESTIONS, TEXTS)


def test_own_vectors_are_cached_as_those_of_an_encoder(tmp_path: Path) -> None:
    own = read_vectors(write(tmp_path, by_text(TEXTS), "parquet"), QUESTIONS, TEXTS)
    suite = resolve_config(suite_config(features={"encoder": own.encoder.checkpoint}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    assert embed_missing(cache, suite, TEXTS, own, NoProgress()) == len(TEXTS)
    rows = cache.arrow("SELECT encoder, vector FROM embeddings ORDER BY vector").to_pylist()
    assert {row["encoder"] for row in rows} == {own.encoder.checkpoint}
    np.testing.assert_array_equal([row["vector"] for row in rows], sorted(expected(TEXTS).tolist()))


def test_texts_that_the_vectors_of_a_suite_lack_need_another_file(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(features={"encoder": "own@0123456789ab"}), tmp_path)
    with pytest.raises(BenchmarkError, match=r"5 texts of suite scripted have no vector.*'What is 1\?'.*--embeddings FILE"):
        embed_missing(
            Cache(tmp_path / "c.duckdb"), suite, TEXTS, SuiteEncoder(suite, Workspace(tmp_path, tmp_path)), NoProgress()
        )
    assert not (tmp_path / "c.duckdb").exists()


def test_new_responses_cannot_have_vectors_of_ones_own(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(features={"encoder": "own@0123456789ab"}), tmp_path)
    with pytest.raises(SuiteError, match=r"own \(own@0123456789ab\), which new responses cannot have"):
        generate(suite, Cache(tmp_path / "c.duckdb"), Workspace(tmp_path, tmp_path))
    assert not (tmp_path / "c.duckdb").exists()
