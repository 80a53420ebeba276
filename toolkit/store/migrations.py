"""How a cache of an older schema becomes one of today's: a numbered function a version, tables only, in order.

Views and comments are made anew from the schema afterwards, so a change of those alone needs a number, but no function.
"""

from collections.abc import Callable

import duckdb

from toolkit import __version__
from toolkit.store.schema import SCHEMA_VERSION, renew_views


def to_2(con: duckdb.DuckDBPyConnection) -> None:
    """Give evaluations the probability of improvement; those made before have none."""
    for column in ("improvement", "improvement_low", "improvement_high"):
        con.execute(f"ALTER TABLE evaluations ADD COLUMN {column} DOUBLE")


def to_3(con: duckdb.DuckDBPyConnection) -> None:
    """Give generations a cost of their own, for outcomes that come with one."""
    con.execute("ALTER TABLE generations ADD COLUMN cost DOUBLE")


def to_4(con: duckdb.DuckDBPyConnection) -> None:
    """Give runs what a decision takes the router itself, and evaluations the rate at which that was charged."""
    for table, column in (("runs", "encoder_seconds"), ("runs", "network_seconds"), ("evaluations", "overhead_rate")):
        con.execute(f"ALTER TABLE {table} ADD COLUMN {column} DOUBLE")


MIGRATIONS: dict[int, Callable[[duckdb.DuckDBPyConnection], None]] = {2: to_2, 3: to_3, 4: to_4}
"""Version to the function that leads there from the one before."""


def upgrade_tables(con: duckdb.DuckDBPyConnection, version: int) -> None:
    """Bring the tables of the current database from an older version to today's."""
    for number in range(version + 1, SCHEMA_VERSION + 1):
        if number in MIGRATIONS:
            MIGRATIONS[number](con)


def upgrade(con: duckdb.DuckDBPyConnection, version: int) -> None:
    """Bring the current database, tables and views, from an older version to today's."""
    upgrade_tables(con, version)
    renew_views(con)
    con.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(SCHEMA_VERSION)])
    con.execute(
        "INSERT INTO meta VALUES ('migrated', ?)",
        [f"from schema {version} to {SCHEMA_VERSION} by hierrouter-toolkit {__version__}, duckdb {duckdb.__version__}"],
    )
