"""Runs queries that people write: they read the cache, and neither read nor write anything else.

DuckDB's own switches hold that. A query is run where every file system is closed and the configuration is locked; which
statements it consists of only decides what the error says.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from toolkit.core.errors import CacheError
from toolkit.store.rewrite import quoted

if TYPE_CHECKING:
    import pyarrow as pa

NO_QUERY = "That is not a query that returns rows. An example: SELECT * FROM progress"
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)
_PIVOT = re.compile(r"[\s(]*(PIVOT|FROM|SELECT|WITH)\b", re.IGNORECASE)
"""Beginning of a statement that DuckDB splits in two to pivot; it also splits the COPY of a pivot."""


def run_query(
    con: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Mapping[str, Any] | Sequence[Any] | None,
    tables: Mapping[str, "pa.Table"],
) -> "pa.Table":
    """Run one query that can read the cache and the given tables, and nothing else.

    Args:
        con: A connection to the cache that spills nothing to the disk; it opens no other file from now on.
        query: The query.
        parameters: Values of its parameters.
        tables: Other tables that the query may read, by name.

    Raises:
        CacheError: It is not a single query, it reads or writes a file, or it needs too much memory.
    """
    for name, table in tables.items():
        con.register(name, table)
    _close_files(con)
    _check_reads(query)
    try:
        relation = con.sql(query, params=parameters)
        if relation is None:
            raise CacheError(NO_QUERY)
        return relation.to_arrow_table()
    except duckdb.PermissionException:
        raise CacheError(
            "A query reads the cache alone, and writes no file. To read a table beside it (CSV, JSON or Parquet), name its "
            """file: toolkit sql --read prices.csv "FROM 'prices.csv'". To write rows to a file: --output FILE --format csv"""
        ) from None
    except duckdb.OutOfMemoryException as error:
        raise CacheError(
            f"The query needs too much memory: {str(error).splitlines()[0]}. Read fewer rows or columns."
        ) from None


def read_tables(files: Sequence[str]) -> "dict[str, pa.Table]":
    """Read files that a query may use, each under its name as written; a name may have wildcards.

    Raises:
        CacheError: One is missing, or is not CSV, JSON or Parquet.
    """
    tables = {}
    for file in files:
        path = Path(file)
        if "\0" in file or (path.exists() and not path.is_file()):
            raise CacheError(f"--read {file!r} is not a file. Name a CSV, JSON or Parquet file, or several: 'folder/*.csv'")
        with duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}) as con:
            try:
                name = glob.escape(file) if path.exists() else file
                tables[file] = con.sql(f"FROM {quoted(name)}").to_arrow_table()
            except duckdb.Error as error:
                raise CacheError(
                    f"--read {file} cannot be read as a table: {str(error).splitlines()[0]} It takes .csv, .json, .jsonl and "
                    ".parquet files."
                ) from None
    return tables


def _close_files(con: duckdb.DuckDBPyConnection) -> None:
    """Let a connection, and the others that this process has to the same file, open no other file and change no setting."""
    if con.execute("SELECT current_setting('lock_configuration')").fetchall() == [(True,)]:
        return  # by another such query
    con.execute("SET disabled_filesystems = 'LocalFileSystem'")
    con.execute("SET lock_configuration = true")


def _check_reads(query: str) -> None:
    """Refuse everything but a single query, with the reason; what such a query may do is limited elsewhere.

    Raises:
        CacheError: It is something else.
    """
    statements = duckdb.extract_statements(query)
    if not statements:
        raise CacheError(NO_QUERY)
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN and (explained := _EXPLAIN.match(query)):
        _check_reads(query[explained.end() :])
        return
    reads_only = kind == duckdb.StatementType.SELECT or (kind == duckdb.StatementType.MULTI and _PIVOT.match(query))
    if len(statements) > 1 or not reads_only:
        raise CacheError(
            "Caches are read-only here: give a single query (SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, PIVOT, EXPLAIN). "
            "To write results to a file: --output FILE --format csv|json|markdown|parquet."
        )
