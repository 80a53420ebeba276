"""Files: hashes of their content, and writes that other processes see whole or not at all."""

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.core.text import is_well_formed

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def content_sha256(path: Path, counts: Callable[[str], bool] = lambda name: True) -> str:
    """Return the SHA-256 of a file, or of a folder as the hash of its sorted `sha256  name` lines.

    Names are relative to the folder, so moving it changes nothing. Hidden files and bytecode do not count.

    Args:
        path: The file or folder.
        counts: Whether a file below a folder counts, given its name relative to the folder.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith((".", "__pycache__")) for part in file.relative_to(path).parts)
    )
    listing = "".join(f"{content_sha256(path / name)}  {name}\n" for name in names if counts(name))
    return hashlib.sha256(listing.encode()).hexdigest()


@contextmanager
def atomic_path(path: Path, *, sync: bool = False, overwrite: bool = True) -> Iterator[Path]:
    """Yield the path of a draft beside `path`, which takes the place of `path` when the block ends.

    The block creates the draft, as a file or as a folder. If it raises, the draft is deleted and `path` stays as it was.

    Args:
        path: The file or folder to write; its parent folder must exist. A folder can only take the place of an empty one.
        sync: Whether to flush a draft file and the folder to the disk, so that the write survives a crash of the machine.
        overwrite: Whether to replace an existing file. If not, the first of several processes wins, and the others' drafts go.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield draft
        if sync and draft.is_file():
            sync_to_disk(draft)
        if overwrite:
            if draft.is_dir() and path.is_dir():
                path.rmdir()  # fails unless it is empty
            draft.replace(path)
        else:
            _rename_unless_exists(draft, path)
        if sync:
            sync_to_disk(path.parent)
    finally:
        with contextlib.suppress(OSError):  # a read-only folder refuses even that
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)


def _rename_unless_exists(draft: Path, path: Path) -> None:
    if draft.is_dir():
        try:
            draft.rename(path)
        except OSError:  # another process was first
            if not path.exists():
                raise
        return
    try:
        os.link(draft, path)  # fails if another process was first, and never overwrites
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            draft.rename(path)


def sync_to_disk(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk; does nothing where folders cannot be opened (Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def used_folder_problem(folder: Path) -> str | None:
    """Return why an export cannot have a folder, as a message, or None if it is new or empty."""
    if (kind := kind_of(folder)) not in ("a folder", "nothing"):
        return f"{folder} is {kind}, not a new folder for the export. Name another one."
    if kind == "a folder" and any(folder.iterdir()):
        return f"The folder {folder} is not empty and is left as it is. Name a new folder."
    return None


def kind_of(path: Path) -> str:
    """Return "a file", "nothing", or what else a path leads to; nothing is opened, because a named pipe would block."""
    if not is_well_formed(str(path)) or "\0" in str(path):
        return "no name that a file can have"
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "a file")
    except FileNotFoundError:
        return "nothing"
    except OSError as error:
        return f"not accessible ({error.strerror})"
