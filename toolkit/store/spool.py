"""The spool: finished batches that wait beside a cache for their commit, one file per batch, complete or absent.

Committing a batch twice changes nothing, so files are deleted only after the transaction that commits them.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from toolkit.core.errors import CacheError
from toolkit.core.files import atomic_path, sync_to_disk
from toolkit.store.rows import KEYS, Row

MERGED_ROWS = 20_000
"""Rows that are committed together, about."""


@dataclass
class Batch:
    """Rows that are committed in one transaction, or not at all."""

    generations: list[Row] = field(default_factory=list)
    nodes: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    embeddings: list[Row] = field(default_factory=list)


TABLES = tuple(column.name for column in fields(Batch))
"""Tables with rows in batches, in the order in which they are committed."""


def merge(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the rows of batches as few large batches, each key once: the first row of it, but errors are replaced."""
    merged: dict[str, dict[tuple[str, ...], Row]] = {table: {} for table in TABLES}
    for batch in batches:
        for table, rows_by_key in merged.items():
            for row in getattr(batch, table):
                key = tuple(str(row[column]) for column in KEYS[table])
                if key not in rows_by_key or rows_by_key[key].get("status") == "error":
                    rows_by_key[key] = row
        if sum(map(len, merged.values())) > MERGED_ROWS:
            yield _batch(merged)
            merged = {table: {} for table in TABLES}
    yield _batch(merged)


def _batch(rows: Mapping[str, Mapping[tuple[str, ...], Row]]) -> Batch:
    return Batch(**{table: list(rows[table].values()) for table in TABLES})


class Spool:
    """The folder of waiting batches; it exists only while batches wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """Return the waiting batches, oldest first."""
        return sorted(self.folder.glob("*.json"))

    def put(self, batch: Batch) -> None:
        """Write a batch so that it survives a kill of the process and a crash of the machine.

        Raises:
            CacheError: It cannot be written.
        """
        try:
            if not self.folder.exists():
                self.folder.mkdir(exist_ok=True)
                sync_to_disk(self.folder.parent)
            with atomic_path(self.folder / f"{time.time_ns()}-{os.getpid()}.json", sync=True) as draft:
                draft.write_text(json.dumps(vars(batch), default=str), "utf-8")
        except OSError as error:
            raise CacheError(
                f"A finished batch cannot be written to {self.folder}: {error.strerror}. Is the disk full? "
                "Everything committed or spooled before is safe."
            ) from None

    def read(self, file: Path) -> Batch | None:
        """Read a batch back; None if another process has committed it meanwhile.

        Raises:
            CacheError: The file is not a batch.
        """
        try:
            rows: dict[str, list[dict[str, Any]]] = json.loads(file.read_text("utf-8"))
            rows["generations"] = [row | {"created": datetime.fromisoformat(row["created"])} for row in rows["generations"]]
            for row in rows["nodes"]:  # batches spooled before schema 5
                if "dropped_answers" in row:
                    row["dropped_responses"] = row.pop("dropped_answers")
            return Batch(**rows)  # type: ignore[arg-type]  # a list of dicts is a list of rows
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise CacheError(
                f"{file} is not a spooled batch ({error}). Move it away and repeat the command; its content is generated again."
            ) from None

    def discard(self, files: Iterable[Path]) -> None:
        """Delete batches that are committed, and the folder with the last of them."""
        for file in files:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or not there
            self.folder.rmdir()
