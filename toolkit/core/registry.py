"""Extension points: implementations by name, which register themselves, are declared, or are entry points of packages.

The registries lie below everything that uses them, so that a suite file can be checked against the existing names without
importing any implementation. An implementation is imported when it is first used.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The implementations of one extension point, by name.

    Args:
        kind: What is registered, for messages, e.g. `engine`.
        group: Group of the entry points, e.g. `toolkit.engines`.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._loaded: dict[str, T] = {}
        self._declared: dict[str, str] = {}
        self._entry_points: dict[str, EntryPoint] | None = None

    def register(self, name: str, *, replace: bool = False) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates.

        Args:
            name: The name.
            replace: Whether it takes the place of an implementation of the same name.

        Raises:
            ValueError: Another implementation has that name.
        """

        def add(item: T) -> T:
            if name in self and self._loaded.get(name) is not item and not replace:
                raise ValueError(f"the name {name!r} is taken by another {self.kind}; choose another name")
            self._loaded[name] = item
            return item

        return add

    def declare(self, name: str, reference: str) -> None:
        """Register `module:attribute`, which is imported when it is first used."""
        self._declared[name] = reference

    def __getitem__(self, name: str) -> T:
        """Return an implementation, imported now if necessary.

        Raises:
            KeyError: There is none of that name.
        """
        if name not in self._loaded:
            if name in self._declared:
                module, _, attribute = self._declared[name].partition(":")
                self._loaded[name] = getattr(importlib.import_module(module), attribute)
            else:
                self._loaded[name] = self._installed()[name].load()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Yield all names, whatever was imported before: declared ones, those of entry points, then registered ones."""
        return iter({**self._declared, **self._installed(), **self._loaded})

    def __len__(self) -> int:
        """Return the number of names."""
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Return whether there is an implementation of that name; nothing is imported."""
        return name in self._loaded or name in self._declared or name in self._installed()

    def name_of(self, item: T) -> str:
        """Return the name of an implementation.

        Raises:
            KeyError: It is not registered.
        """
        reference = f"{getattr(item, '__module__', '')}:{getattr(item, '__qualname__', '')}"
        references = {**{point.name: point.value for point in self._installed().values()}, **self._declared}
        for name in self:
            if self._loaded.get(name) is item or references.get(name) == reference:
                return name
        raise KeyError(f"{item!r} is no registered {self.kind}")

    def _installed(self) -> dict[str, EntryPoint]:
        if self._entry_points is None:
            self._entry_points = {point.name: point for point in sorted(entry_points(group=self.group))}
        return self._entry_points


ENGINES: Registry[Any] = Registry("engine", "toolkit.engines")
"""Classes that generate responses; `toolkit.engines.base.EngineClass` says what they look like."""
ENGINE_SETTINGS: Registry[Any] = Registry("table of engine settings", "toolkit.engine_settings")
"""Pydantic models of the tables `[engine.NAME]` of a suite file."""
METRICS: Registry[Any] = Registry("metric", "toolkit.metrics")
"""`toolkit.tasks.Metric` objects."""
BENCHMARKS: Registry[Any] = Registry("benchmark", "toolkit.benchmarks")
"""`toolkit.tasks.Benchmark` objects."""
ALGORITHMS: Registry[Any] = Registry("algorithm", "toolkit.algorithms")
"""`toolkit.routing.algorithms.Algorithm` objects: what `[train] algorithm` may name."""
BASELINES: Registry[Any] = Registry("baseline", "toolkit.baselines")
"""`toolkit.routing.baselines.Baseline` objects: what a router is evaluated beside."""
OUTCOMES: Registry[Any] = Registry("format of results", "toolkit.outcomes")
"""`toolkit.outcomes.formats.Format` objects: formats that results of other people's benchmarks are read from."""
