"""Verification: the checks of a whole cache that SQL alone can make."""

from collections.abc import Iterator
from typing import NamedTuple

from toolkit.store.file import CacheFile
from toolkit.store.queries import named_queries
from toolkit.store.rows import KEYS


class Violations(NamedTuple):
    """How many rows were checked, how many violate the check, and the key of one that does, or None."""

    rows: int
    wrong: int
    example: str | None


def check_rows(file: CacheFile) -> Iterator[tuple[str, Violations]]:
    """Run every check; yields its name and result."""
    for table, columns in KEYS.items():
        key = ", ".join(columns)
        repeated = f"SELECT concat_ws(' ', {key}) AS key, count(*) OVER (PARTITION BY {key}) > 1 AS wrong FROM {table}"
        yield f"keys of {table} are unique", _violations(file, repeated)
    for name, query in named_queries("checks.sql").items():
        yield name, _violations(file, query)


def _violations(file: CacheFile, query: str) -> Violations:
    result = file.fetch(
        f"SELECT count(*) AS rows, count(*) FILTER (wrong) AS wrong, min(key::VARCHAR) FILTER (wrong) AS example FROM ({query})"
    )
    return Violations(**result.to_pylist()[0])
