"""Reads files of any known kind as plain values with their places. Knows kinds of files, and nothing of columns.

Nothing is inferred from how a value looks: a CSV field is text, and an empty one without quotation marks is missing. Files are
read in parts, so that a table may be larger than the memory; only a JSON document is read whole.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from toolkit.core.errors import BenchmarkError
from toolkit.core.text import printable, separator_hint
from toolkit.outcomes.arrow_rows import arrow_columns, arrow_rows
from toolkit.outcomes.csv_records import csv_records
from toolkit.outcomes.rows import CHUNK_ROWS, MAGIC, Rows, check_magic, check_repeated, chunks
from toolkit.tasks.formats import first_repeated

JSON_LINES, JSON_DOCUMENT, CSV = (".jsonl", ".ndjson"), (".json",), (".csv",)
TEXT_KINDS = (*CSV, *JSON_LINES, *JSON_DOCUMENT)
ARROW_KINDS = (".parquet", ".feather", ".arrow")
COMPRESSIONS: Mapping[str, str] = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
KINDS = (*TEXT_KINDS, *ARROW_KINDS)
"""Endings of the names of files that can be read; those of text also with an ending of `COMPRESSIONS` behind."""

_COMPRESSED_MAGIC = {b"\x1f\x8b": (".gz",), b"\x28\xb5\x2f\xfd": (".zst", ".zstd")}
_MAX_DIGITS = 4000
"""Integers of more digits are read as infinite: Python refuses to convert them."""
_SPACED_COLON = re.compile(r'"\s+:')
_READING_ERRORS = (OSError, EOFError, zlib.error)


def is_table(path: Path) -> bool:
    """Return whether a path has the name of a file that can be read."""
    return kind_of(path) is not None


def kind_of(path: Path) -> str | None:
    """Return the ending that says what a file is, without that of its compression; None for an unknown one."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    is_compressed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    kinds = TEXT_KINDS if is_compressed else KINDS
    return next(
        (kind for kind in suffixes[-2:-1] if kind in kinds) if is_compressed else (k for k in suffixes[-1:] if k in kinds), None
    )


def read_rows(path: Path, columns: Container[object] | None = None) -> Iterator[Rows]:
    """Read a table in parts.

    Args:
        path: The file; its ending says what it is.
        columns: The columns whose values are needed; those of others may be left out. None for all.

    Raises:
        BenchmarkError: The file cannot be read, is not what its name says, or has a malformed row.
    """
    kind = _known_kind(path)
    try:
        if kind in ARROW_KINDS:
            yield from arrow_rows(path, columns)
        elif kind in CSV:
            yield from _csv_rows(path)
        else:
            yield from _json_rows(path)
    except _READING_ERRORS as error:
        raise BenchmarkError(f"{path} cannot be read: {_reason(error)}. Is it complete? Write or download it again.") from None


