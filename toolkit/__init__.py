"""Cache-first offline benchmark toolkit for hierarchical routing between language models."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_MOVED = {
    "toolkit.benchmark": "toolkit.tasks",
    "toolkit.data": "toolkit.tasks.data",
    "toolkit.env": "toolkit.replay.environments",
    "toolkit.features": "toolkit.routing.networks",
    "toolkit.learn": "toolkit.routing.exact_gradient",
    "toolkit.ppo": "toolkit.routing.ppo",
}
"""Modules of version 0.1 that benchmark files, user code and saved policies refer to, and where they are now."""


def __getattr__(name: str) -> Any:
    """Import `Cache` on first use, so that `import toolkit` stays instant."""
    if name == "Cache":
        return import_module("toolkit.store").Cache
    raise AttributeError(f"module 'toolkit' has no attribute {name!r}")


class _MovedModules(MetaPathFinder, Loader):
    """Imports the modules of `_MOVED` under their old names."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(_MOVED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec; it was executed under its new name."""
        assert module.__spec__
        module.__spec__ = module.__spec__.loader_state


sys.meta_path.append(_MovedModules())
