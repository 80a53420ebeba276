"""What a shell completes: names of suites and of runs. A completion that fails completes nothing, and says nothing."""

from contextlib import suppress

from toolkit.core.workspace import cache_folder


def complete_suite(incomplete: str) -> list[str]:
    """Return the names of shipped suites, and of caches, that begin with a text."""
    from toolkit.suites.loading import shipped_suites

    names: set[str] = set()
    with suppress(Exception):
        names.update(shipped_suites(), (path.stem for path in cache_folder().glob("*.duckdb")))
    return sorted(name for name in names if name.startswith(incomplete))


def complete_shipped(incomplete: str) -> list[str]:
    """Return the names of shipped suites that begin with a text."""
    from toolkit.suites.loading import shipped_suites

    return [name for name in shipped_suites() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Return the names of the runs of all caches that begin with a text."""
    from toolkit.store import Cache

    names: set[str] = set()
    for path in sorted(cache_folder().glob("*.duckdb")):
        with suppress(Exception):  # a cache may be foreign, damaged or busy
            names.update(Cache(path, wait=0).runs.names())
    return sorted(name for name in names if name.startswith(incomplete))


def complete_target(incomplete: str) -> list[str]:
    """Return the names of runs and suites that begin with a text."""
    return [*complete_run(incomplete), *complete_suite(incomplete)]
