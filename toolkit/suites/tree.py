"""Which paths of a suite exist: all of them, or those that its table `[tree]` leaves (pure).

A tree consists of complete paths, of as many models as the suite has hops, and of their prefixes. Its nodes keep the numbers
that they have in the complete tree (`toolkit.core.tree`).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from pydantic import Field

from toolkit.core import tree
from toolkit.core.errors import did_you_mean
from toolkit.suites.section import Section

MAX_NODES = 1_000_000
"""Most nodes of one question's tree: each is a generation."""
MAX_NUMBERS = 10_000_000
"""Most nodes that the complete tree may have, whose numbers a tree uses: replay holds a place for each."""


class TreeConfig(Section):
    """Which paths of models exist: those that satisfy every field, and their prefixes. No router can choose another one."""

    repeat: bool = Field(True, description="Whether a model may respond more than once on a path.")
    first: tuple[str, ...] | None = Field(
        None, description='The models that may respond at the first hop, e.g. ["small"]: short for hops = { 1 = [...] }.'
    )
    hops: dict[str, tuple[str, ...]] = Field(
        {},
        description="The models that may respond at a hop, by its number from 1; the whole pool at hops that are not named, "
        'e.g. { 2 = ["small", "large"], 3 = ["large"] }.',
    )
    paths: tuple[tuple[str, ...], ...] | None = Field(
        None,
        description='The complete paths, e.g. [["small", "large"], ["large", "small"]]: each has as many models as there are '
        "hops. Default: all.",
    )

    @property
    def pools(self) -> dict[str, tuple[str, ...]]:
        """The models that may respond at a hop, by its number, where not the whole pool may."""
        return self.hops | ({} if self.first is None else {"1": self.first})


@dataclass(frozen=True)
class PathTree:
    """The nodes of one question's tree.

    Attributes:
        n_models: Size of the pool M.
        horizon: Number of hops L.
        numbers: Numbers of the nodes that exist, ascending, the root included; None if all do.
    """

    n_models: int
    horizon: int
    numbers: tuple[int, ...] | None = None

    @property
    def n_nodes(self) -> int:
        """Number of nodes, the root left out."""
        return self.n_complete if self.numbers is None else len(self.numbers) - 1

    @property
    def n_complete(self) -> int:
        """Number of nodes of the complete tree, the root left out."""
        return tree.n_nodes(self.n_models, self.horizon) - 1

    @cached_property
    def _existing(self) -> frozenset[int]:
        return frozenset(self.numbers or ())

    def has(self, path: tree.Path) -> bool:
        """Return whether the node of a path exists."""
        return self.numbers is None or tree.node_of(path, self.n_models) in self._existing

    def paths(self) -> Iterator[tuple[int, tree.Path]]:
        """Yield number and path of every node, the root included, in ascending order."""
        numbers = range(self.n_complete + 1) if self.numbers is None else self.numbers
        return ((number, tree.path_of(number, self.n_models)) for number in numbers)

    def count(self) -> Counter[tuple[int, int]]:
        """Count the nodes by depth and last model, `(depth, position in the pool)`."""
        if self.numbers is None:
            hops, models = range(1, self.horizon + 1), range(self.n_models)
            return Counter({(depth, model): self.n_models ** (depth - 1) for depth in hops for model in models})
        return Counter((len(path), path[-1]) for _, path in self.paths() if path)


def path_tree(names: Sequence[str], horizon: int, config: TreeConfig, limit: int | None = None) -> PathTree:
    """Return the tree that a suite's table `[tree]` leaves of the complete one.

    Args:
        names: Names of the pool, in order.
        horizon: Number of hops L.
        config: The table, without mistakes (`tree_mistake`).
        limit: Number of complete paths after which to stop; None for all.
    """
    if config == TreeConfig():
        return PathTree(len(names), horizon)
    numbers = {0}
    for path in islice(_complete_paths(names, horizon, config), limit):
        numbers.update(tree.node_of(path[:depth], len(names)) for depth in range(1, horizon + 1))
    is_complete = len(numbers) == tree.n_nodes(len(names), horizon)
    return PathTree(len(names), horizon, None if is_complete else tuple(sorted(numbers)))


