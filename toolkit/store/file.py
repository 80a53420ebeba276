"""The cache file: opens it, shares it with other processes, refuses foreign files and migrates older ones.

A connection lives for one call: a writer holds the file for one transaction, a reader for one query, so that processes take
turns. Every wait is bounded, and the error names the process that holds the file. Knows nothing of what the rows mean.
"""

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from toolkit import __version__
from toolkit.core.commands import command
from toolkit.core.errors import CacheBusyError, CacheError
from toolkit.core.files import atomic_path
from toolkit.store.checkpoint import checkpoint, copy_of, repair
from toolkit.store.migrations import upgrade
from toolkit.store.queries import named_queries
from toolkit.store.rewrite import free_name, quoted, rewrite
from toolkit.store.rows import first_row
from toolkit.store.schema import SCHEMA_VERSION, STORAGE_VERSION, schema

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

WAIT_SECONDS = 60.0
"""Longest time to wait for a process that holds the file, unless told otherwise."""
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two attempts to open a held file."""

logger = logging.getLogger("toolkit")

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) ?\(PID (?P<pid>\d+)\)")
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)
_PIVOT = re.compile(r"[\s(]*(PIVOT|FROM|SELECT|WITH)\b", re.IGNORECASE)
"""Beginning of a statement that DuckDB splits in two to pivot; it also splits the COPY of a pivot."""
_DAMAGE = re.compile(r"read enough bytes|[Cc]orrupt|checksum|INTERNAL Error|FATAL Error|Serialization Error")
"""What DuckDB reports of a damaged file, as opposed to a wrong query."""
_READ_CONFIG: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": "false"}
"""Opening a file never downloads an extension."""
_WRITE_CONFIG = _READ_CONFIG | {"wal_autocheckpoint": "1TB"}
"""`checkpoint` alone decides when a commit moves from the write-ahead log into the file."""


FileState = tuple[int, int, int]
"""Inode, size and modification time: another state means that somebody has written to the file."""


def now() -> datetime:
    """Return the current time as caches store it: UTC, without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


