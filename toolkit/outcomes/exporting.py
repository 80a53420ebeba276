"""Exports the results of a suite in formats that other tools read. `EXPORTS` lists the formats; each is one function.

A file or folder is complete or not there. Nothing is overwritten unless the caller says so, and a folder never.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import SuiteError, ToolkitError, did_you_mean
from toolkit.core.files import atomic_path, used_folder_problem
from toolkit.outcomes.export_dataset import write_dataset
from toolkit.outcomes.export_llmrouterbench import write_llmrouterbench
from toolkit.outcomes.export_long import write_long
from toolkit.outcomes.export_routerbench import write_routerbench
from toolkit.outcomes.writing import CSV, JSON_LINES, PARQUET

if TYPE_CHECKING:
    from toolkit.outcomes.suite_results import SuiteResults


@dataclass(frozen=True)
class FileExport:
    """A format that is one file.

    Attributes:
        title: What it is, for `--help`.
        endings: How the name of the file may end; the first one is the default.
        write: Writes results to a file, in the format of an ending.
    """

    title: str
    endings: tuple[str, ...]
    write: "Callable[[SuiteResults, Path, str], None]"

    def ending_of(self, path: Path) -> str:
        """Return the ending of a file's name.

        Raises:
            SuiteError: The format has no such files.
        """
        for ending in self.endings:
            if path.name.lower().endswith(ending):
                return ending
        raise SuiteError(f"{path} does not end in a known format: {', '.join(self.endings)}. Name another file.")


@dataclass(frozen=True)
class FolderExport:
    """A format that is a folder.

    Attributes:
        title: What it is, for `--help`.
        write: Writes results into an existing folder.
    """

    title: str
    write: "Callable[[SuiteResults, Path], None]"


EXPORTS: Mapping[str, FileExport | FolderExport] = {
    "long": FileExport("one row per response, which `toolkit import` reads", PARQUET + CSV + JSON_LINES, write_long),
    "routerbench": FileExport("RouterBench's table, one row per question", CSV + PARQUET, write_routerbench),
    "llmrouterbench": FolderExport("LLMRouterBench's folder", write_llmrouterbench),
    "dataset": FolderExport("a folder that datasets.load_dataset loads, with a card", write_dataset),
}
"""The formats by name; to add one, write its function and add a line."""


def export_format(name: str) -> FileExport | FolderExport:
    """Return the format of a name.

    Raises:
        SuiteError: There is none.
    """
    if name not in EXPORTS:
        raise SuiteError(f"There is no format {name!r} to export; {did_you_mean(name, EXPORTS)}.")
    return EXPORTS[name]


def default_output(suite: str, name: str) -> Path:
    """Return the file or folder, in the current folder, that a format of a suite is exported to."""
    writer = export_format(name)
    return Path(f"{suite}-{name}{writer.endings[0] if isinstance(writer, FileExport) else ''}")


def check_export(name: str, path: Path) -> None:
    """Check, before anything is read, that a file has an ending of the format, or that a folder is new or empty.

    Raises:
        SuiteError: There is no such format, or no such ending.
        ToolkitError: The folder has files.
    """
    writer = export_format(name)
    if isinstance(writer, FileExport):
        writer.ending_of(path)
    elif problem := used_folder_problem(path):
        raise ToolkitError(problem)


def export_results(results: "SuiteResults", name: str, path: Path, *, overwrite: bool = False) -> None:
    """Write the results of a suite.

    Args:
        results: The results.
        name: Name of the format.
        path: The file or folder.
        overwrite: Whether to replace an existing file.

    Raises:
        SuiteError: The format cannot express the suite, or has no such file.
        ToolkitError: The folder has files, or the disk refuses the export.
    """
    check_export(name, path)
    writer = export_format(name)
    try:
        with atomic_path(path, overwrite=overwrite) as draft:
            if isinstance(writer, FileExport):
                writer.write(results, draft, writer.ending_of(path))
            else:
                draft.mkdir()
                writer.write(results, draft)
    except OSError as error:
        raise ToolkitError(f"{path} cannot be written: {error}. Does its folder exist, and is the disk full?") from None
