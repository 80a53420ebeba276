"""The cache file: opens it, shares it with other processes, refuses foreign files and migrates older ones.

A connection lives for one call: a writer holds the file for one transaction, a reader for one query, so that processes take
turns. Every wait is bounded, and the error names the process that holds the file. Knows nothing of what the rows mean.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from toolkit import __version__
from toolkit.core.commands import command
from toolkit.core.errors import CacheError
from toolkit.core.files import atomic_path, kind_of
from toolkit.store.checkpoint import checkpoint, copy_of
from toolkit.store.foreign import check_objects, check_tables, objects_of
from toolkit.store.migrations import upgrade
from toolkit.store.opening import FileState, damaged, is_damage, open_cache, remember_checked, state_of
from toolkit.store.queries import named_queries
from toolkit.store.rewrite import free_name, quoted, remove_abandoned_drafts, rewrite
from toolkit.store.schema import SCHEMA_VERSION, STORAGE_VERSION, schema
from toolkit.store.user_queries import run_query

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

WAIT_SECONDS = 60.0
"""Longest time to wait for a process that holds the file, unless told otherwise."""

logger = logging.getLogger("toolkit")


def now() -> datetime:
    """Return the current time as caches store it: UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


class CacheFile:
    """One `.duckdb` file.

    Args:
        path: The file; `create` makes it, everything else needs it to be there.
        wait: Longest time, in seconds, to wait for a process that holds the file.
    """

    def __init__(self, path: Path | str, wait: float = WAIT_SECONDS) -> None:
        self.path = Path(path)
        self.wait = wait
        self.state_at_open: FileState | None = None
        """The file's state when this object last opened it for writing."""
        self.state_at_close: FileState | None = None
        """The file's state after this object's last commit."""

    def exists(self) -> bool:
        """Return whether the file exists.

        Raises:
            CacheError: Something else has that name, or no file can have it.
        """
        kind = kind_of(self.path)
        if kind in ("a file", "nothing"):
            return kind == "a file"
        raise CacheError(f"{self.path} is {kind}, not a cache. Name another file with --cache FILE.")

    def create(self) -> None:
        """Create an empty cache, or migrate the file if it exists; two processes may do so at once.

        Raises:
            CacheError: The folder cannot be written.
        """
        exists = self.exists()
        remove_abandoned_drafts(self.path)
        if exists:
            self.migrate()
            return
        if os.sep == "/" and "\\" in str(self.path):
            raise CacheError(f"{self.path} has a backslash, which DuckDB takes for a folder. Name another file.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            copy_of(self.path).unlink(missing_ok=True)
            with atomic_path(self.path, overwrite=False) as draft, duckdb.connect() as con:
                con.execute(f"ATTACH {quoted(draft)} AS cache (STORAGE_VERSION '{STORAGE_VERSION}')")
                con.execute("USE cache")
                con.begin()  # one write to the disk instead of one per statement
                con.execute(schema())
                facts = {
                    "schema_version": str(SCHEMA_VERSION),
                    "storage_version": STORAGE_VERSION,
                    "created_by": f"hierrouter-toolkit {__version__}, duckdb {duckdb.__version__}",
                    "created": now().isoformat(timespec="seconds"),
                }
                con.executemany("INSERT INTO meta VALUES (?, ?)", [list(fact) for fact in facts.items()])
                con.commit()
                con.execute("USE memory; DETACH cache")
        except (OSError, duckdb.Error) as error:
            raise CacheError(
                f"The cache {self.path} cannot be created: {error}. Does the folder exist, is it writable, is the disk full?"
            ) from None

    def migrate(self) -> Path | None:
        """Migrate a cache of an older schema; does nothing if it is current, or if there is no file.

        Returns:
            Where the previous file is kept, or None.

        Raises:
            CacheError: The file cannot be written; it is unchanged.
        """
        if not self.exists():
            return None
        con, version = self.open_any_version()
        con.close()
        if version == SCHEMA_VERSION:
            return None
        con, version = self.open_any_version(read_only=False)
        try:
            return self._migrate(con, version) if version < SCHEMA_VERSION else None  # another process may have been first
        finally:
            con.close()

    def _migrate(self, con: duckdb.DuckDBPyConnection, version: int) -> Path:
        backup = free_name(self.path.with_name(f"{self.path.name}.v{version}.backup"), self.path)
        logger.warning(
            "%s has schema version %d and is migrated to %d; the previous file is kept as %s.",
            *(self.path, version, SCHEMA_VERSION, backup),
        )

        def change(draft: duckdb.DuckDBPyConnection) -> None:
            upgrade(draft, version)
            objects = objects_of(draft, "draft")
            check_tables(objects, self.path, of_today=True)
            check_objects(objects, self.path, of_today=True)

        rewrite(con, self.path, change, backup)
        return backup

    @contextmanager
    def read(
        self, wait: float | None = None, folder: Path | None = None, *, spills: bool = True
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file read-only for a `with` block; other readers may open it at the same time.

        Args:
            wait: Longest time, in seconds, to wait for a process that holds the file; default: the cache's own.
            folder: The one folder in which the connection may read and write files; default: none.
            spills: Whether queries that fill the memory may use temporary files beside the cache.
        """
        con = self._open(read_only=True, wait=wait, allowed=[folder] if folder else [], spills=spills)
        try:
            yield con
        except duckdb.Error as error:
            if is_damage(error):
                raise damaged(self.path, error) from None
            raise
        finally:
            con.close()

    @contextmanager
    def write(self, wait: float | None = None, source: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for one transaction, which the end of the `with` block commits and any exception rolls back.

        Args:
            wait: Longest time, in seconds, to wait for a process that holds the file; default: the cache's own.
            source: A folder or another cache that the connection may read; default: none.
        """
        con = self._open(read_only=False, wait=wait, allowed=[source] if source else [])
        self.state_at_open, self.state_at_close = state_of(self.path), None
        file = self.path.open("rb")  # closed after `con`: closing a file releases the process's lock on it
        try:
            con.begin()
            try:
                yield con
            except BaseException:
                con.rollback()
                raise
            con.commit()
            checkpoint(con, file, self.path)
            self.state_at_close = state_of(self.path)
            remember_checked(self.path)
        except (duckdb.IOException, duckdb.FatalException, duckdb.TransactionException) as error:
            raise CacheError(
                f"The cache {self.path} cannot be written: {error}. Is the disk full? What was committed before is safe."
            ) from None
        finally:
            con.close()
            file.close()

    @contextmanager
    def hold(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the file exclusively for a `with` block, outside any transaction."""
        con = self._open(read_only=False)
        try:
            yield con
        finally:
            con.close()

    def connect(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Return a read-only DuckDB connection for a `with` block; while it is open, nobody can write to the file."""
        return self.read()

    def frame(
        self, source: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None, suite: str | None = None
    ) -> "pl.DataFrame":
        """Return a view, a table or the rows of a query as a polars frame; the file is open only during the call.

        Args:
            source: Name of a view or table, or a SQL query.
            parameters: Values of the query's parameters.
            suite: Name of a suite: only its rows; for views only.

        Raises:
            CacheError: There is no such view, or the query is wrong.
        """
        import polars as pl

        query = source
        if suite is not None:
            query, parameters = f"FROM {source} WHERE suite = $suite", {"suite": suite}
        elif source.isidentifier():
            query = f"FROM {source}"
        return pl.DataFrame(pl.from_arrow(self.arrow(query, parameters)))

    def _open(
        self, read_only: bool, wait: float | None = None, allowed: Sequence[Path] = (), *, spills: bool = True
    ) -> duckdb.DuckDBPyConnection:
        con, version = self.open_any_version(read_only, wait, allowed, spills=spills)
        if version < SCHEMA_VERSION:
            con.close()
            if read_only:
                raise CacheError(
                    f"{self.path} has schema version {version}; this toolkit ({__version__}) reads version {SCHEMA_VERSION}. "
                    f"Migrate it, which keeps a backup: {command('cache', 'migrate', self.path)}"
                )
            self.migrate()
            con, _ = self.open_any_version(read_only, wait, allowed)
        return con

    def open_any_version(
        self, read_only: bool = True, wait: float | None = None, allowed: Sequence[Path] = (), *, spills: bool = True
    ) -> tuple[duckdb.DuckDBPyConnection, int]:
        """Open a cache of any schema; return the connection and the schema's version.

        Raises:
            CacheError: There is no file, or it is not a cache, or it is damaged, foreign or too new.
            CacheBusyError: Another process held it for longer than `wait` seconds.
        """
        return open_cache(self.path, self.wait if wait is None else wait, allowed, read_only=read_only, spills=spills)

    def query(self, name: str, /, **parameters: Any) -> "pa.Table":
        """Run a query of `queries.sql` by its name."""
        return self.fetch(named_queries("queries.sql")[name], parameters)

    def fetch(self, query: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> "pa.Table":
        """Run a query of the toolkit and return its rows.

        Raises:
            CacheError: The query fails.
        """
        with self.read() as con, self._named_errors():
            return con.sql(query, params=parameters).to_arrow_table()

    def arrow(
        self,
        query: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        tables: "Mapping[str, pa.Table] | None" = None,
    ) -> "pa.Table":
        """Run one query and return its rows; it can read the cache and `tables`, and can neither read nor write a file.

        Args:
            query: The query.
            parameters: Values of its parameters.
            tables: Arrow tables that the query may read beside the cache, by name.

        Raises:
            CacheError: The query is wrong, or not a single read-only query.
        """
        with self.read(spills=False) as con, self._named_errors():
            return run_query(con, query, parameters, tables or {})

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            if is_damage(error):
                raise
            raise CacheError(f"{error}\nTo list the views and their columns: toolkit schema") from None