NO_QUERY = "That is not a query that returns rows. An example: SELECT * FROM progress"


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
        """Return whether the file exists."""
        return self.path.exists()

    def create(self) -> None:
        """Create an empty cache, or migrate the file if it exists; two processes may do so at once.

        Raises:
            CacheError: The folder cannot be written.
        """
        if self.exists():
            self.migrate()
            return
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
        rewrite(con, self.path, lambda draft: upgrade(draft, version), backup)
        return backup

    @contextmanager
    def read(self, wait: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file read-only for a `with` block; other readers may open it at the same time.

        Args:
            wait: Longest time, in seconds, to wait for a process that holds the file; default: the cache's own.
        """
        con = self._open(read_only=True, wait=wait)
        try:
            yield con
        except duckdb.Error as error:
            if _DAMAGE.search(str(error)):
                raise self._damaged(error) from None
            raise
        finally:
            con.close()

    @contextmanager
    def write(self, wait: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for one transaction, which the end of the `with` block commits and any exception rolls back."""
        con = self._open(read_only=False, wait=wait)
        self.state_at_open, self.state_at_close = _state(self.path), None
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
            self.state_at_close = _state(self.path)
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

    def _open(self, read_only: bool, wait: float | None = None) -> duckdb.DuckDBPyConnection:
        con, version = self.open_any_version(read_only, wait)
        if version < SCHEMA_VERSION:
            con.close()
            if read_only:
                raise CacheError(
                    f"{self.path} has schema version {version}; this toolkit ({__version__}) reads version {SCHEMA_VERSION}. "
                    f"Migrate it, which keeps a backup: {command('cache', 'migrate', self.path)}"
                )
            self.migrate()
            con, _ = self.open_any_version(read_only, wait)
        return con

    def open_any_version(self, read_only: bool = True, wait: float | None = None) -> tuple[duckdb.DuckDBPyConnection, int]:
        """Open a cache of any schema, waiting for processes that hold it; return the connection and the schema's version.

        Raises:
            CacheError: There is no file, or it is not a cache, or it is damaged or too new.
            CacheBusyError: Another process held it for longer than `wait` seconds.
        """
        wait = self.wait if wait is None else wait
        if not self.exists():
            raise CacheError(f"There is no cache {self.path}. Create it with: {command('generate', 'SUITE', cache=self.path)}")
        deadline, pause, warned = time.monotonic() + wait, FIRST_PAUSE, False
        while True:
            repair(self.path)
            try:
                con = duckdb.connect(str(self.path), read_only=read_only, config=_READ_CONFIG if read_only else _WRITE_CONFIG)
                break
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                holder = _holder(str(error))
                if holder is None:
                    raise self._unreadable(error) from None
                if time.monotonic() > deadline:
                    raise CacheBusyError(
                        f"The cache {self.path} is held by {holder}; waited {wait:.0f} s. "
                        "Close the connection there (a notebook keeps it open until it is closed), then repeat the command."
                    ) from None
                if not warned and time.monotonic() > deadline - wait + 1:
                    warned = True
                    logger.warning("waiting for %s, which holds %s (at most %.0f s)", holder, self.path, wait)
                time.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)
            except duckdb.Error as error:
                raise self._unreadable(error) from None
        try:
            if not read_only:
                con.execute("PRAGMA disable_checkpoint_on_shutdown")
            return con, self._schema_version(con)
        except BaseException:
            con.close()
            raise

    def _unreadable(self, error: Exception) -> CacheError:
        reason = str(error).splitlines()[0]
        return CacheError(
            f"The file {self.path} cannot be opened as a cache: {reason} It is left as it is; "
            "name another file with --cache FILE."
        )

    def _damaged(self, error: Exception) -> CacheError:
        return CacheError(
            f"The cache {self.path} is damaged: {str(error).splitlines()[0]} It is left as it is. "
            f"Use a copy or a backup instead. To see what lies beside the file: {command('cache', 'list', self.path.parent)}"
        )

    def _schema_version(self, con: duckdb.DuckDBPyConnection) -> int:
        try:
            row = first_row(con, "SELECT value FROM meta WHERE key = 'schema_version'")
        except duckdb.CatalogException:
            row = None
        except duckdb.Error as error:
            raise self._damaged(error) from None
        if row is None:
            raise CacheError(
                f"{self.path} is a DuckDB file, but not a cache of this toolkit. It is left as it is; "
                "name another file with --cache FILE."
            )
        if int(row[0]) > SCHEMA_VERSION:
            raise CacheError(
                f"{self.path} has schema version {row[0]}; this toolkit ({__version__}) knows up to {SCHEMA_VERSION}. "
                "Update the toolkit: git pull in its clone, or install the newest release."
            )
        return int(row[0])

    def query(self, name: str, /, **parameters: Any) -> "pa.Table":
        """Run a query of `queries.sql` by its name."""
        return self.arrow(named_queries("queries.sql")[name], parameters)

    def arrow(self, query: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> "pa.Table":
        """Run one read-only query and return its rows; the query may read other files, but cannot write any.

        Raises:
            CacheError: The query is wrong, or not a single read-only query.
        """
        with self.read() as con:
            try:
                _check_reads(query)
                relation = con.sql(query, params=parameters)
                if relation is None:
                    raise CacheError(NO_QUERY)
                return relation.to_arrow_table()
            except duckdb.Error as error:
                if _DAMAGE.search(str(error)):
                    raise
                raise CacheError(f"{error}\nTo list the views and their columns: toolkit schema") from None


def _check_reads(query: str) -> None:
    """Refuse everything but a single read-only query: the cache is open read-only, but COPY, ATTACH and others write elsewhere.

    Reading files (`read_csv`) is allowed, so external access is not simply off. Statements not known to only read are refused.

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


def _holder(message: str) -> str | None:
    match = _HOLDER.search(message)
    if match:
        return f"process {match['pid']} ({Path(match['program']).name or 'unknown program'})"
    if "different configuration" in message:
        return "another connection of this process"
    if "Could not set lock" in message or "being used by another process" in message:
        return "another process"
    return None


def _state(path: Path) -> FileState:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
