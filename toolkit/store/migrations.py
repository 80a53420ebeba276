"""Migrates a cache of an older schema: one numbered function per version, for tables only, applied in order.

Views and comments are recreated from the schema afterwards, so a change to those needs a new version but no function.
"""

from collections.abc import Callable

import duckdb

from toolkit import __version__
from toolkit.store.schema import SCHEMA_VERSION, drop_views, recreate_views


def to_2(con: duckdb.DuckDBPyConnection) -> None:
    """Add the probability of improvement to evaluations; NULL in older rows."""
    for column in ("improvement", "improvement_low", "improvement_high"):
        con.execute(f"ALTER TABLE evaluations ADD COLUMN {column} DOUBLE")


def to_3(con: duckdb.DuckDBPyConnection) -> None:
    """Add a cost to generations, for imported results that have one."""
    con.execute("ALTER TABLE generations ADD COLUMN cost DOUBLE")


def to_4(con: duckdb.DuckDBPyConnection) -> None:
    """Add the measured overhead of a decision to runs, and the rate charged for it to evaluations."""
    for table, column in (("runs", "encoder_seconds"), ("runs", "network_seconds"), ("evaluations", "overhead_rate")):
        con.execute(f"ALTER TABLE {table} ADD COLUMN {column} DOUBLE")


def to_5(con: duckdb.DuckDBPyConnection) -> None:
    """Rename two columns to the terms of the glossary."""
    con.execute("ALTER TABLE evaluations RENAME COLUMN generated TO synthetic")
    con.execute("ALTER TABLE nodes RENAME COLUMN dropped_answers TO dropped_responses")


MIGRATIONS: dict[int, Callable[[duckdb.DuckDBPyConnection], None]] = {2: to_2, 3: to_3, 4: to_4, 5: to_5}
"""Version to the function that leads there from the version before."""


def upgrade_tables(con: duckdb.DuckDBPyConnection, version: int) -> None:
    """Migrate the tables of the current database from an older version to today's."""
    for number in range(version + 1, SCHEMA_VERSION + 1):
        if number in MIGRATIONS:
            MIGRATIONS[number](con)


def upgrade(con: duckdb.DuckDBPyConnection, version: int) -> None:
    """Migrate tables and views of the current database from an older version to today's."""
    drop_views(con)
    upgrade_tables(con, version)
    recreate_views(con)
    con.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", [str(SCHEMA_VERSION)])
    con.execute(
        "INSERT INTO meta VALUES ('migrated', ?)",
        [f"from schema {version} to {SCHEMA_VERSION} by hierrouter-toolkit {__version__}, duckdb {duckdb.__version__}"],
    )
