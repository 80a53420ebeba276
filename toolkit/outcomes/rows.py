"""Rows of results as they are read: plain values by column, with their places. Knows no kind of file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from toolkit.core.errors import BenchmarkError
from toolkit.core.text import printable
from toolkit.tasks.formats import first_repeated

CHUNK_ROWS = 20_000
"""Rows that are read together."""
MAGIC = {b"PAR1": (".parquet",), b"ARROW1": (".feather", ".arrow"), b"PK\x03\x04": (".zip", ".xlsx"), b"\x80\x04": (".pkl",)}
"""How files of some kinds begin, and how their names end."""
_Item = TypeVar("_Item")


class Rows(NamedTuple):
    """Some rows of results, at most some ten thousand, as a format reads them.

    Attributes:
        file: Where they were read, for messages.
        places: Where each row is in the file, e.g. `row 3 (line 4)`.
        columns: Values by column of the long format, one per row, None where there is none. Further scores are columns
            `score:NAME`; columns of other names are ignored, and named to the user.
        ignored: Further columns that are ignored.
    """

    file: str
    places: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    ignored: Sequence[str] = ()


def chunks(items: Iterable[_Item], size: int = CHUNK_ROWS) -> Iterator[list[_Item]]:
    """Yield the items in lists of up to `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def check_magic(path: Path, content: bytes, magics: Mapping[bytes, Sequence[str]] = MAGIC) -> None:
    """Check that a file is not obviously of another kind than its name says.

    Raises:
        BenchmarkError: It is.
    """
    for magic, suffixes in magics.items():
        if content.startswith(magic) and not path.name.lower().endswith(tuple(suffixes)):
            actual = " or ".join(suffixes)
            raise BenchmarkError(f"{path} is not what its name says: its content is {actual}. Rename it, or convert it to CSV.")


def check_repeated(path: Path, columns: Sequence[str]) -> None:
    """Check that no two columns have the same name.

    Raises:
        BenchmarkError: Two have.
    """
    if (repeated := first_repeated(columns)) is not None:
        raise BenchmarkError(
            f"{path} has the column {printable(repeated)} {columns.count(repeated)} times. Rename all but one."
        )
