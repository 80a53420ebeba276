"""Finds the router that a command is to use: by its file, the folder or name of its run, or its suite."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from toolkit.cli.common import cache_path, open_suite
from toolkit.cli.terminal import note
from toolkit.core.commands import command
from toolkit.core.errors import CacheError, PolicyError, did_you_mean
from toolkit.core.text import printable
from toolkit.core.workspace import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.routing.router import Router
    from toolkit.store import Cache
    from toolkit.store.runs import RecordedRun
    from toolkit.suites.suite import Split, Suite

TrustOption = Annotated[
    bool, typer.Option("--trust", help="Open a file although that runs code of whoever wrote it: zips of stable-baselines3.")
]
MAX_LISTED_RUNS = 5
"""A note lists other runs, or skipped ones, up to this number of them."""


def open_router(
    target: str, cache: Path | None, runs_dir: Path, split: "Split | None", trust: bool
) -> "tuple[Router, Suite, Cache]":
    """Open a router's file, a run, or the newest run of a suite, with its suite and cache.

    Args:
        target: The file, folder, run or suite.
        cache: The cache, if the user names one.
        runs_dir: Folder of runs.
        split: The split that the router is evaluated on; None if it is not evaluated.
        trust: Whether files may be opened that run code.

    Raises:
        PolicyError: There is no such file, run or suite; or it has no run that can be evaluated.
    """
    if _is_router_file(target):
        router = _load(Path(target), cache, trust)
        suite, opened = open_suite(router.card["suite"], cache or _cache_beside(Path(target), router.card["suite"]))
        _check_split(router, suite, opened, split)
        _note_change(router, suite)
        return router, suite, opened
    run, path = (None, cache) if is_suite(target, cache) else find_run(target, cache)
    suite, opened = open_suite(run.suite if run else target, path)

    def open_run(recorded: "RecordedRun") -> "Router":
        from toolkit.routing.run_files import locate

        if not recorded.trained:
            raise PolicyError(
                f"{printable(recorded.run)} is the evaluation of {printable(recorded.algorithm)}, which the toolkit has not "
                f"trained. To evaluate that again, name it with --router, --decisions or --baselines: "
                f"{command('evaluate', suite.name, '--help')}"
            )
        router = _load(locate(recorded, opened.path, runs_dir), cache, trust)
        router.check_pool([model.name for model in suite.models], suite.horizon)
        _check_split(router, suite, opened, split)
        return router

    router = open_run(run) if run else _newest(suite, opened, open_run)
    _note_change(router, suite)
    return router, suite, opened


def _is_router_file(target: str) -> bool:
    """Return whether a target means a file, or the folder of a run, rather than a suite or a run by name."""
    if target.endswith(".toml"):
        return False
    from toolkit.routing.router import router_path

    path = Path(target)
    in_folder = path.is_dir() and router_path(path) != path
    is_other_file = path.exists() and not path.is_dir()
    return target.endswith((".safetensors", ".zip")) or any(mark in target for mark in "/\\") or in_folder or is_other_file


def _load(path: Path, cache: Path | None, trust: bool) -> "Router":
    """Load a router; the command that an error names has the cache that the user names."""
    from toolkit.routing.router import load_router
    from toolkit.routing.router_file import UntrustedError

    try:
        return load_router(path, trust)
    except UntrustedError as error:
        raise UntrustedError(error.path, error.reason, cache) from None


def _cache_beside(path: Path, suite: str) -> Path | None:
    """Return the cache of a suite in `cache/` beside the folder of runs, if the usual place has none; else None."""
    if cache_path(suite, None).exists():
        return None
    absolute = path.absolute()
    folders = [parent.parent / "cache" for parent in absolute.parents if parent.name == "runs"]
    return next((file for folder in folders if (file := folder / f"{suite}.duckdb").is_file()), None)


def is_suite(target: str, cache: Path | None) -> bool:
    """Return whether a target names a suite: it is a file, shipped, recorded in the cache, or has a cache of its name."""
    from toolkit.store import Cache
    from toolkit.suites.loading import shipped_suites

    if target.endswith(".toml") or target in shipped_suites():
        return True
    opened = Cache(cache_path(target, cache))
    return opened.exists() and (cache is None or target in opened.suites.names())


def find_run(name: str, cache: Path | None, *, or_suite: bool = True) -> "tuple[RecordedRun, Path]":
    """Return a recorded run of a name, and the cache that has it.

    Args:
        name: The name.
        cache: The cache; None for any in the folder of caches.
        or_suite: Whether the name may as well be a suite or a file, which the caller has looked for.

    Raises:
        PolicyError: No cache has recorded it, or several have.
    """
    from toolkit.store import Cache

    caches = {}
    names: set[str] = set()
    for path in [cache] if cache else sorted(cache_folder().glob("*.duckdb")):
        with contextlib.suppress(*(() if cache else (CacheError,))):  # another cache may be foreign or busy
            opened = Cache(path)
            names.update(opened.suites.names() if or_suite else (), opened.runs.names())
            run = opened.runs.get(name)
            if run:
                caches[path] = run
    if len(caches) > 1:
        listed = ", ".join(map(str, caches))
        raise PolicyError(f"Several caches have a run {printable(name)}: {listed}. Name one: --cache FILE")
    if not caches:
        if not cache and not any(cache_folder().glob("*.duckdb")):
            raise CacheError(f"There is no cache in {cache_folder()}. Make one: {command('generate', 'SUITE')}")
        where = f"The cache {cache}" if cache else f"No cache in {cache_folder()}"
        if or_suite:
            raise PolicyError(
                f"{where} has a suite or a run {printable(name)!r}: {did_you_mean(name, names)}. Train a router (toolkit train "
                "SUITE), or give the file of one."
            )
        raise PolicyError(f"{where} has a run {printable(name)!r}: {did_you_mean(name, names)}. To list all: toolkit runs")
    ((path, run),) = caches.items()
    return run, path


def _newest(suite: "Suite", cache: "Cache", open_run: "Callable[[RecordedRun], Router]") -> "Router":
    """Open the newest router of a suite, and say which it is, which are skipped, and which others there are.

    Raises:
        PolicyError: There is none that can be evaluated.
    """
    from toolkit.routing.run_files import newest_router

    runs = cache.runs.of_suite(suite.name)
    if not runs:
        raise PolicyError(
            f"No router has been trained for suite {suite.name} yet. To evaluate a router of yours, name it with --router or "
            f"its decisions with --decisions. To evaluate the baselines alone: "
            f"{command('evaluate', suite.name, '--baselines', cache=cache.path)}\n"
            f"To train one: {command('train', suite.name, cache=cache.path)}"
        )
    router, run, skipped = newest_router(runs, open_run)
    for name, reason in list(skipped.items())[:MAX_LISTED_RUNS]:
        note(f"Skipped {printable(name)}: {reason}")
    others = [other.run for other in runs if other.run != run and other.run not in skipped]
    if others:
        opened = " that can be opened" if skipped else ""
        shown = ", ".join(map(printable, others[:MAX_LISTED_RUNS]))
        more = (
            f" and {len(others) - MAX_LISTED_RUNS} more (toolkit status {suite.name})" if len(others) > MAX_LISTED_RUNS else ""
        )
        note(f"Using {run}, the newest of {len(others) + 1} runs{opened}; others: {shown}{more}.")
    return router


def _check_split(router: "Router", suite: "Suite", cache: "Cache", split: "Split | None") -> None:
    """Check that a router has not learned from the questions of the split that it is evaluated on.

    Raises:
        PolicyError: It has learned from some of them.
    """
    trained_on = UUID(router.card["suite_key"])
    learned = cache.runs.training_questions(trained_on, suite.key, split) if trained_on != suite.key and split == "test" else 0
    if learned:
        raise PolicyError(
            f"The router {router.card['run']} has learned from {learned} of the {split} questions: it was trained before the "
            f"splits of suite {suite.name} changed. Train one for the suite as it is: "
            f"{command('train', suite.name, cache=cache.path)}"
        )


def _note_change(router: "Router", suite: "Suite") -> None:
    """Say so if a router's suite has changed since it was trained."""
    if UUID(router.card["suite_key"]) != suite.key:
        note(
            f"The suite {suite.name} has changed since {router.card['run']} was trained (rates, metrics, splits or questions); "
            "the router is used on the suite as it is now."
        )
