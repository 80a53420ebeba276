"""Imports the classes that settings name: `package.module.Class` or `file.py:Class`. Their code runs."""

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from toolkit.core.modules import execute_file
from toolkit.core.text import printable


def import_class(reference: str) -> object:
    """Import a class.

    Args:
        reference: `package.module.Class`, of an installed package or of a file in the current folder; or `FILE.py:Class`.

    Raises:
        Exception: Whatever the module raises; also `SystemExit`.
    """
    file, _, attribute = reference.rpartition(":")
    if file.endswith(".py"):
        return getattr(_import_file(Path(file)), attribute)
    module, _, attribute = reference.rpartition(".")
    with current_folder_importable():
        return getattr(importlib.import_module(module), attribute)


def is_reference(text: str) -> bool:
    """Return whether a text has the form of a reference to a class."""
    file, _, attribute = text.rpartition(":")
    if file:
        return file.endswith(".py") and attribute.isidentifier()
    return "." in text and all(part.isidentifier() for part in text.split("."))


def described(item: object) -> str:
    """Say what kind of object was imported, or what an import has raised."""
    if isinstance(item, BaseException):
        return printable(f"{type(item).__name__}: {item}")
    if isinstance(item, type):
        abstract = "abstract " if inspect.isabstract(item) else ""
        return f"the {abstract}class {item.__module__}.{item.__qualname__}"
    return f"a {type(item).__name__}"


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Let modules of the current folder be imported, after all others; a console script cannot otherwise import them."""
    path = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = path


def _import_file(file: Path) -> ModuleType:
    """Import a file as a module of its name, once per process: workers find it by its file again."""
    name = f"toolkit_file_{file.stem}"
    module = sys.modules.get(name)
    if module is not None and module.__file__ == str(file.resolve()):
        return module
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    return execute_file(file.resolve(), file.read_bytes(), name)
