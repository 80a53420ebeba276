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


def to_6(con: duckdb.DuckDBPyConnection) -> None:
    """Call the greedy router `router`, name the reference of each lead, and mark the action that the greedy router takes.

    Leads so far are those of the sampled router. Of equally probable actions, a router takes the first of the pool.
    """
    con.execute("ALTER TABLE evaluations ADD COLUMN reference VARCHAR")
    for column in ("gap_recovered", "gap_recovered_low", "gap_recovered_high"):
        con.execute(f"ALTER TABLE evaluations ADD COLUMN {column} DOUBLE")
    con.execute(
        "UPDATE evaluations SET reference = 'router (sampled)', policy ="
        " CASE policy WHEN 'router' THEN 'router (sampled)' WHEN 'router (greedy)' THEN 'router' ELSE policy END"
    )
    con.execute("ALTER TABLE decisions ADD COLUMN chosen BOOLEAN")
    con.execute(
        "UPDATE decisions SET chosen = ranked.chosen FROM ("
        " SELECT d.rowid AS place,"
        " row_number() OVER (PARTITION BY d.run, d.node ORDER BY d.probability DESC, m.position NULLS LAST) = 1 AS chosen"
        " FROM decisions AS d LEFT JOIN runs AS r USING (run)"
        " LEFT JOIN suite_models AS m ON m.suite = r.suite AND m.name = d.action"
        ") AS ranked WHERE ranked.place = decisions.rowid"
    )


MIGRATIONS: dict[int, Callable[[duckdb.DuckDBPyConnection], None]] = {2: to_2, 3: to_3, 4: to_4, 5: to_5, 6: to_6}
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
