"""Reads tables in the formats of Arrow, Parquet and Feather, as plain values with their places."""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.rows import CHUNK_ROWS, Rows, check_magic, check_repeated

if TYPE_CHECKING:
    import pyarrow as pa


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def arrow_columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a table; none if it cannot be read."""
    import pyarrow as pa
    from pyarrow import feather, parquet

    try:
        if _is_parquet(path):
            return tuple(parquet.read_schema(path).names)
        return tuple(feather.read_table(path, memory_map=True).schema.names)
    except (pa.ArrowException, OSError):
        return ()


def arrow_rows(path: Path, columns: Container[object] | None) -> Iterator[Rows]:
    """Yield the rows of a table in parts; the columns are those of `toolkit.outcomes.reading.read_rows`.

    Raises:
        BenchmarkError: It cannot be read, or is not what its name says.
    """
    import pyarrow as pa

    with path.open("rb") as file:
        check_magic(path, file.read(8))
    ignored = [name for name in arrow_columns(path) if columns is not None and name not in columns]
    try:
        number = 0
        for batch in _arrow_batches(path, columns):
            values = {name: _values(path, name, batch.column(name), number) for name in batch.schema.names}
            places = [f"row {row}" for row in range(number + 1, number + 1 + batch.num_rows)]
            number += batch.num_rows
            yield Rows(str(path), places, values, ignored)
    except pa.ArrowNotImplementedError:  # it lacks types that polars writes, such as integers of 128 bits
        yield from _polars_rows(path, columns)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].removesuffix(".")
        raise BenchmarkError(f"{path} cannot be read: {reason}. Is it complete, and is it what its name says?") from None


def _arrow_batches(path: Path, columns: Container[object] | None) -> Iterator["pa.RecordBatch"]:
    from pyarrow import feather, parquet

    if _is_parquet(path):
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        check_repeated(path, names)
        selected = names if columns is None else [name for name in names if name in columns]
        yield from file.iter_batches(CHUNK_ROWS, columns=selected)
        return
    table = feather.read_table(path, memory_map=True)
    check_repeated(path, table.schema.names)
    selected = table.schema.names if columns is None else [name for name in table.schema.names if name in columns]
    yield from table.select(selected).to_batches(CHUNK_ROWS)


def _polars_rows(path: Path, columns: Container[object] | None) -> Iterator[Rows]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BenchmarkError(f"{path} cannot be read: {reason}. Is it complete, and is it what its name says?") from None
    frame = frame.select(name for name in frame.columns if columns is None or name in columns)
    for start in range(0, len(frame), CHUNK_ROWS):
        part = frame[start : start + CHUNK_ROWS]
        places = [f"row {row}" for row in range(start + 1, start + 1 + len(part))]
        yield Rows(str(path), places, {name: part[name].to_list() for name in part.columns})


def _values(path: Path, name: str, column: "pa.Array", before: int) -> Sequence[Any]:
    """Return the values of a column, of which `before` rows were read earlier; plain ones as a series of polars."""
    import polars as pl
    import pyarrow as pa

    number = before
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_float64(column.type):
            column.validate(full=True)
            return cast(Sequence[Any], pl.from_arrow(column))
        return list(column.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):  # find the row
        try:
            for number, value in enumerate(column, before + 1):  # noqa: B007
                value.as_py()
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise BenchmarkError(f"{path}, row {number}, column {name} cannot be read: {error}.") from None
        raise
