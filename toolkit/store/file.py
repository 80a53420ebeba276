"""The cache file: opening it, taking turns with others, refusing what is not a cache, migrating what is an older one.

A connection lives for one call. Writers hold the file for one transaction, readers for one query, so that several
processes take turns; each wait is bounded and names who holds the file. Knows nothing of what the rows mean.
"""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from toolkit import __version__
from toolkit.core.errors import CacheBusyError, CacheError
from toolkit.store.checkpoint import checkpoint, copy_of, mend
from toolkit.store.migrations import upgrade
from toolkit.store.rewrite import free_name, rewrite
from toolkit.store.rows import first
from toolkit.store.schema import SCHEMA_VERSION, STORAGE_VERSION, schema

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

WAIT_SECONDS = 60.0

logger = logging.getLogger("toolkit")

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) ?\(PID (?P<pid>\d+)\)")
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)
_PIVOT = re.compile(r"[\s(]*(PIVOT|FROM|SELECT|WITH)\b", re.IGNORECASE)
"""How a statement begins that DuckDB splits in two to pivot; a COPY of a pivot is split, too."""
_DAMAGE = re.compile(r"read enough bytes|[Cc]orrupt|checksum|INTERNAL Error|FATAL Error|Serialization Error")
"""What DuckDB says of a file whose blocks are not what they should be, as opposed to a query that is wrong."""
_CONFIG: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": "false"}
"""Nothing is fetched to open a file, whatever it turns out to be."""
_WRITING = _CONFIG | {"wal_autocheckpoint": "1TB"}
"""When a commit goes from the write-ahead log into the file is for `checkpoint` to say."""


Stamp = tuple[int, int, int]
"""What tells that a file was written to: inode, size and time."""


