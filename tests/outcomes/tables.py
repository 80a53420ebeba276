"""What the tests of this folder share: options of an import by keyword, and the converted rows of a table."""

from pathlib import Path
from typing import Any

import polars as pl

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.converting import Conversion, Notes, convert_rows
from toolkit.outcomes.formats import find_files
from toolkit.outcomes.importing import ImportOptions
from toolkit.outcomes.long_format import FORMAT

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
