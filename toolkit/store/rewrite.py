"""A cache written anew beside the old file and put in its place in one step: what migration and vacuum share.

Until the last step the old file is not touched; whatever interrupts before that leaves it as it was. DuckDB's lock on it
is held throughout, so nobody commits to a file that is about to be replaced.
"""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb

from toolkit.core.errors import CacheError
from toolkit.store.checkpoint import checkpoint
from toolkit.store.schema import STORAGE_VERSION

LINGER = 0.2
"""Seconds that the lock is kept after the step: whoever had opened the old file, but not locked it yet, is refused and
opens the new one instead of writing to a file that nobody will read."""


def rewrite(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    change: Callable[[duckdb.DuckDBPyConnection], None] = lambda con: None,
    backup: Path | None = None,
) -> None:
    """Copy a cache into a new, compact file, change that, and put it in the place of the old one.

    Args:
        con: A connection that holds the old file for writing; it is closed.
        path: The old file.
        change: What is done to the new file, its database being the current one.
        backup: Name under which the old file stays, which must be free; without one it goes.

    Raises:
        CacheError: The copy is not what the original is, or cannot be written. The original is as it was.
    """
    path = path.resolve()  # a link to the file stays a link
    draft = path.with_name(f".{path.name}.draft")  # one name is enough: the lock is held
    file = path.open("rb")  # closed after `con`: closing a file gives up the process's lock on it
    try:
        checkpoint(con, file, path)  # what stands in a .wal belongs into the backup
        _clear(draft)
        con.execute(f"ATTACH {quoted(draft)} AS draft (STORAGE_VERSION '{STORAGE_VERSION}')")
        old = str(con.execute("SELECT current_database()").fetchall()[0][0])
        con.execute(f'COPY FROM DATABASE "{old}" TO draft')
        if digests(con, old) != digests(con, "draft"):
            raise CacheError(f"The copy of {path} is not what the original is; the original is left as it is. Try again.")
        con.execute("USE draft")
        change(con)
        con.execute(f'CHECKPOINT draft; USE "{old}"; DETACH draft')
        shutil.copymode(path, draft)
        _sync(draft)
        if backup:
            _keep(path, backup)
        os.replace(draft, path)
        _sync(path.parent)
        time.sleep(LINGER)
    except (OSError, duckdb.Error) as error:
        raise CacheError(
            f"The cache {path} cannot be written anew: {error}. Is the disk full? It takes as much room again as the file "
            "has. The original is left as it is."
        ) from None
    finally:
        with suppress(OSError):
            _clear(draft)
        con.close()
        file.close()


def digests(con: duckdb.DuckDBPyConnection, database: str) -> dict[str, tuple[int, int]]:
    """Return the number of rows of every table of a database and the sum of their hashes, whatever their order."""
    tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [database]).fetchall()
    return {
        table: con.execute(f'SELECT count(*), sum(hash(t)) FROM "{database}"."{table}" AS t').fetchall()[0]
        for (table,) in sorted(tables)
    }


def free_name(path: Path, content: Path) -> Path:
    """Return the path itself or, where something else than `content` has that name, the first free of `path.2`, `path.3` ..."""
    number, found = 1, path
    while found.exists() and not found.samefile(content):
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found


def quoted(path: Path) -> str:
    """Write a path as a SQL literal."""
    return "'" + str(path).replace("'", "''") + "'"


def _keep(path: Path, backup: Path) -> None:
    if backup.exists() and backup.samefile(path):  # interrupted just here, last time
        return
    try:
        os.link(path, backup)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.rename(path, backup)


def _clear(draft: Path) -> None:
    for file in (draft, draft.with_name(draft.name + ".wal")):
        file.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable; where folders cannot be opened (Windows), the rename has to do."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
