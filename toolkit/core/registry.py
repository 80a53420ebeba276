"""Extension points: named implementations that register themselves, or that installed packages declare as entry points.

The registries lie below everything that uses them, so that a suite file can be checked against the names that exist without
importing what they name. An implementation is imported when it is first asked for.
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

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers what it decorates.

        Raises:
            ValueError: Something else goes by that name.
        """

        def add(item: T) -> T:
            if name in self and self._loaded.get(name) is not item:
                raise ValueError(f"there is already a {self.kind} {name!r}; choose another name")
            self._loaded[name] = item
            return item

        return add

    def declare(self, name: str, reference: str) -> None:
        """Register `module:attribute`, which is imported when it is first asked for."""
        self._declared[name] = reference

    def __getitem__(self, name: str) -> T:
        """Return an implementation, imported now if need be; `KeyError` where there is none."""
        if name not in self._loaded:
            if name in self._declared:
                module, _, attribute = self._declared[name].partition(":")
                self._loaded[name] = getattr(importlib.import_module(module), attribute)
            else:
                self._loaded[name] = self._found()[name].load()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        """Yield all names: declared and registered ones first, in their order, then those of entry points."""
        return iter({**self._declared, **self._loaded, **self._found()})

    def __len__(self) -> int:
        """Return the number of names."""
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        """Tell whether a name is known; nothing is imported."""
        return name in self._loaded or name in self._declared or name in self._found()

    def _found(self) -> dict[str, EntryPoint]:
        if self._entry_points is None:
            self._entry_points = {point.name: point for point in entry_points(group=self.group)}
        return self._entry_points


ENGINES: Registry[Any] = Registry("engine", "toolkit.engines")
"""Classes that generate responses; `toolkit.engines` says what they look like."""
METRICS: Registry[Any] = Registry("metric", "toolkit.metrics")
"""`toolkit.tasks.Metric` objects."""
BENCHMARKS: Registry[Any] = Registry("benchmark", "toolkit.benchmarks")
"""`toolkit.tasks.Benchmark` objects."""
ALGORITHMS: Registry[Any] = Registry("algorithm", "toolkit.algorithms")
"""`toolkit.routing.Algorithm` objects: what `[train] algorithm` may name."""
BASELINES: Registry[Any] = Registry("baseline", "toolkit.baselines")
"""Functions that choose a path for every question, beside which a router is evaluated."""
