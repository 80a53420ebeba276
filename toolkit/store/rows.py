"""Moves rows in and out of DuckDB: dictionaries become typed columns through Arrow, and an anti-join keeps keys unique."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import duckdb

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]
"""One row of a table, by column."""

KEYS = {
    "models": ("model",),
    "questions": ("question",),
    "generations": ("generation",),
    "nodes": ("node",),
    "scores": ("question", "text", "metric"),
    "embeddings": ("text", "encoder"),
    "runs": ("run",),
}
"""Key columns of every table whose keys are unique."""

READ_ROWS = 50_000
"""Rows that are turned into Python objects at a time."""
_COLUMN_TYPES: dict[str, dict[str, str]] = {}
"""Column types by table, read from the first open cache; the schema fixes them, so they are the same in every cache."""

_ARROW_SCHEMAS: dict[tuple[str, str], "pa.Schema"] = {}
"""The same for Arrow, by table and columns."""


def first_row(con: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """Return the first row of a query; fetches all rows, because an unfinished result blocks the connection."""
    rows = con.execute(query, list(parameters)).fetchall()
    return rows[0] if rows else None


def stage_rows(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> str:
    """Register rows with a connection and return a query that yields them with the table's column types.

    What is registered stays in memory until the transaction ends: many rows are written by `write_table`.
    """
    import pyarrow as pa

    columns = ", ".join(rows[0])
    if (table, columns) not in _ARROW_SCHEMAS:
        empty = con.sql(f"SELECT {columns} FROM {table} LIMIT 0").to_arrow_table()
        _ARROW_SCHEMAS[table, columns] = empty.schema
    schema = _ARROW_SCHEMAS[table, columns]
    types = _column_types(con, table)
    columns_of_rows = [pa.array(_plain([row[f.name] for row in rows], types[f.name]), f.type) for f in schema]
    staged = pa.Table.from_arrays(columns_of_rows, schema=schema)
    con.register("incoming_rows", staged)
    return _typed_rows(con, table, staged, "incoming_rows")


def _typed_rows(con: duckdb.DuckDBPyConnection, table: str, rows: "pa.Table", source: str) -> str:
    """Return a query that yields rows, which queries know by the name `source`, with the table's column types."""
    types = _column_types(con, table)
    typed = ", ".join(f"{name}::{types[name]} AS {name}" for name in rows.column_names)
    return f"SELECT {typed} FROM {source}"


def _column_types(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    if table not in _COLUMN_TYPES:
        query = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND NOT internal"
        _COLUMN_TYPES[table] = dict(con.execute(query, [table]).fetchall())
    return _COLUMN_TYPES[table]


def write_table(
    con: duckdb.DuckDBPyConnection, table: str, rows: "pa.Table", condition: str = "true", *, replace: bool = False
) -> None:
    """Insert the rows that fulfil a condition and whose key is new or, with `replace`, those in the place of the same keys."""
    staged = f"SELECT * FROM ({_typed_rows(con, table, rows, 'written_rows')}) WHERE {condition}"
    relation = con.from_arrow(rows)
    if replace:
        relation.query("written_rows", f"DELETE FROM {table} AS t USING ({staged}) AS incoming WHERE {_same_key(table)}")
        relation.query("written_rows", f"INSERT INTO {table} BY NAME {staged}")
    else:
        relation.query("written_rows", _insert_new(table, staged))


def query_table(con: duckdb.DuckDBPyConnection, table: str, rows: "pa.Table", query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query, in which `{rows}` stands for rows with the column types of a table."""
    staged = f"({_typed_rows(con, table, rows, 'written_rows')})"
    result = con.from_arrow(rows).query("written_rows", query.format(rows=staged))
    return result.fetchall() if result else []


def append(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    """Insert rows whose keys are known to be new."""
    if rows:
        con.execute(f"INSERT INTO {table} BY NAME {stage_rows(con, table, rows)}")


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    """Insert the rows whose key is not in the table yet; the keys of `rows` must be distinct."""
    if rows:
        insert_new(con, table, stage_rows(con, table, rows))


def insert_new(con: duckdb.DuckDBPyConnection, table: str, staged: str) -> None:
    """Insert staged rows whose key is not in the table yet."""
    con.execute(_insert_new(table, staged))


def _insert_new(table: str, staged: str) -> str:
    return (
        f"INSERT INTO {table} BY NAME SELECT * FROM ({staged}) AS incoming"
        f" WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {_same_key(table)})"
    )


def _same_key(table: str) -> str:
    return " AND ".join(f"t.{column} = incoming.{column}" for column in KEYS[table])


def iterate_rows(table: "pa.Table") -> Iterator[dict[str, Any]]:
    """Yield the rows of an Arrow table as dictionaries, few of them in memory at a time; keys are text."""
    for batch in table.to_batches(READ_ROWS):
        yield from batch.to_pylist()


def key_table(keys: Sequence[UUID]) -> "pa.Table":
    """Return keys as an Arrow table with one text column `key`, to be joined with."""
    import pyarrow as pa

    return pa.table({"key": pa.array([str(key) for key in keys], pa.string())})


def path_table(paths: Sequence[Sequence[UUID]]) -> "pa.Table":
    """Return paths as an Arrow table with one column `path`, lists of keys as text, to be joined with."""
    import pyarrow as pa

    return pa.table({"path": pa.array([list(map(str, path)) for path in paths], pa.list_(pa.string()))})


def _plain(values: list[Any], column_type: str) -> list[Any]:
    """Return the values of a column, keys as text."""
    if column_type == "UUID":
        return [None if value is None else str(value) for value in values]
    if column_type == "UUID[]":
        return [None if value is None else [str(key) for key in value] for value in values]
    return values
