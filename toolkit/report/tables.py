"""Rows as text: aligned tables for people, CSV, JSON, Markdown or Parquet for programs. Knows nothing of what they mean."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import ToolkitError

if TYPE_CHECKING:
    import pyarrow as pa

Cell = Any
RIGHT = (int, float)


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with fixed digits, or a dash where there is none."""
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def size(count: int) -> str:
    """Write a number of bytes as people read it, e.g. `3.4 MB`."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


WIDTH = 60
"""Longest cell that a terminal is shown."""


def aligned(columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: int = WIDTH) -> str:
    """Lay out rows as an aligned table; cells longer than `width` are cut."""
    texts = [[_cell(value, width) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[n]) for row in texts)) if texts else len(name) for n, name in enumerate(columns)]
    right = [
        bool(rows) and all(isinstance(row[n], RIGHT) or row[n] in (None, "-") or _numeric(row[n]) for row in rows)
        for n in range(len(columns))
    ]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)).rstrip()

    return "\n".join([line(list(columns)), line(["-" * w for w in widths]), *map(line, texts)])


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Lay out rows as a Markdown table."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *(line([_cell(v, None) for v in row]) for row in rows)])


def write(table: "pa.Table", form: str, output: Path | None = None) -> None:
    """Write an Arrow table to a file or to stdout.

    Args:
        table: The rows.
        form: table, csv, json, markdown or parquet.
        output: The file; stdout where there is none.
    """
    if form in ("csv", "parquet"):
        data = _binary(table, form)
    else:
        rows = [list(row.values()) for row in table.to_pylist()]
        if form == "json":
            text = json.dumps(table.to_pylist(), indent=1, default=str, ensure_ascii=False)
        else:
            shown = WIDTH if sys.stdout.isatty() and not output else sys.maxsize  # what is read by a program is not cut
            text = markdown(table.column_names, rows) if form == "markdown" else aligned(table.column_names, rows, shown)
        data = (text + "\n").encode()
    if output:
        try:
            output.write_bytes(data)
        except OSError as error:
            raise ToolkitError(f"{output} cannot be written: {error.strerror}. Is its folder there?") from None
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _binary(table: "pa.Table", form: str) -> bytes:
    import io

    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    buffer = io.BytesIO()
    if form == "parquet":
        frame.write_parquet(buffer)
    else:
        nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
        flat = [
            pl.col(name).map_elements(lambda v: json.dumps(_plain(v), default=str), return_dtype=pl.String) for name in nested
        ]
        frame.with_columns(flat).write_csv(buffer)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    return value.to_list() if hasattr(value, "to_list") else value


def _cell(value: Cell, width: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"  # SQL's -0.0 is 0
    text = " > ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = " ".join(text.split()) if width is None else text.replace("\n", "⏎")
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _numeric(value: Cell) -> bool:
    return isinstance(value, str) and value[:1].isdigit() | value[:1].startswith("-")
