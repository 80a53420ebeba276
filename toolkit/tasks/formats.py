"""Files of rows: JSONL, JSON, CSV and Parquet, plain, as .gz or in a .zip.

Knows formats, not what the rows mean. A value is kept as the file has it: CSV cells are text, whatever they look like. What
cannot be read without a guess is refused with file and row.
"""

import codecs
import csv
import fnmatch
import gzip
import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.core.errors import BenchmarkError
from toolkit.tasks.values import MAX_DIGITS

Record = dict[str, Any]
"""One row of a data set, by column."""

FORMATS = "JSONL, JSON, CSV, Parquet, or one of them as .gz or in a .zip"

csv.field_size_limit(1 << 24)

_BYTE_ORDER_MARKS = {  # the mark of UTF-32 begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class PlacedRecord(NamedTuple):
    """A record and its place: the file (or hub split) and the number of the row, counted from 1."""

    place: str
    number: int
    record: Record


class Layout(NamedTuple):
    """What a file does not say of itself.

    Attributes:
        columns: Names of the columns of CSV files without a header; their rows also get the file's name, as `file`.
        records: Splits a JSON document into records, if it is not a list of them.
    """

    columns: tuple[str, ...] = ()
    records: Callable[[Any], Iterable[Record]] | None = None


AS_WRITTEN = Layout()
"""CSV with a header, and JSON that is a list of records."""


def read_records(path: Path, pattern: str = "*", layout: Layout = AS_WRITTEN) -> Iterator[PlacedRecord]:
    """Yield the records of a file of any known format, or of the files of an archive that match a pattern.

    Raises:
        BenchmarkError: The file cannot be read, or is not what its name says.
    """
    name, number = str(path), 0
    try:
        for name, content in _open(path, pattern):
            number = 0
            for number, record in enumerate(_records(name, content, layout), 1):
                yield PlacedRecord(name, number, record)
    except BenchmarkError:
        raise
    except RecursionError:
        raise BenchmarkError(f"{name}, row {number + 1} is nested too deeply.") from None
    except OSError as error:
        raise BenchmarkError(f"{name} cannot be read: {error.strerror or error}.") from None
    except csv.Error as error:
        raise BenchmarkError(f"{name}, row {number + 1} is not CSV: {error}.") from None
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BenchmarkError(f"{name} is not a document of this data set ({type(error).__name__}: {error}).") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError) as error:
        raise BenchmarkError(f"{name} is damaged, or not what its name says: {error}. Expected: {FORMATS}.") from None


def decode(content: bytes, name: str) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with its byte order mark.

    Raises:
        BenchmarkError: It is not such text.
    """
    encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        known = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        line = content.count(b"\n", 0, error.start) + 1
        raise BenchmarkError(f"{name}, line {line} is not {known} text (byte {error.start}). Save it as UTF-8.") from None


def _open(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of a file, or of the files of an archive that match a pattern."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in sorted(fnmatch.filter(archive.namelist(), pattern)):
                if not name.endswith("/"):
                    yield name, archive.read(name)
    elif path.suffix == ".gz":
        yield path.stem, gzip.decompress(path.read_bytes())
    else:
        yield str(path), path.read_bytes()


def _records(name: str, content: bytes, layout: Layout) -> Iterator[Record]:
    suffix = Path(name).suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(name, content)
    elif suffix == ".csv":
        yield from _csv(name, decode(content, name), layout)
    elif suffix in (".json", ".jsonl"):
        for number, record in enumerate(_json(name, decode(content, name), layout), 1):
            if not isinstance(record, dict):
                raise BenchmarkError(f'{name}, row {number} is not a row such as {{"question": "..."}}: {repr(record)[:80]}')
            yield record
    else:
        raise BenchmarkError(f"{name} has no known format: {FORMATS}.")


def _parquet(name: str, content: bytes) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
        _check_columns(name, table.column_names)
        yield from table.to_pylist()
    except pa.ArrowException as error:
        reason = str(error).partition("\n")[0]
        raise BenchmarkError(f"{name} is damaged, or not Parquet: {reason}") from None


def _csv(name: str, text: str, layout: Layout) -> Iterator[Record]:
    rows = (row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row)
    columns: Sequence[str] = layout.columns or next(rows, [])
    _check_columns(name, columns)
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise BenchmarkError(
                f"{name}, row {number} has {len(row)} cells for {len(columns)} columns. A cell with a comma, a quote or a "
                'newline is written in quotes: "1,000".'
            )
        yield dict(zip(columns, row, strict=True)) | ({"file": Path(name).stem} if layout.columns else {})


def _check_columns(name: str, columns: Sequence[str]) -> None:
    if (repeated := first_repeated(columns)) is not None:
        raise BenchmarkError(f"{name} has two columns {repeated!r}. Rename or remove one.")


def first_repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs more than once, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _json(name: str, text: str, layout: Layout) -> Iterator[Record]:
    """Read a JSON document; or JSON lines, whatever the file is called (AQuA's release is called .json)."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    document, document_error = None, None
    if Path(name).suffix.lower() != ".jsonl":
        try:
            document = _parse(text)
        except json.JSONDecodeError as error:
            document_error = error
        except ValueError as error:
            raise BenchmarkError(f"{name}: {error}.") from None
    if isinstance(document, list):
        yield from document
    elif document is not None and layout.records:
        yield from layout.records(document)
    elif isinstance(document, dict) and len(lines) > 1:
        raise BenchmarkError(f"{name} is one JSON object. Expected: a list of rows, or one row a line.")
    else:
        yield from _json_lines(name, lines, document_error)


def _json_lines(name: str, lines: list[tuple[int, str]], document_error: json.JSONDecodeError | None) -> Iterator[Any]:
    """Yield the rows of a file with one row a line; if not even its first line is one, it is a document with an error."""
    for number, line in lines:
        try:
            yield _parse(line)
        except json.JSONDecodeError as error:
            is_document = document_error is not None and number == lines[0][0]
            cause, place = (document_error, document_error.lineno) if is_document and document_error else (error, number)
            raise BenchmarkError(f"{name}, line {place} is not JSON: {cause.msg} (character {cause.colno}).") from None
        except ValueError as error:
            raise BenchmarkError(f"{name}, line {number}: {error}.") from None


def _parse(text: str) -> Any:
    return json.loads(text, parse_int=_integer, object_pairs_hook=_object)


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS + 1:
        raise ValueError(f"a number of more than {MAX_DIGITS} digits; write it as text")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"the name {first_repeated(name for name, _ in pairs)!r} occurs twice in one object")
    return values
