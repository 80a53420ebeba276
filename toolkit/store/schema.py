"""The schema of a cache: its text, its version, and what its tables, views and columns mean."""

from importlib import resources
from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 6
"""Rises with every change of `schema.sql`; `migrations.py` leads from one version to the next."""
STORAGE_VERSION = "v1.2.0"
"""Storage format of the file: the oldest DuckDB that has to read it."""


def schema() -> str:
    """Return the SQL that creates an empty cache."""
    return (resources.files("toolkit.store") / "schema.sql").read_text("utf-8")


def schema_comments(name: str | None = None) -> "pa.Table":
    """Return what the views and tables of a cache mean or, given the name of one, what its columns mean."""
    overview = (
        "SELECT view_name AS name, 'view' AS kind, comment AS meaning FROM duckdb_views() WHERE NOT internal"
        " UNION ALL SELECT table_name, 'table', comment FROM duckdb_tables()"
    )
    columns = (
        'SELECT column_name AS "column", data_type AS type, comment AS meaning FROM duckdb_columns() WHERE table_name = $name'
    )
    with duckdb.connect() as con:
        con.execute(schema())
        return con.sql(columns, params={"name": name}).to_arrow_table() if name else con.sql(overview).to_arrow_table()


def recreate_views(con: duckdb.DuckDBPyConnection) -> None:
    """Recreate the views and all comments of the current database from today's schema."""
    drop_views(con)
    for statement in duckdb.extract_statements(schema()):
        if not statement.query.lstrip().startswith("CREATE TABLE"):
            con.execute(statement)


def drop_views(con: duckdb.DuckDBPyConnection) -> None:
    """Drop the views of the current database."""
    views = con.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND database_name = current_database()"
    ).fetchall()
    for (view,) in views:
        con.execute(f'DROP VIEW "{view}"')
