"""Executes Python files that a user names or consents to, as modules of their own."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def execute_file(path: Path, source: bytes, name: str) -> ModuleType:
    """Execute the source of a Python file, never a compiled copy beside it, as a module that is registered while it lasts.

    Args:
        path: The file, for tracebacks and `__file__`.
        source: Its content, as read (and perhaps hashed or shown) before.
        name: Name of the module.

    Raises:
        Exception: Whatever the file raises; also `SystemExit`. Nothing stays registered then.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
