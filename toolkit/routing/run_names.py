"""The names that users give to runs."""

import re

from toolkit.core.errors import PolicyError
from toolkit.core.text import printable
from toolkit.store import Cache

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
"""A name that can be typed, and that fits beside the columns of a table."""
RESERVED = re.compile(r"[0-9a-f]{8}|.*[.](toml|zip|safetensors)", re.IGNORECASE)
"""Names that mean something else: the hash of a run, or a file."""


def check_name(name: str, run: str, cache: Cache, suites: list[str]) -> None:
    """Check that a name can be given to a run, before it is trained.

    Args:
        name: The name.
        run: The run's own name.
        cache: The cache that records it.
        suites: Names of shipped suites, which commands take for suites.

    Raises:
        PolicyError: It cannot, or another run or a suite has it.
    """
    if not NAME.fullmatch(name):
        raise PolicyError(
            f"{printable(name)!r} cannot be the name of a run: it consists of at most 32 letters, digits, dots, dashes and "
            "underscores, and begins with a letter or digit. Choose another: --name NAME"
        )
    if RESERVED.fullmatch(name):
        raise PolicyError(f"{name!r} would be taken for a file or the hash of a run. Choose another name: --name NAME")
    if name in suites or name in cache.suites.names():
        raise PolicyError(f"{name!r} is the name of a suite, and commands would take it for that. Choose another: --name NAME")
    other = cache.runs.get(name)
    if other and other.run != run:
        raise PolicyError(
            f"The run {printable(other.run)} is already called {name!r}. Choose another name with --name, or delete that run: "
            f"toolkit runs delete {name}"
        )
