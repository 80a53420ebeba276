"""What a format of results is, the files that it is read from, and which format some files have.

A format is one file beside this one, and an entry point `toolkit.outcomes`. It turns files into `Rows`: columns of the long
format (docs/guides/results.md) with the place of each row. What the values may be is checked later, alike for every format
(`toolkit.outcomes.long_format`), so that a format only says what is where.
"""

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from toolkit.core.errors import BenchmarkError, did_you_mean
from toolkit.core.registry import OUTCOMES
from toolkit.outcomes.rows import Rows

LONG = "long"
"""The toolkit's own format, which is assumed if the files look like no other."""

__all__ = ["LONG", "Format", "Rows", "Source", "find_files", "format_of"]


@dataclass(frozen=True)
class Source:
    """The files that results are read from.

    Attributes:
        label: What the user named, for messages: a file, a folder or a pattern.
        folder: The folder that all files lie in.
        files: The files, sorted, without hidden ones.
        columns: Columns of the files that the user gives a meaning.
    """

    label: str
    folder: Path
    files: tuple[Path, ...]
    columns: frozenset[str] = frozenset()

    def matching(self, pattern: str) -> list[Path]:
        """Return the files whose path within the folder matches a pattern, in which `*` matches slashes too."""
        return [file for file in self.files if fnmatch.fnmatch(file.relative_to(self.folder).as_posix(), pattern)]


class Format(Protocol):
    """A format of results.

    Attributes:
        title: What it is called, e.g. `RouterBench (wide table)`.
        layout: What its files look like, in a few words, for messages and `--help`.
    """

    title: str
    layout: str

    def recognizes(self, source: Source) -> bool:
        """Return whether the files look like this format; only the beginnings of files are read, and no error is raised."""
        ...

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield the rows of the files, a part at a time.

        Raises:
            BenchmarkError: A file is not what this format says; the message names file and place.
        """
        ...


def find_files(names: Sequence[str], columns: Iterable[str] = ()) -> Source:
    """Return the files that are meant by a file, a folder (searched in depth), or a pattern such as `logs/*.jsonl`.

    Args:
        names: One of these, or several files.
        columns: Columns of the files that the user gives a meaning.

    Raises:
        BenchmarkError: There is no such file, or the folder has none that can be read.
    """
    files: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            matches = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file.relative_to(path))]
        elif path.is_file():
            matches = [path]
        else:
            matches = sorted(file for file in Path(path.anchor or ".").glob(_relative(path)) if file.is_file())
        if not matches:
            problem = f"The folder {name} has no files" if path.is_dir() else f"There is no {name}"
            raise BenchmarkError(f"{problem}. Name a file of results, a folder or a pattern, such as 'logs/*.jsonl'.")
        files |= dict.fromkeys(matches)
    first = Path(names[0])
    folder = first if len(names) == 1 and first.is_dir() else _common_folder(list(files))
    return Source(" ".join(names), folder, tuple(sorted(files)), frozenset(columns))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _relative(pattern: Path) -> str:
    return str(pattern.relative_to(pattern.anchor)) if pattern.anchor else str(pattern)


def _common_folder(files: Sequence[Path]) -> Path:
    folder = files[0].parent
    while not all(file.is_relative_to(folder) for file in files):
        folder = folder.parent
    return folder


def format_of(source: Source, name: str | None = None) -> tuple[str, Format]:
    """Return name and format of some files: the one that is named, else the one that recognizes them, else the long one.

    Raises:
        BenchmarkError: There is no such format, or several recognize the files.
    """
    if name is not None:
        if name not in OUTCOMES:
            raise BenchmarkError(f"There is no format {name!r}; {did_you_mean(name, OUTCOMES)}.")
        return name, OUTCOMES[name]
    recognized = [name for name in OUTCOMES if name != LONG and OUTCOMES[name].recognizes(source)]
    if len(recognized) > 1:
        options = " or ".join(f"--format {name}" for name in recognized)
        raise BenchmarkError(f"{source.label} looks like several formats. Say which it is: {options}")
    name = recognized[0] if recognized else LONG
    return name, OUTCOMES[name]
