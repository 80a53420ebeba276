"""Reads embeddings that a user brings along (`--embeddings FILE`), and checks that every text of the results has one.

They take the place of an encoder's. What identifies them is a hash of the texts and the vectors that are used, so that the kind
of the file, the order of its rows, and vectors of other texts do not matter.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from toolkit.core.errors import BenchmarkError
from toolkit.core.hashing import text_key
from toolkit.core.text import printable
from toolkit.outcomes.reading import read_objects
from toolkit.suites.models import Encoder
from toolkit.tasks.values import text_of

if TYPE_CHECKING:
    import pyarrow as pa

Vectors = npt.NDArray[np.float32]

JSON_KINDS, ARROW_KINDS, ARRAY = (
    (".jsonl", ".ndjson", ".json"),
    {".parquet": "parquet", ".feather": "ipc", ".arrow": "ipc"},
    ".npy",
)
LAYOUT = (
    "A file of vectors is Parquet, Feather or JSON lines with a column embedding (a list of numbers) and either a column text "
    "or the columns benchmark and item; or an array .npy with a row for each question, in the order of the results"
)
BATCH_ROWS = 2048
"""Rows of Parquet or Feather that are read together."""
TOLERANCE = 1e-2
"""Largest difference of a number in two vectors of one text, relative to their length; services are not exact."""
MAX_LISTED = 3
"""Texts without a vector that a message lists."""
MAX_SHOWN = 60
"""Characters of a text that a message shows."""
HASH_DIGITS = 12

Item = tuple[str, str]
"""Benchmark and item of a question."""


@dataclass(frozen=True)
class OwnVectors:
    """Embeddings of a user's own, which are called like an encoder.

    Attributes:
        texts: The distinct texts.
        vectors: Their embeddings, `(texts, dimensions)`.
    """

    texts: tuple[str, ...]
    vectors: Vectors

    @cached_property
    def encoder(self) -> Encoder:
        """What `[features] encoder` of a suite with these embeddings is: `own@HASH`."""
        rows = {text_key(text).bytes: row for row, text in enumerate(self.texts)}
        digest = hashlib.sha256()
        for key in sorted(rows):
            digest.update(key + self.vectors[rows[key]].astype("<f4").tobytes())
        return Encoder(checkpoint=f"own@{digest.hexdigest()[:HASH_DIGITS]}")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.texts)}

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return the embeddings of some of the texts, `(texts, dimensions)`."""
        return self.vectors[[self._rows[text] for text in texts]]


class _Part(NamedTuple):
    """Some rows of a file: their places, the texts or the questions that they name, and their vectors, `(rows, dimensions)`."""

    places: Sequence[str]
    texts: Sequence[str | None]
    items: Sequence[Item | None]
    vectors: Vectors


def read_vectors(path: Path, questions: Mapping[Item, str], texts: Sequence[str]) -> OwnVectors:
    """Read the embeddings of texts from a file; of rows with the same text, the first counts, and blank texts may have none.

    Args:
        path: The file. Its rows name texts, or questions by benchmark and item; those of other texts are left out.
        questions: The text of each question of the results, in their order.
        texts: The distinct texts that need an embedding: questions, and responses before the last hop.

    Raises:
        BenchmarkError: The file cannot be read, a vector is malformed, or a text has none; says where, or how many.
    """
    if not path.is_file():
        raise BenchmarkError(f"There is no file of vectors {path}. Check the path.")
    row_of, vectors = {text: row for row, text in enumerate(texts)}, np.zeros((0, 0), np.float32)
    has_vector = np.zeros(len(texts), dtype=np.bool_)
    for part in _parts(path, questions):
        _check(path, part, vectors)
        if not vectors.size:
            vectors = np.zeros((len(texts), part.vectors.shape[1]), np.float32)
        for place, text, item, vector in zip(*part, strict=True):
            text = questions.get(item) if item else text
            row = None if text is None else row_of.get(text)
            if row is not None and has_vector[row]:
                _check_same(f"{path}, {place}", texts[row], vectors[row], vector)
            elif row is not None:
                vectors[row], has_vector[row] = vector, True
    missing = [text for text, has in zip(texts, has_vector, strict=True) if not has and text.strip()]
    if missing or not vectors.size:
        raise _missing(path, questions, missing or texts, len(texts))
    return OwnVectors(tuple(texts), vectors)


def _parts(path: Path, questions: Mapping[Item, str]) -> Iterator[_Part]:
    kind = path.suffix.lower()
    if kind == ARRAY:
        yield _read_array(path, questions)
    elif kind in ARROW_KINDS:
        yield from _read_arrow(path, ARROW_KINDS[kind])
    elif any(suffix.lower() in JSON_KINDS for suffix in path.suffixes[-2:]):
        yield from _read_json(path)
    else:
        raise BenchmarkError(f"{path} is of an unknown kind. {LAYOUT}.")


def _read_array(path: Path, questions: Mapping[Item, str]) -> _Part:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BenchmarkError(f"{path} cannot be read: {error}. Write it with numpy.save, as an array of numbers.") from None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise BenchmarkError(
            f"{path} is an array of {array.dtype} of shape {array.shape}, and should be (questions, dimensions)."
        )
    if len(array) != len(questions):
        raise BenchmarkError(
            f"{path} has {len(array)} rows, and the results have {len(questions)} questions. A row of the array is the vector "
            "of the question at the same place in the results; else name the texts, in a Parquet file with text and embedding."
        )
    places = [f"row {number}" for number in range(1, 1 + len(array))]
    return _Part(places, list(questions.values()), [None] * len(array), _as_float32(array))


