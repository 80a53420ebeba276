"""Cache-first offline benchmark toolkit for hierarchical routing between language models."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Bring in `Cache` when it is asked for, so that `import toolkit` stays instant."""
    if name == "Cache":
        from importlib import import_module

        return import_module("toolkit.store").Cache
    raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
