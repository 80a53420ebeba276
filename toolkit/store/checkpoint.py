"""Checkpoints that survive a kill.

DuckDB writes data to free blocks and then switches to them through its header, but it rewrites its metadata blocks in place,
256 KB at a time, while the current header still points to them. A process killed in the middle of such a write (the system may
stop it at any page) leaves a block that is neither the old nor the new one, and a file that no longer opens. Therefore a copy
of these blocks lies beside the file during a checkpoint. The next process that opens the file restores them, if the header is
still that of the copy: then the old metadata is valid, and the write-ahead log holds what was committed since.
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
"""Bytes before block 0: the main header, and two database headers that take turns."""
_BLOCK_HEAD = struct.Struct("<QQ")
_DIGEST_SIZE = hashlib.sha256().digest_size


def copy_of(path: Path) -> Path:
    """Return the path of the copy of a file's metadata blocks; links to the file are resolved."""
    path = path.resolve()
    return path.with_name(f"{path.name}.blocks")


def draft_of(copy: Path) -> Path:
    """Return the path at which a copy is written; one name is enough, because the file's lock is held."""
    return copy.with_name(f".{copy.name}")


def checkpoint(con: duckdb.DuckDBPyConnection, file: BinaryIO, path: Path) -> None:
    """Move committed data from the write-ahead log into the file.

    Args:
        con: A connection that holds the file and does not checkpoint on its own.
        file: The file, opened for reading after `con`, to be closed after it: closing it releases this process's lock.
        path: The file's path.

    Raises:
        CacheError: The copy cannot be written; committed data stays in the log.
    """
    copy = copy_of(path)
    draft = draft_of(copy)
    try:
        draft.unlink(missing_ok=True)
        with draft.open("xb") as out:  # never through a link
            out.write(_metadata_copy(con, file))
            out.flush()
            os.fsync(out.fileno())
        draft.rename(copy)
    except OSError as error:
        raise CacheError(f"{copy} cannot be written: {error}. Is the disk full? Everything in the cache is safe.") from None
    con.execute("CHECKPOINT")
    copy.unlink(missing_ok=True)


def _metadata_copy(con: duckdb.DuckDBPyConnection, file: BinaryIO) -> bytes:
    sizes = con.execute("SELECT block_size FROM pragma_database_size() WHERE database_name = current_database()").fetchall()
    blocks = con.execute("SELECT DISTINCT block_id FROM pragma_metadata_info()").fetchall()
    size = int(sizes[0][0])
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    parts = [file.read(HEADERS)]
    for (block,) in blocks:
        at = HEADERS + int(block) * size
        if at + size <= end:  # a block that is not in the file yet cannot be damaged
            file.seek(at)
            parts += [_BLOCK_HEAD.pack(at, size), file.read(size)]
    content = b"".join(parts)
    return hashlib.sha256(content).digest() + content


def repair(path: Path) -> None:
    """Restore a file's metadata blocks if a process was killed while it rewrote them; otherwise do nothing.

    Call it only while this process does not have the file open: it takes DuckDB's lock and releases it.
    """
    copy = copy_of(path)
    if not copy.exists():
        return
    with suppress(OSError), path.open("r+b") as file:  # leave it if another process holds it, or if it is read-only
        if sys.platform != "win32":  # there, an open file excludes other processes
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        saved = copy.read_bytes()
        content = saved[_DIGEST_SIZE:]
        intact = hashlib.sha256(content).digest() == saved[:_DIGEST_SIZE]
        if intact and file.read(HEADERS) == content[:HEADERS]:
            for at, block in _blocks(content, file.seek(0, os.SEEK_END)):
                file.seek(at)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        copy.unlink()


def _blocks(content: bytes, end: int) -> list[tuple[int, bytes]]:
    """Return place and bytes of the blocks of a copy; none unless all of them lie within the file."""
    blocks, place = [], HEADERS
    while place + _BLOCK_HEAD.size <= len(content):
        at, size = _BLOCK_HEAD.unpack_from(content, place)
        place += _BLOCK_HEAD.size + size
        blocks.append((at, content[place - size : place]))
        if place > len(content) or at < HEADERS or at + size > end:
            return []
    return blocks if place == len(content) else []
