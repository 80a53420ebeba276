"""Checks the files that a command is to write, so that what would fail at the end of long work fails before it."""

import os
import shlex
import stat
from importlib import import_module
from pathlib import Path

from toolkit.core.errors import ToolkitError
from toolkit.core.text import is_well_formed

CACHE_MAGIC = slice(8, 12), b"DUCK"
"""Where a DuckDB file says what it is."""
PICTURE_MAGIC = {".png": (b"\x89PNG",), ".pdf": (b"%PDF",), ".svg": (b"<?xml", b"<svg")}
"""How the picture formats that `check_figure` accepts begin."""

PAGE_MAGIC = (b"<!doctype html", b"<html", b"<!--")
"""How a web page begins."""


def check_output(path: Path, option: str = "--output", *, overwrite: bool = True) -> None:
    """Check that a file can be written, and that it takes the place of no folder, no cache and nothing that must stay.

    Args:
        path: The file; it need not exist. Pipes and devices are accepted.
        option: The option that names it.
        overwrite: Whether it may take the place of another file. A cache always stays.

    Raises:
        ToolkitError: It cannot be written.
    """
    mode = _mode(path, option)
    if path.suffix.lower() == ".duckdb" or _belongs_to_cache(path):
        raise ToolkitError(f"{option} {path} is named like a cache, which no output replaces. Name another file.")
    if mode is None:
        _check_folder_of(path, option)
    elif stat.S_ISDIR(mode):
        raise ToolkitError(f"{option} {path} is a folder. Name a file in it: {option} {path / 'NAME'}")
    elif not os.access(path, os.W_OK):
        raise ToolkitError(f"{option} {path} exists and may not be written. Name another file, or change its permissions.")
    elif stat.S_ISREG(mode) and _begins(path)[CACHE_MAGIC[0]] == CACHE_MAGIC[1]:
        raise ToolkitError(f"{option} {path} is a cache, which no output replaces. Name another file.")
    elif stat.S_ISREG(mode) and not overwrite:
        raise ToolkitError(f"{option} {path} exists already. Name another file, or overwrite it: --force")


def check_page(path: Path, option: str = "--output") -> None:
    """Check that a web page can be written: its name, its folder, and that it takes the place of nothing but a page.

    Raises:
        ToolkitError: It cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ToolkitError(f"{option} {path} does not end in .html. Use e.g. {option} {path.with_name(path.stem + '.html')}")
    check_output(path, option)
    begins = _begins(path) if path.is_file() else b""
    if begins and not begins.lower().startswith(PAGE_MAGIC):
        raise ToolkitError(f"{option} {path} exists and is not a web page. Name another file.")
    _check_library(option, "jinja2", "Jinja2")
    check_charts(option)


def check_charts(option: str) -> None:
    """Check that charts can be drawn.

    Raises:
        ToolkitError: A library is missing.
    """
    _check_library(option, "altair", "altair")
    _check_library(option, "vl_convert", "vl-convert-python")


def check_figure(path: Path, option: str = "--figure") -> None:
    """Check that a picture can be written: its format, its folder, and that it takes the place of nothing but a picture.

    Raises:
        ToolkitError: It cannot be written.
    """
    formats = ", ".join(PICTURE_MAGIC)
    if path.suffix.lower() not in PICTURE_MAGIC:
        raise ToolkitError(
            f"{option} {path} does not end in a known format: {formats}. Use e.g. {option} {path.with_name(path.stem + '.pdf')}"
        )
    check_output(path, option)
    begins = _begins(path) if path.is_file() else b""
    if begins and not begins.startswith(PICTURE_MAGIC[path.suffix.lower()]):
        raise ToolkitError(f"{option} {path} exists and is not a {path.suffix.lower()[1:]} picture. Name another file.")
    check_charts(option)


def _check_library(option: str, module: str, package: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        raise ToolkitError(
            f"{option} needs {package}, which cannot be imported ({error}). Install it: pip install {package}"
        ) from None


def check_folder(path: Path, option: str) -> None:
    """Check that a folder exists or can be made, and that files can be written to it.

    Raises:
        ToolkitError: They cannot.
    """
    mode, folder = _mode(path, option), path
    while mode is None and folder != folder.parent:
        folder = folder.parent
        mode = _mode(folder, option)
    if mode is None or not stat.S_ISDIR(mode):
        raise ToolkitError(f"{option} {path} cannot be a folder: {folder} is a file. Name another folder.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ToolkitError(f"{option} {path}: {folder} may not be written to. Name another folder, or change its permissions.")


def _check_folder_of(path: Path, option: str) -> None:
    mode = _mode(path.parent, option)
    if mode is None:
        raise ToolkitError(
            f"{option} {path}: there is no folder {path.parent}. Make it: mkdir -p {shlex.quote(str(path.parent))}"
        )
    check_folder(path.parent, option)


def _mode(path: Path, option: str) -> int | None:
    """Return the mode of a file or folder, None if there is none."""
    if not is_well_formed(str(path)):
        raise ToolkitError(f"{option} {path} is a name that is not UTF-8. Name another file.")
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a name that is too long, a loop of links, NUL
        raise ToolkitError(f"{option} {path} cannot be used: {getattr(error, 'strerror', None) or error}.") from None


def _belongs_to_cache(path: Path) -> bool:
    """Return whether a path is that of a log or a copy of blocks beside a cache."""
    if path.suffix not in (".wal", ".blocks"):
        return False
    cache = path.with_name(path.name.removeprefix(".")).with_suffix("")
    return cache.is_file() and _begins(cache)[CACHE_MAGIC[0]] == CACHE_MAGIC[1]


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:  # not for reading, but perhaps for writing
        return b""