def read_placed(path: Path, columns: Container[object]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place of each row of a table, and its values of some columns.

    Raises:
        BenchmarkError: The file cannot be read, is not what its name says, has a malformed row, or none.
    """
    is_empty = True
    for rows in read_rows(path, columns):
        names = [name for name in rows.columns if name in columns]
        for number, place in enumerate(rows.places):
            is_empty = False
            yield place, {name: rows.columns[name][number] for name in names}
    if is_empty:
        raise BenchmarkError(f"{path} has no rows.")


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and object of every line of JSON lines, or of every element of a JSON list.

    Raises:
        BenchmarkError: The file cannot be read, or a row is no JSON object.
    """
    for places, rows in _json_parts(path):
        yield from zip(places, rows, strict=True)


def read_document(path: Path) -> Any:
    """Return the value of a whole JSON document.

    Raises:
        BenchmarkError: The file cannot be read, or is not JSON.
    """
    try:
        with _open(path) as file:
            return parse_json(f"{path}", _decode(path, file.read()))
    except _READING_ERRORS as error:
        raise BenchmarkError(f"{path} cannot be read: {_reason(error)}. Is it complete? Write or download it again.") from None


def column_names(path: Path) -> tuple[str, ...]:
    """Return the columns of a table: header, schema, or the keys of the first object; none if it cannot be read."""
    try:
        kind = kind_of(path)
        if kind in ARROW_KINDS:
            return arrow_columns(path)
        if kind in CSV:
            return tuple(name or "" for name in next(csv_records(path, _lines(path)))[1])
    except (BenchmarkError, StopIteration, *_READING_ERRORS):
        return ()
    return tuple(first_object(path))


def first_object(path: Path) -> Mapping[str, Any]:
    """Return the first JSON object of JSON lines or of a list, or a document that is an object; empty if there is none."""
    try:
        state = path.stat()
    except OSError:
        return {}
    return _first_object(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _first_object(path: Path, modified: int, size: int) -> Mapping[str, Any]:
    """Return what `first_object` does; several formats look at the same files."""
    try:
        kind = kind_of(path)
        if kind in JSON_DOCUMENT:
            document = read_document(path)
            first = document[0] if isinstance(document, list) and document else document
        elif kind in JSON_LINES:
            first = next((values[0] for _, values in _json_values(path, kind, 1) if values), None)
        else:
            return {}
    except (BenchmarkError, *_READING_ERRORS):
        return {}
    return first if isinstance(first, dict) else {}


def _known_kind(path: Path) -> str:
    kind = kind_of(path)
    if kind is None:
        endings = f"{', '.join(KINDS)}, and {', '.join(TEXT_KINDS)} also with {', '.join(COMPRESSIONS)} behind"
        raise BenchmarkError(f"{path} is of an unknown kind. A table of results ends in {endings}.")
    if not path.is_file():
        raise BenchmarkError(f"{path} is not a file. Name one file with a table of results.")
    return kind


def _reason(error: Exception) -> str:
    return (
        str(getattr(error, "strerror", None) or error).splitlines()[0].removesuffix(".") if str(error) else "it ends too early"
    )


def _open(path: Path) -> BinaryIO:
    """Open a file, decompressed; content of another kind than its name says is refused."""
    with path.open("rb") as file:
        magic = file.read(8)
    compression = COMPRESSIONS.get(path.suffix.lower())
    if compression is None:
        check_magic(path, magic, MAGIC | _COMPRESSED_MAGIC)
        return path.open("rb")
    with _decompressed(path, compression) as stream:
        check_magic(path, stream.read(8))
    return _decompressed(path, compression)


def _decompressed(path: Path, compression: str) -> BinaryIO:
    if compression == "gzip":
        return cast(BinaryIO, gzip.open(path))
    import pyarrow as pa

    return cast(BinaryIO, io.BufferedReader(pa.input_stream(str(path), compression=compression), 1 << 20))


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text, each with its line feed."""
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                _check_utf_16(path, line)
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield _decoded_line(path, number, line)


def _decoded_line(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf_8(path, number, line[error.start]) from None


def _decode(path: Path, content: bytes) -> str:
    _check_utf_16(path, content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf_8(path, content.count(b"\n", 0, error.start) + 1, content[error.start]) from None


def _check_utf_16(path: Path, content: bytes) -> None:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
        raise BenchmarkError(f"{path} is UTF-16 text. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {plain} > utf8{plain.suffix}")


def _not_utf_8(path: Path, line: int, byte: int) -> BenchmarkError:
    return BenchmarkError(f"{path}, line {line} is not UTF-8 text: it has the byte 0x{byte:02x}. Save the file as UTF-8.")


def _csv_rows(path: Path) -> Iterator[Rows]:
    records = csv_records(path, _lines(path))
    _, header = next(records, (0, []))
    columns = tuple(name or "" for name in header)
    check_repeated(path, columns)
    done = 0
    for chunk in chunks(records):
        for number, (line, fields) in enumerate(chunk, done + 1):
            if len(fields) != len(columns):
                raise BenchmarkError(
                    f"{path}, row {number} (line {line}) has {len(fields)} fields, and the header has {len(columns)}. Is the "
                    "file cut off, or is a text with a comma or a line break not in quotation marks?" + separator_hint(columns)
                )
        places = [f"row {number} (line {line})" for number, (line, _) in enumerate(chunk, done + 1)]
        done += len(chunk)
        yield Rows(str(path), places, dict(zip(columns, zip(*(fields for _, fields in chunk), strict=True), strict=True)))


def _json_rows(path: Path) -> Iterator[Rows]:
    for places, rows in _json_parts(path):
        columns = dict.fromkeys(column for columns in dict.fromkeys(map(tuple, rows)) for column in columns)
        yield Rows(str(path), places, {column: [row.get(column) for row in rows] for column in columns})


def _json_parts(path: Path) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    """Yield places and objects of JSON lines or of a JSON list, a part at a time."""
    try:
        for places, values in _json_values(path, _known_kind(path)):
            for place, value in zip(places, values, strict=True):
                if not isinstance(value, dict):
                    raise BenchmarkError(
                        f"{path}, {place} is not a JSON object. A row is written as an object, with its columns as keys."
                    )
            yield places, values
    except _READING_ERRORS as error:
        raise BenchmarkError(f"{path} cannot be read: {_reason(error)}. Is it complete? Write or download it again.") from None


def _json_values(path: Path, kind: str, part_rows: int = CHUNK_ROWS) -> Iterator[tuple[list[str], list[Any]]]:
    """Yield places and values of the lines, or of the elements of a document that is a list, a part at a time."""
    if kind not in TEXT_KINDS:
        return
    n_lines = n_rows = 0
    with _open(path) as file:
        while lines := list(islice(file, part_rows)):
            if not n_lines:
                _check_utf_16(path, lines[0])
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            first = next((line for line in lines if line.strip()), b"")
            if not n_rows and _is_document(first, kind):
                document = read_document(path)
                values = document if isinstance(document, list) else [document]
                for start in range(0, len(values), part_rows):
                    part = values[start : start + part_rows]
                    yield [f"row {number}" for number in range(start + 1, start + 1 + len(part))], part
                return
            numbers = [number for number, line in enumerate(lines, n_lines + 1) if line.strip()]
            places = [
                f"row {row}" if row == line else f"row {row} (line {line})" for row, line in enumerate(numbers, n_rows + 1)
            ]
            together = _parse_together(lines) if len(numbers) == len(lines) else None
            yield (
                places,
                together
                or [
                    parse_json(f"{path}, {place}", _decoded_line(path, number, lines[number - n_lines - 1]))
                    for place, number in zip(places, numbers, strict=True)
                ],
            )
            n_lines, n_rows = n_lines + len(lines), n_rows + len(numbers)


def _is_document(line: bytes, kind: str) -> bool:
    """Return whether a file is a whole JSON document, given its first line."""
    begins = line.lstrip()[:1]
    return bool(begins) and (begins == b"[" or (kind in JSON_DOCUMENT and not _is_json_object(line)))


def _parse_together(lines: Sequence[bytes]) -> list[Any] | None:
    """Return the objects of some lines, parsed at once; None if one of them has to be looked at alone.

    That is so unless every line is an object, and all have so few colons after quotation marks that no key occurs twice.
    """
    if not all(line.startswith(b"{") and line.rstrip().endswith(b"}") for line in lines):
        return None
    try:
        text = b",".join(lines).decode("utf-8")
        values = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        return None
    if len(values) != len(lines) or text.count('":') != sum(map(len, values)) or _SPACED_COLON.search(text):
        return None
    return list(values)


def _is_json_object(line: bytes) -> bool:
    """Return whether a line is a whole JSON object: some files of JSON lines are called .json."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def parse_json(place: str, text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        BenchmarkError: It is not JSON, or an object has a key twice; the message begins with the place.
    """
    try:
        return json.loads(text, parse_int=_integer, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        where = f" (line {error.lineno}, character {error.colno})" if error.lineno > 1 else f" (character {error.colno})"
        raise BenchmarkError(f"{place} is not JSON: {error.msg}{where}.") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BenchmarkError(f"{place} cannot be read: {reason}.") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"it has the column {printable(str(first_repeated(name for name, _ in pairs)))} twice")
    return values
