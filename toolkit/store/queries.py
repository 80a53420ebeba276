"""The named queries of `queries.sql` and `checks.sql`."""

import re
from functools import cache
from importlib import resources

_NAME = re.compile(r"^-- name: (.+)$", re.MULTILINE)


@cache
def named_queries(file: str) -> dict[str, str]:
    """Return the queries of a file of this package, by name."""
    parts = _NAME.split((resources.files("toolkit.store") / file).read_text("utf-8"))
    return {name: query.strip().rstrip(";") for name, query in zip(parts[1::2], parts[2::2], strict=True)}
