"""What the formats of several projects share: which files they read, what a file name says, and rows from JSON objects."""

import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Format, Rows, Source
from toolkit.outcomes.reading import COMPRESSIONS, kind_of
from toolkit.outcomes.rows import chunks

logger = logging.getLogger("toolkit")

MAX_LOOKED_AT = 5
"""A format looks at this many files of a kind at most before it says whether it recognizes them."""
REMEDY = "Name only files of this format, or convert it to the toolkit's own: docs/guides/results.md."

_SPLIT = re.compile(r"(?:^|[._-])(train|training|validation|valid|val|dev|test|testing)(?=[._-]|$)", re.IGNORECASE)


def files_of(source: Source, kinds: Collection[str]) -> list[Path]:
    """Return the files of some kinds, by the endings of their names."""
    return [file for file in source.files if kind_of(file) in kinds]


def some_match(files: Sequence[Path], matches: Callable[[Path], bool]) -> bool:
    """Return whether one of the first few files matches."""
    return any(matches(file) for file in files[:MAX_LOOKED_AT])


def check_files(files: Sequence[Path], source: Source, form: Format) -> None:
    """Check that there are files to read, and note those that are of no kind that the format has.

    Raises:
        BenchmarkError: There are none.
    """
    if not files:
        raise BenchmarkError(f"{source.label} has no file that could be {form.title}: {form.layout}. {REMEDY}")
    if n_others := len(source.files) - len(files):
        logger.info("Files of %s that are no results of %s, and are left out: %d", source.label, form.title, n_others)


def refusal(file: Path, place: str, form: Format, problem: str) -> BenchmarkError:
    """Return the error that a file is not of a format; `place` is a row, or empty for the whole file."""
    where = f"{file}, {place}" if place else f"{file}"
    return BenchmarkError(f"{where} is not {form.title}: {problem}. Its layout is {form.layout}. {REMEDY}")


def check_keys(file: Path, place: str, form: Format, values: Collection[str], needed: Sequence[str]) -> None:
    """Check that a row, or the header of a table, has some columns.

    Raises:
        BenchmarkError: One is missing.
    """
    if missing := [name for name in needed if name not in values]:
        raise refusal(file, place, form, f"it has no {', '.join(missing)}")


def split_in_name(file: Path) -> str | None:
    """Return the split that a file name ends with or holds as a word, as in `arc_test.csv`; None if there is none."""
    words = _SPLIT.findall(base_name(file))
    return str(words[-1]).lower() if words else None


def splits_in_names(files: Sequence[Path]) -> dict[Path, str | None]:
    """Return the splits that the names of files say.

    Raises:
        BenchmarkError: Only some of the names have one.
    """
    splits = {file: split_in_name(file) for file in files}
    named, unnamed = ([file for file in files if (splits[file] is None) is is_unnamed] for is_unnamed in (False, True))
    if named and unnamed:
        raise BenchmarkError(
            f"{unnamed[0]} has no split in its name, and {named[0]} has: {splits[named[0]]}. Name only files "
            f"with a split, or rename this one: {base_name(unnamed[0])}_test{unnamed[0].suffix} has test questions."
        )
    return splits


def benchmark_in_name(file: Path) -> str:
    """Return the name of a file without its endings and its split; that of its folder if nothing else is left."""
    return _SPLIT.sub("", base_name(file)).strip("._-") or file.absolute().parent.name


def base_name(file: Path) -> str:
    """Return the name of a file without the endings of its kind and compression."""
    return Path(file.stem).stem if file.suffix.lower() in COMPRESSIONS else file.stem


def plain_text(value: object) -> str | None:
    """Return a text as it is, null and NaN as None, and any other value as JSON."""
    if value is None or value != value:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def with_left_out(parts: Iterable[Rows], left_out: Iterable[str]) -> Iterator[Rows]:
    """Yield parts; the last one says what is left out, as all of that is known only then."""
    last: Rows | None = None
    for part in parts:
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last._replace(ignored=tuple(left_out))


def rows_from(file: Path, records: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Rows]:
    """Yield rows in parts, given the place and the values of each, by column of the long format."""
    for part in chunks(records):
        columns = dict.fromkeys(name for _, values in part for name in values)
        places = [place for place, _ in part]
        yield Rows(str(file), places, {name: [values.get(name) for _, values in part] for name in columns})
