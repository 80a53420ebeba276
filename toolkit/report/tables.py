"""Lays out rows as text for people, and writes them in formats for programs. Does not know what the rows mean."""

import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tabulate

from toolkit.core.errors import ToolkitError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CELL_WIDTH = 60
"""Longest cell shown on a terminal."""

tabulate.MIN_PADDING = 0  # a column is as wide as its longest text


def format_number(value: float | None, digits: int = 3) -> str:
    """Write a number with fixed digits, or a dash for None and nan."""
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def format_bytes(count: int) -> str:
    """Write a number of bytes with a unit, e.g. `3.4 MB`."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def aligned(columns: Sequence[str], rows: Sequence[Sequence[Any]], max_width: int = MAX_CELL_WIDTH) -> str:
    """Lay out rows as an aligned table, numbers to the right.

    Args:
        columns: Names of the columns.
        rows: Cells of each row.
        max_width: Longest cell, in characters; longer ones are cut.
    """
    texts = [[_cut(re.sub(r"\r\n?|\n", "⏎", _text(value)), max_width) for value in row] for row in rows]
    alignment = ["right" if all(map(_is_numeric, column)) else "left" for column in zip(*rows, strict=True)]
    table: str = tabulate.tabulate(texts, columns, tablefmt="simple", colalign=alignment or None, disable_numparse=True)
    return table


def aligned_table(table: "pa.Table") -> str:
    """Lay out an Arrow table as an aligned table."""
    return aligned(table.column_names, [list(row.values()) for row in table.to_pylist()])


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lay out rows as a Markdown table, unpadded: some cells are paragraphs."""
    lines = [[" ".join(_text(cell).split()).replace("|", "\\|") for cell in line] for line in (columns, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ["---"] * len(columns), *lines[1:]))


def write(rows: "pa.Table | list[dict[str, Any]]", format: str, output: Path | None = None) -> None:
    """Write rows to a file or to stdout.

    Args:
        rows: An Arrow table, or a list of records.
        format: table, csv, json, markdown or parquet.
        output: The file; None for stdout.

    Raises:
        ToolkitError: The file cannot be written, or the rows are not text and stdout is a terminal.
    """
    import pyarrow as pa

    on_terminal = sys.stdout.isatty() and not output
    if format == "parquet" and on_terminal:
        raise ToolkitError("Parquet is not text. Write it to a file: --output FILE")

    table = pa.Table.from_pylist(rows) if isinstance(rows, list) else rows
    data = _encode(table, format, MAX_CELL_WIDTH if on_terminal else sys.maxsize)
    if output:
        try:
            output.write_bytes(data)
        except OSError as error:
            raise ToolkitError(f"{output} cannot be written: {error.strerror}. Does its folder exist?") from None
    elif on_terminal:
        sys.stdout.write(data.decode())
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _encode(table: "pa.Table", format: str, max_width: int) -> bytes:
    if format in ("csv", "parquet"):
        return _polars_bytes(table, format)
    if format == "json":
        text = json.dumps(table.to_pylist(), indent=1, default=str, ensure_ascii=False)
    else:
        rows = [list(row.values()) for row in table.to_pylist()]
        text = markdown(table.column_names, rows) if format == "markdown" else aligned(table.column_names, rows, max_width)
    return (text + "\n").encode()


def _polars_bytes(table: "pa.Table", format: str) -> bytes:
    import polars as pl

    frame, buffer = pl.DataFrame(table), io.BytesIO()
    if format == "parquet":
        frame.write_parquet(buffer)
        return buffer.getvalue()
    for name, dtype in frame.schema.items():
        if dtype.is_nested():
            cells = [cell if cell is None else json.dumps(cell, default=str) for cell in frame[name].to_list()]
            frame = frame.with_columns(pl.Series(name, cells, pl.String))
    frame.write_csv(buffer)
    return buffer.getvalue()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"  # SQL's -0.0 is 0
    return " > ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _cut(text: str, max_width: int) -> str:
    return text if len(text) <= max_width else text[: max_width - 1] + "…"


def _is_numeric(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or bool(re.match(r"[-\d]", str(value)))
