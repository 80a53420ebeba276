"""What a cache holds, apart from when and by what it was made."""

from typing import Any

from toolkit.store import Cache

CONTENT = {
    "models": "model, identity",
    "questions": "*",
    "generations": "* EXCLUDE (seconds, engine, created)",
    "nodes": "*",
    "scores": "*",
    "embeddings": "*",
    "suites": "* EXCLUDE (recorded)",
    "suite_models": "*",
    "suite_questions": "*",
    "suite_paths": "*",
}


def content(cache: Cache) -> dict[str, list[dict[str, Any]]]:
    """Return the content columns of every table, in the order of all of them."""
    return {table: cache.arrow(f"SELECT {columns} FROM {table} ORDER BY ALL").to_pylist() for table, columns in CONTENT.items()}