def now() -> datetime:
    """Return the time as the cache keeps it: UTC, without a zone."""
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
        self._found: Stamp | None = None
        """The file as the newest writer of this process found it, and as it left it."""
        self._left: Stamp | None = None

    def exists(self) -> bool:
        """Tell whether the file is there."""
        return self.path.exists()

    def create(self) -> None:
        """Make an empty cache, unless the file is there already, which is then migrated; two processes may do so at once.

        Raises:
            CacheError: The folder cannot be written.
        """
        if self.exists():
            self.migrate()
            return
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            copy_of(self.path).unlink(missing_ok=True)
            with duckdb.connect() as con:
                quoted = str(draft).replace("'", "''")
                con.execute(f"ATTACH '{quoted}' AS cache (STORAGE_VERSION '{STORAGE_VERSION}')")
                con.execute("USE cache")
                con.begin()  # else each statement is written to the disk by itself
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
            try:
                os.link(draft, self.path)  # fails where another process was first, and never overwrites
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                if not self.exists():
                    os.rename(draft, self.path)
        except (OSError, duckdb.Error) as error:
            raise CacheError(
                f"The cache {self.path} cannot be created: {error}. Is the folder there, writable, and not full?"
            ) from None
        finally:
            with suppress(OSError):  # a read-only folder refuses even that
                draft.unlink(missing_ok=True)

    def migrate(self) -> Path | None:
        """Bring a cache of an older schema up to date; does nothing to one of today's, or where there is none.

        Returns:
            Where the cache as it was is kept, or None.

        Raises:
            CacheError: It cannot be written; it is as it was.
        """
        if not self.exists():
            return None
        con, version = self._connect(True, self.wait)
        con.close()
        if version == SCHEMA_VERSION:
            return None
        con, version = self._connect(False, self.wait)
        try:
            return self._migrate(con, version) if version < SCHEMA_VERSION else None  # another process may have been first
        finally:
            con.close()

    def _migrate(self, con: duckdb.DuckDBPyConnection, version: int) -> Path:
        backup = free_name(self.path.with_name(f"{self.path.name}.v{version}.backup"), self.path)
        logger.warning(
            "%s has schema version %d and is migrated to %d; as it was, it stays as %s.",
            *(self.path, version, SCHEMA_VERSION, backup),
        )
        rewrite(con, self.path, lambda draft: upgrade(draft, version), backup)
        return backup

    @contextmanager
    def read(self, wait: float | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file read-only for the length of a `with` block; other readers may have it open as well.

        Args:
            wait: Longest time, in seconds, to wait for a process that holds it; default: the cache's own.
        """
        con = self._open(True, self.wait if wait is None else wait)
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
        """Open the file for one transaction: committed at the end of the `with` block, rolled back on any exception."""
        con = self._open(False, self.wait if wait is None else wait)
        self._found, self._left = _stamp(self.path), None
        file = self.path.open("rb")  # closed after `con`: closing a file gives up the process's lock on it
        try:
            con.begin()
            try:
                yield con
            except BaseException:
                con.rollback()
                raise
            con.commit()
            checkpoint(con, file, self.path)
            self._left = _stamp(self.path)
        except (duckdb.IOException, duckdb.FatalException, duckdb.TransactionException) as error:
            raise CacheError(
                f"The cache {self.path} cannot be written: {error}. Is the disk full? What was committed before is safe."
            ) from None
        finally:
            con.close()
            file.close()

    @contextmanager
    def hold(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Keep the file to oneself for the length of a `with` block, outside any transaction."""
        con = self._open(False, self.wait)
        try:
            yield con
        finally:
            con.close()

    def connect(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Return a read-only DuckDB connection for a `with` block; nobody can write to the file while it is open."""
        return self.read()

    def frame(
        self, source: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None, suite: str | None = None
    ) -> "pl.DataFrame":
        """Return a view, a table or the rows of a query as a polars frame; the file is open only meanwhile.

        Args:
            source: Name of a view or table, or one SQL query.
            parameters: Values of the query's parameters.
            suite: Only the rows of the suite of that name; views only.

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

    def _open(self, read_only: bool, wait: float) -> duckdb.DuckDBPyConnection:
        con, version = self._connect(read_only, wait)
        if version < SCHEMA_VERSION:
            con.close()
            if read_only:
                raise CacheError(
                    f"{self.path} has schema version {version}; this toolkit ({__version__}) reads version {SCHEMA_VERSION}. "
                    f"Migrate it, which keeps a backup: toolkit cache migrate {self.path}"
                )
            self.migrate()
            con, _ = self._connect(read_only, wait)
        return con

    def _connect(self, read_only: bool, wait: float) -> tuple[duckdb.DuckDBPyConnection, int]:
        """Open the file, once nobody is in the way; returns the connection and the version of its schema."""
        if not self.exists():
            raise CacheError(f"There is no cache {self.path}. Make one with: toolkit generate SUITE --cache {self.path}")
        deadline, pause, told = time.monotonic() + wait, 0.01, False
        while True:
            mend(self.path)
            try:
                con = duckdb.connect(str(self.path), read_only=read_only, config=_CONFIG if read_only else _WRITING)
                break
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                holder = _holder(str(error))
                if holder is None:
                    raise self._unreadable(error) from None
                if time.monotonic() > deadline:
                    raise CacheBusyError(
                        f"The cache {self.path} is held by {holder}; waited {wait:.0f} s for it. "
                        "Close the connection there (a notebook keeps one until it is closed), then repeat the command."
                    ) from None
                if not told and time.monotonic() > deadline - wait + 1:
                    told = True
                    logger.warning("waiting for %s, which holds %s (at most %.0f s)", holder, self.path, wait)
                time.sleep(pause)
                pause = min(pause * 1.5, 0.25)
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
            f"The file {self.path} cannot be opened as a cache: {reason} It is left as it is; name another with --cache FILE."
        )

    def _damaged(self, error: Exception) -> CacheError:
        return CacheError(
            f"The cache {self.path} is damaged: {str(error).splitlines()[0]} It is left as it is. "
            "Go back to a copy or a backup; toolkit cache list shows what lies beside it."
        )

    def _schema_version(self, con: duckdb.DuckDBPyConnection) -> int:
        try:
            row = first(con, "SELECT value FROM meta WHERE key = 'schema_version'")
        except duckdb.CatalogException:
            row = None
        except duckdb.Error as error:
            raise self._damaged(error) from None
        if row is None:
            raise CacheError(
                f"{self.path} is a DuckDB file, but not a cache of this toolkit. It is left as it is; "
                "name another with --cache FILE."
            )
        if int(row[0]) > SCHEMA_VERSION:
            raise CacheError(
                f"{self.path} has schema version {row[0]}; this toolkit ({__version__}) knows up to {SCHEMA_VERSION}. "
                "Update it: pip install --upgrade hierrouter-toolkit"
            )
        return int(row[0])

    def arrow(self, query: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> "pa.Table":
        """Run one query that reads and return its rows; other files may be read along, none can be written.

        Raises:
            CacheError: The query is wrong, or no query.
        """
        with self.read() as con:
            try:
                _check_reads(query)
                relation = con.sql(query, params=parameters)
                if relation is None:
                    raise CacheError("That is no query that returns rows. An example: SELECT * FROM progress")
                return relation.to_arrow_table()
            except duckdb.Error as error:
                if _DAMAGE.search(str(error)):
                    raise
                raise CacheError(f"{error}\nThe views and their columns are listed by: toolkit schema") from None


def _check_reads(query: str) -> None:
    """Make sure that a query is one, and only reads: the cache is open read-only, but COPY, ATTACH and others write elsewhere.

    Files may be read (`read_csv`), so external access is not simply off. What is not known to read is refused.

    Raises:
        CacheError: It does something else.
    """
    statements = duckdb.extract_statements(query)
    if not statements:
        raise CacheError("That is no query that returns rows. An example: SELECT * FROM progress")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN and (explained := _EXPLAIN.match(query)):
        _check_reads(query[explained.end() :])
        return
    reads = kind == duckdb.StatementType.SELECT or (kind == duckdb.StatementType.MULTI and _PIVOT.match(query))
    if len(statements) > 1 or not reads:
        raise CacheError(
            "Only one query that reads is run here (SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, PIVOT, EXPLAIN): caches are "
            "read-only. Results go to a file by --output FILE --format csv|json|markdown|parquet."
        )


def _holder(message: str) -> str | None:
    found = _HOLDER.search(message)
    if found:
        return f"process {found['pid']} ({Path(found['program']).name or 'unknown program'})"
    if "different configuration" in message:
        return "another connection of this process"
    if "Could not set lock" in message or "being used by another process" in message:
        return "another process"
    return None


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