def _read_arrow(path: Path, format: str) -> Iterator[_Part]:
    import pyarrow as pa
    from pyarrow import dataset

    done = 0
    try:
        source = dataset.dataset(path, format=format)
        columns = _key_columns(path, source.schema.names)
        for batch in source.to_batches(columns=[*columns, "embedding"], batch_size=BATCH_ROWS):
            places = [f"row {number}" for number in range(done + 1, done + 1 + len(batch))]
            done += len(batch)
            keys = [batch[column].to_pylist() for column in columns]
            rows = (dict(zip(columns, values, strict=True)) for values in zip(*keys, strict=True))
            names = [_named(path, place, row) for place, row in zip(places, rows, strict=True)]
            if places:
                vectors = _list_vectors(path, places, batch["embedding"])
                yield _Part(places, [text for text, _ in names], [item for _, item in names], vectors)
    except (pa.ArrowException, OSError) as error:
        raise BenchmarkError(f"{path} cannot be read: {str(error).splitlines()[0]}. Write or download it again.") from None


def _read_json(path: Path) -> Iterator[_Part]:
    for place, row in read_objects(path):
        _key_columns(path, row, place)
        text, item = _named(path, place, row)
        try:
            vectors = np.array([row["embedding"]], dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            vectors = np.empty(0)
        if vectors.ndim != 2:
            raise BenchmarkError(f"{path}, {place}: its embedding is not a list of numbers.")
        yield _Part([place], [text], [item], _as_float32(vectors))


def _key_columns(path: Path, columns: Sequence[str] | Mapping[str, Any], place: str = "") -> list[str]:
    """Return the columns that name a text, of those that there are."""
    known = [column for column in ("text", "benchmark", "item") if column in columns]
    if "embedding" not in columns or ("text" not in known and len(known) < 2):
        where = f"{path}, {place}" if place else str(path)
        raise BenchmarkError(f"{where} has the columns {', '.join(map(printable, columns)) or 'none'}. {LAYOUT}.")
    return known


def _named(path: Path, place: str, row: Mapping[str, Any]) -> tuple[str | None, Item | None]:
    """Return the text, or else the question, that a row names."""
    try:
        if row.get("text") is not None:
            return text_of(row["text"]), None
        return None, (text_of(row.get("benchmark")), text_of(row.get("item")))
    except ValueError as error:
        raise BenchmarkError(f"{path}, {place}: the text or question that it names {error}.") from None


def _list_vectors(path: Path, places: Sequence[str], column: "pa.Array") -> Vectors:
    """Return a column of lists of numbers as a matrix, `(rows, dimensions)`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise BenchmarkError(f"{path}: the column embedding is of type {kind}, and should be a list of numbers.")
    values, lengths = column.flatten(), pc.list_value_length(column).to_numpy(zero_copy_only=False)
    number = kind.value_type
    if not (pa.types.is_floating(number) or pa.types.is_integer(number)) or column.null_count or values.null_count:
        row = next((n for n, value in enumerate(column.to_pylist()) if value is None or None in value), 0)
        raise BenchmarkError(f"{path}, {places[row]}: its embedding is not a list of numbers.")
    if (odd := np.flatnonzero(lengths != lengths[0])).size:
        raise BenchmarkError(
            f"{path}, {places[odd[0]]}: its vector has {lengths[odd[0]]:.0f} numbers, and those above have {lengths[0]:.0f}."
        )
    return _as_float32(values.to_numpy(zero_copy_only=False).reshape(len(column), -1))


def _as_float32(array: npt.NDArray[Any]) -> Vectors:
    with np.errstate(over="ignore"):  # too large a number becomes infinite, which is refused
        return array.astype(np.float32)


def _check(path: Path, part: _Part, earlier: Vectors) -> None:
    """Check that vectors are finite, and as long as those of earlier parts.

    Raises:
        BenchmarkError: One is not.
    """
    size = part.vectors.shape[1]
    if not size or (earlier.size and size != earlier.shape[1]):
        above = f", and those above have {earlier.shape[1]}" if earlier.size else ""
        raise BenchmarkError(f"{path}, {part.places[0]}: its vector has {size} numbers{above}.")
    if (bad := np.flatnonzero(~np.isfinite(part.vectors).all(1))).size:
        raise BenchmarkError(f"{path}, {part.places[bad[0]]}: its vector has a number that is not finite in 32 bits.")


def _check_same(place: str, text: str, vector: Vectors, other: Vectors) -> None:
    if np.abs(vector - other).max() > TOLERANCE * np.linalg.norm(vector):
        raise BenchmarkError(
            f"{place}: an earlier row has another vector for the same text, {shown(text)}. A text has one "
            "embedding; remove one of the rows."
        )


def _missing(path: Path, questions: Mapping[Item, str], missing: Sequence[str], total: int) -> BenchmarkError:
    item_of = {text: item for item, text in questions.items()}
    named = [f"question {' / '.join(item_of[text])}" if text in item_of else f"response {shown(text)}" for text in missing]
    named.sort(key=lambda name: name.startswith("response"))
    n_responses = sum(text not in item_of for text in missing)
    counts = [
        f"{count} {what}" for count, what in ((len(missing) - n_responses, "questions"), (n_responses, "responses")) if count
    ]
    hint = " Responses before the last hop are observed too; name them in the column text." if n_responses else ""
    return BenchmarkError(
        f"{path} has no vector for {' and '.join(counts)} of {total} texts, e.g. {printable('; '.join(named[:MAX_LISTED]))}. "
        f"The file needs one for every text of the suite.{hint}"
    )


def shown(text: str) -> str:
    """Return the beginning of a text, as a message shows it."""
    return printable(repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."))
