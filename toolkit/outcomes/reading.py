"""Reads a table of any known format as rows of plain values with their places. Knows formats, and nothing of the columns.

Nothing is inferred from how a value looks: a CSV field is text, and an empty one without quotation marks is missing.
"""

import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.core.errors import BenchmarkError
from toolkit.core.text import printable
from toolkit.tasks.formats import first_repeated

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_FORMATS = (".csv", ".jsonl", ".json")
ARROW_FORMATS = (".parquet", ".feather", ".arrow")
FORMATS = (*TEXT_FORMATS, *(f"{suffix}.gz" for suffix in TEXT_FORMATS), *ARROW_FORMATS)
"""Endings of the names of tables."""

_MAGIC = {b"PAR1": (".parquet",), b"ARROW1": (".feather", ".arrow"), b"\x1f\x8b": (".gz",), b"PK\x03\x04": (".zip", ".xlsx")}
"""How files of some formats begin, and how their names end."""
_FIELD = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|((?!\r?\n)[^",][^,\n]*?)?)(,|\r?\n|\Z)')
"""A field of CSV, quoted or plain, and what ends it (RFC 4180)."""
_MAX_DIGITS = 4000
"""Integers of more digits are read as infinite: Python refuses to convert them."""


class PlacedRow(NamedTuple):
    """A row and its place, as in `row 3 (line 4)`."""

    place: str
    values: Mapping[str, Any]


class RawTable(NamedTuple):
    """The columns of a table, and its rows; a row may lack some of the columns."""

    columns: tuple[str, ...]
    rows: list[PlacedRow]


def is_table(path: Path) -> bool:
    """Return whether a path has the name of a table."""
    return path.name.lower().endswith(FORMATS)


def read_table(path: Path, columns: Collection[str]) -> RawTable:
    """Read a table of any known format.

    Args:
        path: The file; its ending is its format.
        columns: The columns whose values are needed; those of other columns may be left out.

    Raises:
        BenchmarkError: The file cannot be read, is not of its format, or has a malformed row.
    """
    if not is_table(path):
        raise BenchmarkError(f"{path} has an unknown format. A table of results ends in {', '.join(FORMATS)}.")
    if not path.is_file():
        raise BenchmarkError(f"{path} is not a file. Name one file with a table of results.")
    name = path.name.lower()
    try:
        if name.endswith(ARROW_FORMATS):
            table = _read_arrow(path, columns)
        else:
            text = _read_text(path, is_compressed=name.endswith(".gz"))
            table = _read_csv(path, text) if ".csv" in name[-7:] else _read_json(path, text)
    except (OSError, EOFError, zlib.error) as error:
        raise BenchmarkError(f"{path} cannot be read: {error}. Is it complete? Write or download it again.") from None
    repeated = [column for column in columns if table.columns.count(column) > 1]
    if repeated:
        raise BenchmarkError(
            f"{path} has the column {repeated[0]} {table.columns.count(repeated[0])} times. Rename all but one."
        )
    if not table.rows:
        raise BenchmarkError(f"{path} has no rows.")
    return table


def _read_text(path: Path, *, is_compressed: bool) -> str:
    content = path.read_bytes()
    if is_compressed:
        content = gzip.decompress(content)
    _check_magic(path, content)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        raise BenchmarkError(f"{path} is UTF-16 text. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 {path} > utf8{path.suffix}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BenchmarkError(
            f"{path}, line {line} is not UTF-8 text: it has the byte 0x{content[error.start]:02x}. Save the file as UTF-8."
        ) from None


def _check_magic(path: Path, content: bytes) -> None:
    """Refuse content of another format than the file's name says."""
    for magic, suffixes in _MAGIC.items():
        if content.startswith(magic) and not path.name.lower().endswith(suffixes):
            actual = " or ".join(suffixes)
            raise BenchmarkError(f"{path} is not what its name says: its content is {actual}. Rename it, or convert it to CSV.")


def _read_csv(path: Path, text: str) -> RawTable:
    records = _csv_records(path, text)
    _, header = next(records, (0, []))
    columns = tuple(name or "" for name in header)
    rows = []
    for number, (line, fields) in enumerate(records, 1):
        if len(fields) != len(columns):
            raise BenchmarkError(
                f"{path}, row {number} (line {line}) has {len(fields)} fields, and the header has {len(columns)}. Is the file "
                "cut off, or is a text with a comma or a line break not in quotation marks?"
            )
        rows.append(PlacedRow(f"row {number} (line {line})", dict(zip(columns, fields, strict=True))))
    return RawTable(columns, rows)


def _csv_records(path: Path, text: str) -> Iterator[tuple[int, list[str | None]]]:
    """Yield the line and the fields of each record; blank lines are left out, and a field is None if it is missing."""
    position, line = 0, 1
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        record = text[position:end]
        if '"' in record:
            fields, end = _quoted_record(path, line, text, position)
        else:
            fields, end = [field or None for field in record.removesuffix("\r").split(",")], end + 1
        if fields != [None]:
            yield line, fields
        line += text.count("\n", position, end)
        position = end


def _quoted_record(path: Path, line: int, text: str, position: int) -> tuple[list[str | None], int]:
    """Return the fields of a record with quoted fields, and the position after it."""
    fields = []
    while match := _FIELD.match(text, position):
        quoted, plain, end = match.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        position = match.end()
        if end != ",":
            return fields, position
    raise BenchmarkError(
        f"{path}, line {line} has a field whose quotation marks do not match. A field is quoted whole, and a quotation mark "
        'in it is written twice: "He said ""no""."'
    )


def _read_json(path: Path, text: str) -> RawTable:
    if text.lstrip().startswith("["):
        places = [(f"row {number}", row) for number, row in enumerate(_parse_json(path, "", text), 1)]
    else:
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        places = []
        for number, (line_number, line) in enumerate(lines, 1):
            place = f"row {number}" if number == line_number else f"row {number} (line {line_number})"
            places.append((place, _parse_json(path, f", {place}", line)))
    columns: dict[str, None] = {}
    for place, row in places:
        if not isinstance(row, dict):
            raise BenchmarkError(
                f"{path}, {place} is not a JSON object. A row is written as an object, with its columns as keys."
            )
        columns.update(dict.fromkeys(row))
    return RawTable(tuple(columns), [PlacedRow(place, row) for place, row in places])


def _parse_json(path: Path, place: str, text: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        where = f" (line {error.lineno}, character {error.colno})" if error.lineno > 1 else f" (character {error.colno})"
        raise BenchmarkError(f"{path}{place} is not JSON: {error.msg}{where}.") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise BenchmarkError(f"{path}{place} cannot be read: {reason}.") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"it has the column {printable(str(first_repeated(name for name, _ in pairs)))} twice")
    return values


def _read_arrow(path: Path, columns: Collection[str]) -> RawTable:
    import pyarrow as pa
    from pyarrow import feather, parquet

    with path.open("rb") as file:
        _check_magic(path, file.read(8))
    try:
        table = parquet.ParquetFile(path).read() if path.name.lower().endswith(".parquet") else feather.read_table(path)
    except pa.ArrowNotImplementedError:  # it lacks types that polars writes, such as integers of 128 bits
        return _read_polars(path, columns)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BenchmarkError(f"{path} cannot be read: {reason} Is it complete, and is it what its name says?") from None
    names = table.schema.names
    values = {name: _values(path, name, table.column(names.index(name))) for name in columns if name in names}
    rows = zip(*values.values(), strict=True) if values else ()
    placed = [PlacedRow(f"row {number}", dict(zip(values, row, strict=True))) for number, row in enumerate(rows, 1)]
    return RawTable(tuple(names), placed)


def _read_polars(path: Path, columns: Collection[str]) -> RawTable:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BenchmarkError(f"{path} cannot be read: {reason}. Is it complete, and is it what its name says?") from None
    rows = frame.select(name for name in frame.columns if name in columns).iter_rows(named=True)
    return RawTable(tuple(frame.columns), [PlacedRow(f"row {number}", row) for number, row in enumerate(rows, 1)])


def _values(path: Path, name: str, column: "pa.ChunkedArray") -> list[Any]:
    import pyarrow as pa

    number = 0
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):  # find the row
        try:
            for number, value in enumerate(column, 1):  # noqa: B007
                value.as_py()
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise BenchmarkError(f"{path}, row {number}, column {name} cannot be read: {error}.") from None
        raise
