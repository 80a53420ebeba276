"""Lays out rows as text for people, and writes them in formats for programs. Does not know what the rows mean."""

import io
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, chop_cells, set_cell_size

from toolkit.core.errors import ToolkitError
from toolkit.core.text import printable
from toolkit.report.output import check_output
from toolkit.tasks.formats import first_repeated

if TYPE_CHECKING:
    import pyarrow as pa

WIDTH = 120
"""Columns of text for people."""
MAX_CELL_WIDTH = 60
"""Longest cell shown on a terminal."""
MAX_BLOCK_CELL_WIDTH = 36
"""Longest cell of a table that is shared among blocks of columns."""
MIN_CELL_WIDTH = 8
"""A cell is not cut to less than this, however many columns there are."""
_LINE_BREAK = re.compile("\r\n?|[\n\v\f\x1c-\x1e\x85\u2028\u2029]")


def format_number(value: float | None, digits: int = 3) -> str:
    """Write a number with fixed digits, or a dash for None and nan."""
    return "-" if value is None or value != value else f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.000


def count(number: int, noun: str) -> str:
    """Write a number of things: `1 question`, `2 questions`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def format_bytes(count: int) -> str:
    """Write a number of bytes with a unit, e.g. `3.4 MB`."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def aligned(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], max_width: int = MAX_CELL_WIDTH, escape: bool | None = None
) -> str:
    """Lay out rows as an aligned table, numbers to the right; what a terminal would obey is escaped.

    Args:
        columns: Names of the columns.
        rows: Cells of each row.
        max_width: Longest cell, in columns of the terminal; longer ones are cut.
        escape: Whether to escape what a terminal would obey; None for whether stdout is a terminal.
    """
    shown = printable if (sys.stdout.isatty() if escape is None else escape) else str
    lines = [[shown(_line(name)) for name in columns]]
    lines += [[_cut(shown(_line(_text(value))), max_width) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    numeric = [bool(rows) and all(map(_is_numeric, column)) for column in list(zip(*lines[1:], strict=True)) or columns]

    def laid_out(cells: Sequence[str]) -> str:
        padding = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
        padded = [pad + cell if right else cell + pad for cell, pad, right in zip(cells, padding, numeric, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join(map(laid_out, [lines[0], ["-" * width for width in widths], *lines[1:]]))


def fitted(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], max_width: int = MAX_CELL_WIDTH, uncut: Sequence[int] = ()
) -> str:
    """Lay out rows as a table that fits `WIDTH`: the widest columns of names are cut until it does, never those of numbers.

    Args:
        columns: Names of the columns.
        rows: Cells of each row.
        max_width: Longest cell, in columns of the terminal.
        uncut: Places of columns of names that are not cut either.
    """
    table = [[_cut(printable(_line(_text(cell))), max_width) for cell in cells] for cells in (columns, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    names = [
        place for place, column in enumerate(zip(*table[1:], strict=True)) if place not in uncut and any(map(_is_name, column))
    ]
    while names and sum(widths) + 2 * len(widths) - 2 > WIDTH:
        widest = max(names, key=lambda place: widths[place])
        if widths[widest] <= MIN_CELL_WIDTH:
            break
        widths[widest] -= 1
    cut = [[_cut(cell, width) for cell, width in zip(cells, widths, strict=True)] for cells in table]
    return aligned(cut[0], cut[1:], max_width)


def in_blocks(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lay out rows as tables that fit `WIDTH`: the columns are shared among them, and the first one is in each."""

    def part(places: Sequence[int]) -> str:
        names = [_cut(columns[place], MAX_BLOCK_CELL_WIDTH) for place in places]
        return aligned(names, [[row[place] for place in places] for row in rows], MAX_BLOCK_CELL_WIDTH)

    blocks: list[list[int]] = []
    for n in range(1, len(columns)):
        if blocks and max(map(cell_len, part([0, *blocks[-1], n]).splitlines())) <= WIDTH:
            blocks[-1].append(n)
        else:
            blocks.append([n])
    return "\n\n".join(part([0, *block]) for block in blocks)


def wrapped(text: str, indent: str = "") -> str:
    """Break a paragraph into lines of at most `WIDTH` columns of a terminal; lines after the first are indented."""
    lines: list[str] = []
    words = [part for word in text.split() for part in chop_cells(word, WIDTH - cell_len(indent))]
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and cell_len(longer) > WIDTH:
            lines.append(indent + word)
        else:
            lines[-1:] = [longer]
    return "\n".join(lines)


def aligned_table(table: "pa.Table") -> str:
    """Lay out an Arrow table as an aligned table."""
    return aligned(table.column_names, [list(row.values()) for row in table.to_pylist()])


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lay out rows as a Markdown table, unpadded: some cells are paragraphs."""
    lines = [[_escape_pipes(" ".join(_text(cell).split())) for cell in line] for line in (columns, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], ["---"] * len(columns), *lines[1:]))


def write(rows: "pa.Table | list[dict[str, Any]]", format: str, output: Path | None = None) -> None:
    """Write rows to a file or to stdout. Text on a terminal is escaped; text in files and pipes is as it is.

    Args:
        rows: An Arrow table, or a list of records.
        format: table, csv, json, markdown or parquet.
        output: The file; None for stdout.

    Raises:
        ToolkitError: The file cannot be written, or the rows are not text and stdout is a terminal.
    """
    import pyarrow as pa

    to_terminal = not output and sys.stdout.isatty()
    if to_terminal and format == "parquet":
        raise ToolkitError("Parquet is binary, and stdout is a terminal. Write it to a file: --output FILE.parquet")
    if output:
        check_output(output)
    table = pa.Table.from_pylist(rows) if isinstance(rows, list) else rows
    if (doubled := first_repeated(table.column_names)) is not None:
        raise ToolkitError(f"Two columns are named {doubled!r}. Give one another name, in SQL with AS.")
    try:
        data = _encode(table, format, MAX_CELL_WIDTH if to_terminal else sys.maxsize)
    except Exception as error:  # DuckDB has values that Python, Arrow or the format do not have
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.200}"
        raise ToolkitError(
            f"The rows hold a value that cannot be written as {format} ({reason}). Convert it: CAST(... AS VARCHAR) in SQL."
        ) from None
    if to_terminal:
        data = printable(data.decode()).encode()
    if output:
        try:
            output.write_bytes(data)
        except OSError as error:
            raise ToolkitError(f"{output} cannot be written: {error.strerror}.") from None
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _encode(table: "pa.Table", format: str, max_width: int) -> bytes:
    if format in ("csv", "parquet"):
        return _polars_bytes(table, format)
    if format == "json":
        text = json.dumps(_finite(table.to_pylist()), indent=1, default=str, ensure_ascii=False, allow_nan=False)
    else:
        rows = [list(row.values()) for row in table.to_pylist()]
        if format == "markdown":
            breaks = [[re.sub(r"\r\n?|\n", "<br>", cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
            text = markdown(table.column_names, breaks)
        else:
            text = aligned(table.column_names, rows, max_width, escape=max_width < sys.maxsize)
    return (text + "\n").encode()


def _finite(value: Any) -> Any:
    """Replace nan and infinities, which JSON cannot express, by None."""
    if isinstance(value, list):
        return list(map(_finite, value))
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
        return "-" if math.isnan(value) else f"{value + 0.0:.6g}"  # SQL's -0.0 is 0
    return " > ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def _line(text: str) -> str:
    """Return text as one line."""
    return _LINE_BREAK.sub("⏎", text).replace("\t", "⇥")


def _escape_pipes(text: str) -> str:
    """Escape pipes, and backslashes before them or at the end, so that a cell stays a cell."""
    return re.sub(r"(\\*)(\||$)", lambda match: match[1] * 2 + ("\\|" if match[2] else ""), text)


def _cut(text: str, max_width: int) -> str:
    return text if cell_len(text) <= max_width else set_cell_size(text, max_width - 1).rstrip() + "…"


def _is_numeric(text: str) -> bool:
    """Return whether a cell begins with a number, alone or with what follows it: an interval, a unit, a date."""
    return bool(re.match(r"-?\d[\d.,:]*(e[-+]?\d+)?[x%]?(?!\w)|-(?!\w)|(-?inf)?$", text))


def _is_name(cell: str) -> bool:
    return not _is_numeric(cell)
