"""Rows in and out of DuckDB: plain dictionaries become typed columns through Arrow, keys stay unique by an anti-join."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import duckdb

if TYPE_CHECKING:
    import pyarrow as pa

    from toolkit.store.key_index import KeyIndex

Row = Mapping[str, Any]

KEYS = {
    "models": ("model",),
    "questions": ("question",),
    "generations": ("generation",),
    "nodes": ("node",),
    "scores": ("question", "text", "metric"),
    "embeddings": ("text", "encoder"),
    "runs": ("run",),
}
_TYPES: dict[str, dict[str, str]] = {}
"""Column types by table, asked of the first cache that is opened; they are the schema's, the same in every cache."""


def first(con: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """Return the first row of a query; the rest is read too, as an unfinished result blocks the connection."""
    rows = con.execute(query, list(parameters)).fetchall()
    return rows[0] if rows else None


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row], seen: "KeyIndex | None" = None) -> None:
    """Insert rows whose key is not there yet; rows must not repeat a key among themselves.

    Args:
        con: The open cache.
        table: Name of the table.
        rows: The rows.
        seen: What is known of the table's keys, so that they need not be looked up where all are new.
    """
    if rows:
        con.register("incoming_rows", _arrow(con, table, rows))
        incoming = _typed(con, table, rows)
        if seen and seen.all_new(con, table, incoming):
            con.execute(f"INSERT INTO {table} BY NAME {incoming}")
            return
        same = " AND ".join(f"t.{column} = incoming.{column}" for column in KEYS[table])
        con.execute(
            f"INSERT INTO {table} BY NAME SELECT * FROM ({incoming}) AS incoming"
            f" WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {same})"
        )


def append(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    """Insert rows whose keys are known to be new."""
    if rows:
        con.register("incoming_rows", _arrow(con, table, rows))
        con.execute(f"INSERT INTO {table} BY NAME {_typed(con, table, rows)}")


def _typed(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> str:
    if table not in _TYPES:
        query = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND NOT internal"
        _TYPES[table] = dict(con.execute(query, [table]).fetchall())
    return f"SELECT {', '.join(f'{name}::{_TYPES[table][name]} AS {name}' for name in rows[0])} FROM incoming_rows"


def _arrow(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> "pa.Table":
    import pyarrow as pa

    schema = con.sql(f"SELECT {', '.join(rows[0])} FROM {table} LIMIT 0").to_arrow_table().schema
    return pa.Table.from_pylist([{name: _plain(value) for name, value in row.items()} for row in rows], schema=schema)


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def arrow_keys(keys: Sequence[UUID]) -> "pa.Table":
    """Write keys as a column `key` of text, to be joined with."""
    import pyarrow as pa

    return pa.table({"key": pa.array([str(key) for key in keys], pa.string())})
