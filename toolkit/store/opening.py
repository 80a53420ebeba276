"""Opens a cache file: waits for processes that hold it, limits what the connection can access, and checks what the file is.

Knows nothing of transactions, and of the rows only the version of the schema.
"""

import glob
import logging
import os
import re
import shlex
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import duckdb

from toolkit import __version__
from toolkit.core.commands import command
from toolkit.core.errors import CacheBusyError, CacheError
from toolkit.core.files import kind_of
from toolkit.store.checkpoint import copy_of, draft_of, repair
from toolkit.store.foreign import check_objects, check_tables, objects_of
from toolkit.store.rewrite import database_files, draft_files, quoted
from toolkit.store.rows import first_row
from toolkit.store.schema import SCHEMA_VERSION

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two attempts to open a held file."""

logger = logging.getLogger("toolkit")

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) ?\(PID (?P<pid>\d+)\)")
_DAMAGE = re.compile(r"read enough bytes|[Cc]orrupt|checksum|INTERNAL Error|FATAL Error|Serialization Error")
"""What DuckDB reports of a damaged file, as opposed to a wrong query."""
_READ_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
"""Opening a file neither downloads nor loads an extension."""
_WRITE_CONFIG = _READ_CONFIG | {"wal_autocheckpoint": "1TB"}
"""`checkpoint` alone decides when a commit moves from the write-ahead log into the file."""

FileState = tuple[int, int, int]
"""Inode, size and modification time: another state means that somebody has written to the file."""
_CHECKED: dict[Path, FileState] = {}
"""State in which a file was found to hold what its schema defines, so that each file is checked once."""


def open_cache(
    path: Path,
    wait: float,
    allowed: Sequence[Path] = (),
    *,
    read_only: bool = True,
    rows_only: bool = False,
    spills: bool = True,
) -> tuple[duckdb.DuckDBPyConnection, int]:
    """Open a cache of any schema, waiting for processes that hold it; return the connection and the schema's version.

    Args:
        path: The file.
        wait: Longest time, in seconds, to wait for a process that holds it.
        allowed: Folders and databases that the connection may open too; it can access no other file.
        read_only: Whether only to read.
        rows_only: Whether to accept foreign views and macros, because only tables will be read, by their full names.
        spills: Whether queries that fill the memory may use temporary files beside the cache.

    Raises:
        CacheError: There is no file, or it is not a cache, or it is damaged, foreign or too new.
        CacheBusyError: Another process held it for longer than `wait` seconds.
    """
    kind = kind_of(path)
    if kind == "nothing":
        raise CacheError(f"There is no cache {path}. Create it with: {command('generate', 'SUITE', cache=path)}")
    if kind != "a file":
        raise CacheError(f"{path} is {kind}, not a cache. Name another file with --cache FILE.")
    _check_beside(path)
    con = _connect(path, wait, read_only)
    try:
        if not spills:
            with suppress(duckdb.Error):  # another connection of this process shares the setting
                con.execute("SET temp_directory = ''")
        limit_files(con, path, [*allowed, *([] if read_only else draft_files(path))])
        if not read_only:
            con.execute("PRAGMA disable_checkpoint_on_shutdown")
        return con, _check(con, path, rows_only)
    except BaseException:
        con.close()
        raise


def _check_beside(path: Path) -> None:
    """Check that what lies beside a cache and belongs to it are files of their own: a link would be written through.

    Raises:
        CacheError: One leads elsewhere, or is no file.
    """
    file = path.resolve()
    copy = copy_of(file)
    logs = [file.with_name(f"{file.name}.wal{suffix}") for suffix in ("", ".checkpoint", ".recovery")]
    for beside in (*logs, copy, draft_of(copy)):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(beside).st_mode):
                raise CacheError(
                    f"{beside}, which belongs to the cache {path}, is a link or no file at all, and would be read or written "
                    f"through. Somebody may have put it there; delete it: rm {shlex.quote(str(beside))}"
                )


def _connect(path: Path, wait: float, read_only: bool) -> duckdb.DuckDBPyConnection:
    deadline, pause, warned = time.monotonic() + wait, FIRST_PAUSE, False
    while True:
        repair(path)
        try:
            return duckdb.connect(str(path), read_only=read_only, config=_READ_CONFIG if read_only else _WRITE_CONFIG)
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            holder = _holder(str(error))
            if holder is None:
                raise _unreadable(path, error) from None
            if time.monotonic() > deadline:
                raise _busy(path, holder, wait) from None
            if not warned and time.monotonic() > deadline - wait + 1:
                warned = True
                logger.warning("waiting for %s, which holds %s (at most %.0f s)", holder, path, wait)
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        except duckdb.Error as error:
            raise _unreadable(path, error) from None


def limit_files(con: duckdb.DuckDBPyConnection, path: Path, allowed: Sequence[Path]) -> None:
    """Limit a connection to its own file and the given ones, before anything of the file runs.

    Raises:
        CacheBusyError: It shares its file with another connection of this process, which is limited already.
    """
    folders = [name for file in allowed if file.is_dir() for name in (str(file), glob.escape(str(file)))]  # as queries spell it
    files = [beside for file in allowed if not file.is_dir() for beside in database_files(file)]
    try:
        if folders:
            con.execute(f"SET allowed_directories = [{', '.join(map(quoted, folders))}]")
        if files:
            con.execute(f"SET allowed_paths = [{', '.join(map(quoted, files))}]")
    except duckdb.InvalidInputException:
        raise _busy(path, "another connection of this process", 0) from None
    try:
        con.execute("SET enable_external_access = false")
    except duckdb.InvalidInputException:  # locked by another connection of this process, after the same limit
        query = "SELECT value FROM system.main.duckdb_settings() WHERE name = 'enable_external_access'"
        if con.execute(query).fetchall() != [("false",)]:
            raise


def _check(con: duckdb.DuckDBPyConnection, path: Path, rows_only: bool) -> int:
    """Check what the file holds before anything is read from it; return the version of its schema.

    Raises:
        CacheError: It is not a cache, or it holds foreign objects.
    """
    file, state = path.resolve(), state_of(path)
    if _CHECKED.get(file) == state and not _has_log(file):
        return SCHEMA_VERSION
    try:
        objects = objects_of(con)
        check_tables(objects, path, of_today=False)
        version = _schema_version(con, path) if ("table", "meta") in objects else None
        if version is None:
            raise CacheError(
                f"{path} is a DuckDB file, but not a cache of this toolkit. It is left as it is; "
                "name another file with --cache FILE."
            )
        is_current = version == SCHEMA_VERSION
        check_tables(objects, path, of_today=is_current)
        if not rows_only:
            check_objects(objects, path, of_today=is_current)
    except duckdb.Error as error:
        raise damaged(path, error) from None
    if is_current and not rows_only:
        remember_checked(path, state)
    return version


def _schema_version(con: duckdb.DuckDBPyConnection, path: Path) -> int | None:
    row = first_row(con, "SELECT value FROM meta WHERE key = 'schema_version'")
    if row is None or not re.fullmatch(r"[1-9][0-9]{0,8}", str(row[0])):
        return None
    version = int(row[0])
    if version > SCHEMA_VERSION:
        raise CacheError(
            f"{path} has schema version {version}; this toolkit ({__version__}) knows up to {SCHEMA_VERSION}. "
            "Update the toolkit: git pull in its clone, or install the newest release."
        )
    return version


def remember_checked(path: Path, state: FileState | None = None) -> None:
    """Remember that a file is what it should be in this state, by default the present one, so as not to check it again."""
    file = path.resolve()
    if not _has_log(file):  # what a log adds has to be checked each time
        _CHECKED[file] = state or state_of(file)


def _has_log(file: Path) -> bool:
    return file.with_name(f"{file.name}.wal").exists()


def state_of(path: Path) -> FileState:
    """Return the state of a file."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def is_damage(error: Exception) -> bool:
    """Return whether an error of DuckDB means that the file is damaged."""
    return _DAMAGE.search(str(error)) is not None


def damaged(path: Path, error: Exception) -> CacheError:
    """Return the error of a file that is damaged."""
    return CacheError(
        f"The cache {path} is damaged: {str(error).splitlines()[0]} It is left as it is. "
        "Use a copy or a backup instead; toolkit cache list shows what lies beside the file."
    )


def _unreadable(path: Path, error: Exception) -> CacheError:
    reason = str(error).splitlines()[0]
    return CacheError(
        f"The file {path} cannot be opened as a cache: {reason} It is left as it is; name another file with --cache FILE."
    )


def _busy(path: Path, holder: str, wait: float) -> CacheBusyError:
    return CacheBusyError(
        f"The cache {path} is held by {holder}; waited {wait:.0f} s. "
        "Close the connection there (a notebook keeps it open until it is closed), then repeat the command."
    )


def _holder(message: str) -> str | None:
    match = _HOLDER.search(message)
    if match:
        return f"process {match['pid']} ({Path(match['program']).name or 'unknown program'})"
    if "different configuration" in message:
        return "another connection of this process"
    if "Could not set lock" in message or "being used by another process" in message:
        return "another process"
    return None
