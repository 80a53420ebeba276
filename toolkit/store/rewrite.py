"""Rewrites a cache beside the old file and replaces the old file in one step: shared by migration, pruning and vacuum.

The old file is not touched before the last step, so an interruption leaves it unchanged. DuckDB's lock on it is held
throughout, so nobody commits to a file that is about to be replaced.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb

from toolkit.core.errors import CacheError
from toolkit.core.files import sync_to_disk
from toolkit.store.checkpoint import checkpoint
from toolkit.store.schema import STORAGE_VERSION

LOCK_LINGER_SECONDS = 0.2
"""Time that the lock is held after the replacement, so that a process which has opened the old file but not locked it yet is
refused, and opens the new file instead of writing to one that nobody will read."""
YOUNG_SECONDS = 60.0
"""Age below which a draft is not deleted: its process may not have locked it yet."""


def rewrite(
    con: duckdb.DuckDBPyConnection,
    path: Path,
    change: Callable[[duckdb.DuckDBPyConnection], None] = lambda con: None,
    backup: Path | None = None,
) -> None:
    """Copy a cache into a new, compact file, change the copy, and replace the old file with it.

    Args:
        con: A connection that holds the old file for writing; it is closed at the end.
        path: The old file.
        change: Changes the new file, whose database is the current one.
        backup: Unused path at which the old file is kept; None to delete it.

    Raises:
        CacheError: The copy differs from the original, or cannot be written. The original is unchanged.
    """
    path = path.resolve()  # a link to the file stays a link
    draft = draft_files(path)[0]
    file = path.open("rb")  # closed after `con`: closing a file gives up the process's lock on it
    try:
        checkpoint(con, file, path)  # so that the backup contains the write-ahead log
        _clear(draft)
        con.execute(f"ATTACH {quoted(draft)} AS draft (STORAGE_VERSION '{STORAGE_VERSION}')")
        old = str(con.execute("SELECT current_database()").fetchall()[0][0])
        con.execute(f'COPY FROM DATABASE "{old}" TO draft')
        if digests(con, old) != digests(con, "draft"):
            raise CacheError(f"The copy of {path} differs from the original, which is unchanged. Try again.")
        con.execute("USE draft")
        change(con)
        con.execute(f'CHECKPOINT draft; USE "{old}"; DETACH draft')
        shutil.copymode(path, draft)
        sync_to_disk(draft)
        if backup:
            _keep(path, backup)
        os.replace(draft, path)
        sync_to_disk(path.parent)
        time.sleep(LOCK_LINGER_SECONDS)
    except (OSError, duckdb.Error) as error:
        raise CacheError(
            f"The cache {path} cannot be rewritten: {error}. Is the disk full? Rewriting needs as much free space as the file "
            "takes. The original is unchanged."
        ) from None
    finally:
        with suppress(OSError):
            _clear(draft)
        con.close()
        file.close()


def draft_files(path: Path) -> list[Path]:
    """Return the paths of the new file that is about to replace a cache, first the file itself."""
    path = path.resolve()
    return database_files(path.with_name(f".{path.name}.draft"))  # one name is enough: the lock is held


def database_files(path: Path) -> list[Path]:
    """Return the file of a database and those that DuckDB keeps beside it."""
    return [path.with_name(path.name + suffix) for suffix in ("", ".wal", ".wal.recovery", ".wal.checkpoint")]


def remove_abandoned_drafts(path: Path) -> None:
    """Delete what killed processes have left beside a cache: new files that were never given its name.

    DuckDB locks a file while a process has it open; a draft without a lock that is no longer young belongs to nobody.
    """
    path = path.resolve()
    pattern = re.compile(rf"\.{re.escape(path.name)}\.([0-9a-f]{{8}}(\.wal)?|import-\w+)")
    with suppress(OSError):
        for draft in path.parent.iterdir():
            if pattern.fullmatch(draft.name) and _is_abandoned(draft):
                shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)


def _is_abandoned(draft: Path) -> bool:
    if draft.is_symlink() or time.time() - draft.stat().st_mtime < YOUNG_SECONDS:
        return False
    if draft.is_dir():
        return all(map(_is_abandoned, draft.iterdir()))
    if sys.platform == "win32" or draft.stat().st_nlink > 1:
        return True  # an open file cannot be deleted there; a second name of the cache is not opened, which would unlock it
    import fcntl

    try:
        with draft.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def digests(con: duckdb.DuckDBPyConnection, database: str) -> dict[str, tuple[int, int]]:
    """Return number of rows and sum of row hashes of every table of a database; the order of rows does not matter."""
    tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = ?", [database]).fetchall()
    return {
        table: con.execute(f'SELECT count(*), sum(hash(t)) FROM "{database}"."{table}" AS t').fetchall()[0]
        for (table,) in sorted(tables)
    }


def free_name(path: Path, content: Path) -> Path:
    """Return the path, or the first unused one of `path.2`, `path.3` ... if something else than `content` has that name."""
    number, free = 1, path
    while free.exists() and not free.samefile(content):
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def quoted(path: Path | str) -> str:
    """Write a path as a SQL literal."""
    return "'" + str(path).replace("'", "''") + "'"


def _keep(path: Path, backup: Path) -> None:
    if backup.exists() and backup.samefile(path):  # a previous call was interrupted right here
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