def tree_mistake(names: Sequence[str], horizon: int, config: TreeConfig) -> tuple[str, str] | None:
    """Return the field of `[tree]` that has a mistake, and what is wrong; None if there is none."""
    if config.first is not None and "1" in config.hops:
        return "first", "the models of hop 1 are named twice, in first and in hops; leave one out"
    if config.first is not None and (mistake := _pool_mistake("first", config.first, names)):
        return "first", mistake
    for hop, models in config.hops.items():
        if hop not in map(str, range(1, horizon + 1)):
            return "hops", f"there is no hop {hop!r}; the suite has hops 1 to {horizon}"
        if mistake := _pool_mistake(f"hop {hop}", models, names):
            return "hops", mistake
    if config.paths is not None and not config.paths:
        return "paths", "there is no path; list some, or leave the field out for all"
    for path in config.paths or ():
        if mistake := _list_mistake("a path", path, names):
            return "paths", mistake
        if len(path) != horizon:
            return "paths", (
                f"the path {' > '.join(path)} has {len(path)} models, and the suite has {horizon} hops: name one model for "
                "each hop. Routers may end earlier if allow_stop is true in [train]"
            )
    if len(set(config.paths or ())) < len(config.paths or ()):
        return "paths", "a path is listed twice"
    return _size_mistake(names, horizon, config)


def ruled_out(names: Sequence[str], horizon: int, config: TreeConfig) -> list[str]:
    """Say what the tree leaves out although the suite names it: listed paths, and models of the pool; one sentence each."""
    notices = []
    exists = path_tree(names, horizon, config)
    paths = [path for path in config.paths or () if not exists.has(tuple(map(names.index, path)))]
    if paths:
        listed = len(config.paths or ())
        notices.append(f"Of {listed} paths in [tree], {len(paths)} do not satisfy its other fields and are left out.")
    used = {model for _, model in exists.count()}
    unused = [name for model, name in enumerate(names) if model not in used]
    if unused:
        notices.append(f"On no path of [tree], and so never asked: {', '.join(unused)}.")
    return notices


def _pool_mistake(place: str, models: Sequence[str], names: Sequence[str]) -> str:
    """Say what is wrong with the models of a hop; nothing if they are right."""
    repeated = len(set(models)) < len(models)
    return _list_mistake(place, models, names) or (f"{place} names a model twice" if repeated else "")


def _list_mistake(place: str, models: Sequence[str], names: Sequence[str]) -> str:
    """Say what is wrong with a list of models; nothing if it is right."""
    if not models:
        return f"{place} has no models"
    unknown = next((name for name in models if name not in names), None)
    return "" if unknown is None else f"{place} names {unknown!r}, which is no model; {did_you_mean(unknown, names)}"


def _size_mistake(names: Sequence[str], horizon: int, config: TreeConfig) -> tuple[str, str] | None:
    """Return the field that makes the tree empty, and why; None if there is a path."""
    if next(_complete_paths(names, horizon, config), None) is not None:
        return None
    if not config.repeat and len(names) < horizon:
        return "repeat", f"{horizon} hops need {horizon} models if none responds twice, and there are {len(names)}"
    field = "paths" if config.paths else "repeat"
    return field, "no path is left: none satisfies all fields of [tree]"


def _complete_paths(names: Sequence[str], horizon: int, config: TreeConfig) -> Iterator[tree.Path]:
    """Yield the complete paths that satisfy every field."""
    positions = {name: position for position, name in enumerate(names)}
    pools = [sorted(positions[name] for name in config.pools.get(str(hop), names)) for hop in range(1, horizon + 1)]
    if config.paths is None:
        yield from _extended((), pools, config.repeat)
        return
    for listed in config.paths:
        path = tuple(positions[name] for name in listed)
        is_repeated = len(set(path)) < horizon
        if all(model in pool for model, pool in zip(path, pools, strict=True)) and (config.repeat or not is_repeated):
            yield path


def _extended(path: tree.Path, pools: Sequence[Collection[int]], repeat: bool) -> Iterator[tree.Path]:
    """Yield the complete paths that begin with a path, given the models of each further hop."""
    if not pools:
        yield path
        return
    for model in pools[0]:
        extended = (*path, model)
        if repeat or (model not in path and _has_distinct(frozenset(extended), sorted(pools[1:], key=len))):
            yield from _extended(extended, pools[1:], repeat)


def _has_distinct(used: frozenset[int], pools: Sequence[Collection[int]]) -> bool:
    """Return whether a model of each pool can be chosen so that none is used twice; the smallest pool comes first."""
    return not pools or any(_has_distinct(used | {model}, pools[1:]) for model in pools[0] if model not in used)
