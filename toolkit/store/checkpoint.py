"""Checkpoints that a kill cannot ruin.

DuckDB writes data to free blocks and then switches to them by its header, but it rewrites its metadata blocks in place, 256 KB
at a time, while the header in force still points there. A process killed in the middle of such a write (the system may stop it
at any page) leaves a block that is neither the old nor the new one, and a file that no longer opens. So a copy of these blocks
stands beside the file meanwhile. Whoever opens the file next puts it back, if the header is still the one of the copy: then
the old metadata is the right one, and the write-ahead log has what was committed since.
"""

import hashlib
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import duckdb

from toolkit.core.errors import CacheError

HEADERS = 3 * 4096
"""Bytes at the head of a file: the main header and two that take turns; block 0 follows."""
_NUMBERS = struct.Struct("<QQ")
_DIGEST = hashlib.sha256().digest_size


def copy_of(path: Path) -> Path:
    """Return the name of the copy of a file's metadata blocks, whatever link leads to the file."""
    path = path.resolve()
    return path.with_name(f"{path.name}.blocks")


def checkpoint(con: duckdb.DuckDBPyConnection, file: BinaryIO, path: Path) -> None:
    """Move what was committed from the write-ahead log into the file.

    Args:
        con: A connection that holds the file, and does not checkpoint by itself.
        file: The file, opened for reading after `con` and to be closed after it: closing it gives up this process's lock.
        path: The file's name.

    Raises:
        CacheError: The copy cannot be written; what was committed stays in the log.
    """
    copy = copy_of(path)
    draft = copy.with_name(f".{copy.name}")  # one name is enough: the lock is held
    try:
        with draft.open("wb") as out:
            out.write(_copied(con, file))
            out.flush()
            os.fsync(out.fileno())
        draft.rename(copy)
    except OSError as error:
        raise CacheError(f"{copy} cannot be written: {error}. Is the disk full? What is in the cache is safe.") from None
    con.execute("CHECKPOINT")
    copy.unlink(missing_ok=True)


def _copied(con: duckdb.DuckDBPyConnection, file: BinaryIO) -> bytes:
    sizes = con.execute("SELECT block_size FROM pragma_database_size() WHERE database_name = current_database()").fetchall()
    blocks = con.execute("SELECT DISTINCT block_id FROM pragma_metadata_info()").fetchall()
    size = int(sizes[0][0])
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    parts = [file.read(HEADERS)]
    for (block,) in blocks:
        at = HEADERS + int(block) * size
        if at + size <= end:  # one that is not in the file yet cannot be spoilt
            file.seek(at)
            parts += [_NUMBERS.pack(at, size), file.read(size)]
    content = b"".join(parts)
    return hashlib.sha256(content).digest() + content


def mend(path: Path) -> None:
    """Put a file's metadata blocks back where a process was killed while it rewrote them; does nothing anywhere else.

    Call it while this process has the file not open: it takes DuckDB's lock, and gives it up.
    """
    copy = copy_of(path)
    if not copy.exists():
        return
    with suppress(OSError), path.open("r+b") as file:  # held by a process at work, or not to be written: leave it
        if sys.platform != "win32":  # there, who has a file open excludes others
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept = copy.read_bytes()
        content = kept[_DIGEST:]
        whole = hashlib.sha256(content).digest() == kept[:_DIGEST]
        if whole and file.read(HEADERS) == content[:HEADERS]:
            place = HEADERS
            while place < len(content):
                at, size = _NUMBERS.unpack_from(content, place)
                file.seek(at)
                file.write(content[place + _NUMBERS.size : place + _NUMBERS.size + size])
                place += _NUMBERS.size + size
            file.flush()
            os.fsync(file.fileno())
        copy.unlink()
