"""Refuses a cache file that holds more or something else than its schema defines.

People share caches. A macro of a stranger's file would run in place of a function of DuckDB, a view in place of a table would
read other files. So the catalog is compared with the schema before anything else is read. Tables of the user's own, beside
those of the schema, are data and stay.
"""

import re
from contextlib import suppress
from functools import cache
from pathlib import Path

import duckdb

from toolkit.core.commands import command
from toolkit.core.errors import CacheError
from toolkit.store.schema import schema

_CATALOG = {  # qualified, and without a function: a macro of the file could take its place
    "view": "SELECT view_name, sql FROM system.main.duckdb_views() WHERE NOT internal AND database_name = $database",
    "table": "SELECT table_name, sql FROM system.main.duckdb_tables() WHERE NOT internal AND database_name = $database",
    "macro": "SELECT function_name, NULL FROM system.main.duckdb_functions() WHERE NOT internal AND database_name = $database",
    "type": "SELECT type_name, NULL FROM system.main.duckdb_types() WHERE NOT internal AND database_name = $database",
    "sequence": "SELECT sequence_name, NULL FROM system.main.duckdb_sequences() WHERE database_name = $database",
    "index": "SELECT index_name, NULL FROM system.main.duckdb_indexes() WHERE database_name = $database",
    "schema": "SELECT schema_name, NULL FROM system.main.duckdb_schemas() WHERE NOT internal AND database_name = $database",
    "trigger": "SELECT trigger_name, NULL FROM system.main.duckdb_triggers() WHERE database_name = $database",
}
"""Query for names and definitions, by kind of object; triggers are newer than the oldest DuckDB supported."""
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+|[^\s\w()]")
_OPTIONAL = {"MATERIALIZED", "INNER"}
_RENAMED = {"generated": "counts"}
"""A name inside the view `progress` that the first files of schema 5 have."""

Objects = dict[tuple[str, str], str]
"""Definition by kind and name, as the catalog has it."""


def objects_of(con: duckdb.DuckDBPyConnection, database: str | None = None) -> Objects:
    """Return what a database holds, without running or reading any of it.

    Args:
        con: A connection that nothing has been read from.
        database: Its current database; default: the only one.
    """
    objects: Objects = {}
    with suppress(duckdb.InvalidInputException):  # another connection of this process has checked it, and locked the settings
        con.execute("SET search_path = 'temp.main'")  # DuckDB 1 finds macros of the current database by any name
    if database is None:
        query = "SELECT database_name FROM system.main.duckdb_databases() WHERE NOT internal"
        database = str(con.execute(query).fetchall()[0][0])
    for kind, query in _CATALOG.items():
        with suppress(duckdb.CatalogException):
            rows = con.execute(query, {"database": database}).fetchall()
            objects |= {(kind, name): definition or "" for name, definition in rows}
    with suppress(duckdb.InvalidInputException):
        con.execute('USE "' + database.replace('"', '""') + '"')
    return objects


def check_tables(objects: Objects, path: Path, *, of_today: bool) -> None:
    """Check that the tables of the schema are tables, and those of today's schema if the file says that it has it.

    Raises:
        CacheError: One is a view, lacks, or has other columns, defaults or constraints.
    """
    for (kind, name), definition in _defined().items():
        if kind != "table":
            continue
        if ("view", name) in objects:
            raise _not_a_cache(path, f"its {name} is a view, where a cache has a table")
        if of_today and (kind, name) not in objects:
            raise _not_a_cache(path, f"it has no table {name}")
        if of_today and _tokens(objects[kind, name]) != _tokens(definition):
            raise _not_a_cache(path, f"its table {name} is defined in another way than schema.sql does")


def check_objects(objects: Objects, path: Path, *, of_today: bool) -> None:
    """Check that a file has the views of its schema, and no macro, trigger or other object that acts.

    Raises:
        CacheError: It has another object, or a view is missing or redefined.
    """
    defined = _defined()
    remedy = (
        "A stranger's object can change what commands read, so the file is not used and left as it is. "
        f"Take its rows alone into a new cache: {command('import', path, cache=Path('NEW.duckdb'))}"
    )
    for kind, name in objects:
        if kind != "table" and (kind, name) not in defined:
            raise CacheError(f"{path} holds a {kind} {name!r}, which is no part of a cache. {remedy}")
    for (kind, name), definition in defined.items():
        if of_today and kind == "view" and not _is_view(name, objects.get((kind, name), ""), definition):
            state = "is defined in another way than schema.sql does" if (kind, name) in objects else "is missing"
            raise CacheError(f"{path}: the view {name} {state}. {remedy}")


@cache
def _defined() -> Objects:
    """Return what today's schema defines."""
    with duckdb.connect() as con:
        _create(con)
        return objects_of(con, "memory")


def _create(con: duckdb.DuckDBPyConnection) -> None:
    for statement in duckdb.extract_statements(schema()):
        if statement.query.lstrip().startswith("CREATE"):  # comments take most of the time, and do not matter
            con.execute(statement)


def _is_view(name: str, definition: str, expected: str) -> bool:
    """Return whether a view is the one that the schema defines, whichever version of DuckDB has written it.

    Versions differ in the parentheses that they write, and parentheses can change what a view means: the parsed queries have to
    be equal, too.
    """
    return definition == expected or (_tokens(definition) == _tokens(expected) and _parsed(definition) == _parsed(expected))


@cache
def _parsed(definition: str) -> str:
    """Return the tree of a view's query as JSON, without places in the text and hints."""
    query = re.sub(r"^.*?\bAS\b", "", definition, count=1, flags=re.DOTALL | re.IGNORECASE).rstrip().rstrip(";")
    for old, new in _RENAMED.items():
        query = re.sub(rf"\b{old}\b", new, query)
    with duckdb.connect(config={"enable_external_access": "false"}) as con:
        [(tree,)] = con.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    if not str(tree).startswith('{"error":false'):
        return query
    return re.sub(r'"(query_location|materialized)":("\w*"|\d+)', "", str(tree))


def _tokens(definition: str) -> list[str]:
    """Return a definition without what versions of DuckDB write in different ways: blanks, quotes, parentheses, some words."""
    tokens = [token.strip('"') for token in _TOKEN.findall(definition)]
    return [_RENAMED.get(token, token) for token in tokens if token not in _OPTIONAL]


def _not_a_cache(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"{path} is not a cache of this toolkit: {reason}. It is left as it is. Use a backup, or ask whoever made it for an "
        "export: toolkit export FOLDER"
    )
