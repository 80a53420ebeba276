"""What the tests of this folder share: options of an import by keyword, and the converted rows of a table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.converting import Conversion, Notes, convert_rows
from toolkit.outcomes.formats import find_files
from toolkit.outcomes.importing import ImportOptions
from toolkit.outcomes.long_format import FORMAT
from toolkit.outcomes.rows import Rows

Table = dict[tuple[Any, ...], dict[str, Any]]
"""Rows by model, benchmark, item and sample."""
CONVERSION = ("columns", "metrics", "clip", "scale")


def options_of(**options: Any) -> ImportOptions:
    """Return the options of an import, those of its conversion included."""
    conversion = Conversion(**{name: options.pop(name) for name in CONVERSION if name in options})
    return ImportOptions(conversion=conversion, **options)


def read_results(path: Path, **conversion: Any) -> tuple[pl.DataFrame, Notes]:
    """Return the converted rows of a long table, and what was left out.

    Raises:
        BenchmarkError: The table is refused, or has no row.
    """
    notes = Notes()
    asked = Conversion(**conversion)
    source = find_files([str(path)], asked.columns.values())
    frames = list(convert_rows(FORMAT.read(source), asked, notes))
    if not frames:
        raise BenchmarkError(f"{path} has no rows.")
    return pl.concat(frames, how="diagonal"), notes


def table(parts: Iterable[Rows]) -> Table:
    """Return the rows by model, benchmark, item and sample."""
    rows = [{name: values[n] for name, values in part.columns.items()} for part in parts for n in range(len(part.places))]
    keys = [(row["model"], row["benchmark"], row["item"], row["sample"]) for row in rows]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, rows, strict=True))
