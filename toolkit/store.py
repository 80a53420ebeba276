"""The cache file: the only module that opens DuckDB.

A connection lives for one call. Writers hold the file for one transaction, readers for one query, so that several
processes take turns; each wait is bounded and names who holds the file. The store knows keys and rows, not models.
"""

import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import duckdb

from toolkit import __version__
from toolkit.config import SuiteConfig
from toolkit.errors import CacheBusyError, CacheError
from toolkit.keys import canonical_json
from toolkit.metrics import Reference
from toolkit.suite import Model, Question, Suite

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
STORAGE_VERSION = "v1.2.0"
WAIT_SECONDS = 60.0

Row = Mapping[str, Any]

logger = logging.getLogger("toolkit")

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.*?) ?\(PID (?P<pid>\d+)\)")
_CONFIG: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": "false"}
"""Nothing is fetched to open a file, whatever it turns out to be."""
_KEYS = {
    "models": ("model",),
    "questions": ("question",),
    "generations": ("generation",),
    "nodes": ("node",),
    "scores": ("question", "text", "metric"),
    "embeddings": ("text", "encoder"),
    "runs": ("run",),
}
_TYPES: dict[str, dict[str, str]] = {}
"""Column types by table, asked of the first cache that is opened; they are the schema's, the same in every cache."""


class Parent(NamedTuple):
    """A node that the next hop starts from."""

    node: UUID
    root: UUID
    question: UUID
    sample: int
    path: tuple[UUID, ...]
    answers: tuple[str, ...]


class Progress(NamedTuple):
    """Counts of nodes of a suite, root nodes left out."""

    benchmark: str
    depth: int
    model: str
    nodes: int
    done: int
    failed: int
    missing: int


@dataclass
class Batch:
    """Rows that belong together: they are committed in one transaction, or not at all."""

    generations: list[Row] = field(default_factory=list)
    nodes: list[Row] = field(default_factory=list)
    scores: list[Row] = field(default_factory=list)
    embeddings: list[Row] = field(default_factory=list)


def now() -> datetime:
    """Return the time as the cache keeps it: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


class Cache:
    """One `.duckdb` file.

    Args:
        path: The file; `create` makes it, everything else needs it to be there.
        wait: Longest time, in seconds, to wait for a process that holds the file.
    """

    def __init__(self, path: Path | str, wait: float = WAIT_SECONDS) -> None:
        self.path = Path(path)
        self.wait = wait

    # -- opening ---------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Tell whether the file is there."""
        return self.path.exists()

    def create(self) -> None:
        """Make an empty cache, unless the file is there already; two processes may do so at once.

        Raises:
            CacheError: The folder cannot be written.
        """
        if self.exists():
            return
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.unlink(missing_ok=True)
            with duckdb.connect() as con:
                quoted = str(draft).replace("'", "''")
                con.execute(f"ATTACH '{quoted}' AS cache (STORAGE_VERSION '{STORAGE_VERSION}')")
                con.execute("USE cache")
                con.execute(_schema())
                facts = {
                    "schema_version": str(SCHEMA_VERSION),
                    "storage_version": STORAGE_VERSION,
                    "created_by": f"hierrouter-toolkit {__version__}, duckdb {duckdb.__version__}",
                    "created": now().isoformat(timespec="seconds"),
                }
                con.executemany("INSERT INTO meta VALUES (?, ?)", [list(fact) for fact in facts.items()])
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
            draft.unlink(missing_ok=True)

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file read-only for the length of a `with` block; other readers may have it open as well."""
        con = self._open(read_only=True)
        try:
            yield con
        finally:
            con.close()

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for one transaction: committed at the end of the `with` block, rolled back on any exception."""
        con = self._open(read_only=False)
        try:
            con.begin()
            try:
                yield con
            except BaseException:
                con.rollback()
                raise
            con.commit()
        except (duckdb.IOException, duckdb.FatalException) as error:
            raise CacheError(
                f"The cache {self.path} cannot be written: {error}. Is the disk full? What was committed before is safe."
            ) from None
        finally:
            con.close()

    def _open(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        if not self.exists():
            raise CacheError(f"There is no cache {self.path}. Make one with: toolkit generate SUITE --cache {self.path}")
        deadline, pause, told = time.monotonic() + self.wait, 0.01, False
        while True:
            try:
                con = duckdb.connect(str(self.path), read_only=read_only, config=_CONFIG)
                break
            except (duckdb.IOException, duckdb.ConnectionException) as error:
                holder = _holder(str(error))
                if holder is None:
                    raise self._unreadable(error) from None
                if time.monotonic() > deadline:
                    raise CacheBusyError(
                        f"The cache {self.path} is held by {holder}; waited {self.wait:.0f} s for it. "
                        "Close the connection there (a notebook keeps one until it is closed), then repeat the command."
                    ) from None
                if not told and time.monotonic() > deadline - self.wait + 1:
                    told = True
                    logger.warning("waiting for %s, which holds %s (at most %.0f s)", holder, self.path, self.wait)
                time.sleep(pause)
                pause = min(pause * 1.5, 0.25)
            except duckdb.Error as error:
                raise self._unreadable(error) from None
        try:
            self._check_schema(con)
        except BaseException:
            con.close()
            raise
        return con

    def _unreadable(self, error: Exception) -> CacheError:
        reason = str(error).splitlines()[0]
        return CacheError(
            f"The file {self.path} cannot be opened as a cache: {reason} It is left as it is; name another with --cache FILE."
        )

    def _check_schema(self, con: duckdb.DuckDBPyConnection) -> None:
        try:
            row = _first(con, "SELECT value FROM meta WHERE key = 'schema_version'")
        except duckdb.CatalogException:
            row = None
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

    # -- suites ----------------------------------------------------------------------------------------------------

    def record(self, suite: Suite) -> None:
        """Record a suite as resolved, with its models, questions, roots and paths, and make it the current one of its name."""
        with self.write() as con:
            if _first(con, "SELECT 1 FROM suites WHERE suite = ?", [suite.key]):
                con.execute(
                    "UPDATE suites SET recorded = ?, config = ? WHERE suite = ?",
                    [now(), suite.config.model_dump_json(), suite.key],
                )
                return
            _insert(con, "models", [{"model": m.key, "identity": canonical_json(m.identity)} for m in suite.models])
            _insert(
                con,
                "questions",
                [
                    {
                        "question": q.key,
                        "benchmark": q.benchmark,
                        "version": q.version,
                        "item": q.item,
                        "prompt": q.prompt,
                        "reference": canonical_json({"answers": q.reference.answers, "choices": q.reference.choices}),
                    }
                    for q in suite.questions
                ],
            )
            trees = list(suite.trees())
            _insert(
                con,
                "nodes",
                [{"node": root, "root": root, "question": q.key, "path": [], "depth": 0} for q, _, root in trees],
            )
            _append(
                con,
                "suites",
                [
                    {
                        "suite": suite.key,
                        "name": suite.name,
                        "config": suite.config.model_dump_json(),
                        "horizon": suite.horizon,
                        "samples": suite.config.samples,
                        "encoder": suite.encoder,
                        "recorded": now(),
                    }
                ],
            )
            _append(
                con,
                "suite_models",
                [
                    {
                        "suite": suite.key,
                        "position": n,
                        "model": m.key,
                        "name": m.name,
                        "rate_in": m.rate_in,
                        "rate_out": m.rate_out,
                    }
                    for n, m in enumerate(suite.models)
                ],
            )
            _append(
                con,
                "suite_questions",
                [
                    {
                        "suite": suite.key,
                        "position": n,
                        "sample": s,
                        "question": q.key,
                        "root": root,
                        "split": q.split,
                        "metric": q.metric,
                    }
                    for n, (q, s, root) in enumerate(trees)
                ],
            )
            _append(
                con,
                "suite_paths",
                [
                    {"suite": suite.key, "number": n, "depth": len(p), "path": [m.key for m in p], "names": [m.name for m in p]}
                    for n, p in enumerate(suite.paths())
                ],
            )

    def suite_names(self) -> list[str]:
        """Return the names of the recorded suites."""
        with self.read() as con:
            return [row[0] for row in con.execute("SELECT name FROM current_suites ORDER BY name").fetchall()]

    def recorded(self, name: str) -> Suite | None:
        """Read back the current suite of a name, or None."""
        with self.read() as con:
            row = _first(con, "SELECT suite, config, encoder FROM current_suites WHERE name = ?", [name])
            if row is None:
                return None
            models = con.execute(
                "SELECT model, name, identity, rate_in, rate_out FROM suite_models JOIN models USING (model)"
                " WHERE suite = ? ORDER BY position",
                [row[0]],
            ).fetchall()
            questions = con.execute(
                "SELECT question, benchmark, version, item, prompt, reference, metric, split"
                " FROM suite_questions JOIN questions USING (question) WHERE suite = ? AND sample = 0 ORDER BY position",
                [row[0]],
            ).fetchall()
        return Suite(
            SuiteConfig.model_validate_json(row[1]),
            tuple(Model(k, n, json.loads(identity), a, b) for k, n, identity, a, b in models),
            tuple(
                Question(k, b, v, i, p, Reference(**{n: tuple(a) for n, a in json.loads(r).items()}), m, s)
                for k, b, v, i, p, r, m, s in questions
            ),
            row[2],
        )

    def set_cost_unit(self, suite: UUID) -> None:
        """Compute a suite's cost unit once its first hop is whole; does nothing before that, or a second time."""
        with self.write() as con:
            con.execute(
                """
                WITH first AS (
                    SELECT m.name, avg(m.rate_in * g.prompt_tokens + m.rate_out * g.completion_tokens) AS cost, count(*) AS n
                    FROM suite_questions AS q
                    JOIN nodes AS n ON n.root = q.root AND n.depth = 1
                    JOIN suite_models AS m ON m.suite = q.suite AND m.model = n.path[1]
                    JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
                    WHERE q.suite = $suite AND q.split = 'train'
                    GROUP BY m.name
                ),
                whole AS (
                    SELECT (SELECT count(*) FROM suite_questions WHERE suite = $suite AND split = 'train') AS questions,
                           (SELECT count(*) FROM suite_models WHERE suite = $suite) AS models
                )
                UPDATE suites SET cost_unit = (SELECT max(cost) FROM first)
                WHERE suite = $suite AND cost_unit IS NULL
                  AND (SELECT sum(n) FROM first) = (SELECT questions * models FROM whole)
                """,
                {"suite": suite},
            )

    def progress(self, name: str) -> list[Progress]:
        """Count done, failed and missing nodes of a suite by benchmark, depth and model."""
        with self.read() as con:
            rows = con.execute(
                "SELECT benchmark, depth, p.model, nodes, done, failed, missing FROM progress AS p"
                " JOIN current_suites AS s ON s.name = p.suite JOIN suite_models AS m ON m.suite = s.suite AND m.name = p.model"
                " WHERE p.suite = ? ORDER BY depth, m.position, benchmark",
                [name],
            ).fetchall()
        return [Progress(*row) for row in rows]

    def nodes_by_benchmark(self, suite: Suite) -> dict[tuple[str, int, UUID], int]:
        """Count the answered nodes of a suite, recorded or not, by benchmark, depth and last model."""
        with self.read() as con:
            con.register("incoming", _arrow_keys([root for _, _, root in suite.trees()]))
            con.register("pool", _arrow_keys([model.key for model in suite.models]))
            rows = con.execute(
                "SELECT q.benchmark, n.depth, n.path[-1], count(*) FROM incoming"
                " JOIN nodes AS n ON n.root = incoming.key::UUID AND n.depth BETWEEN 1 AND ?"
                " JOIN questions AS q USING (question)"
                " JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'"
                " WHERE list_has_all((SELECT list(key::UUID) FROM pool), n.path) GROUP BY ALL",
                [suite.horizon],
            ).fetchall()
        return {(benchmark, depth, model): count for benchmark, depth, model, count in rows}

    def mean_generation(self) -> dict[tuple[UUID, int | None], tuple[float, float, float]]:
        """Return mean prompt tokens, completion tokens and seconds of answers by model and depth; depth None is any."""
        with self.read() as con:
            rows = con.execute(
                "SELECT g.model, n.depth, avg(g.prompt_tokens), avg(g.completion_tokens), avg(g.seconds)"
                " FROM generations AS g JOIN (SELECT DISTINCT generation, depth FROM nodes) AS n USING (generation)"
                " WHERE g.status = 'ok' GROUP BY GROUPING SETS ((g.model, n.depth), (g.model))"
            ).fetchall()
        return {(model, depth): (prompt, completion, seconds) for model, depth, prompt, completion, seconds in rows}

    # -- generation ------------------------------------------------------------------------------------------------

    def parents(self, suite: Suite, depth: int) -> list[Parent]:
        """Return the nodes at `depth` that have an answer (the roots at depth 0), with all answers on their paths."""
        hops = range(1, depth + 1)
        joins = "".join(
            f" JOIN nodes AS n{hop} ON n{hop}.parent = {'n' + str(hop - 1) if hop > 1 else 'q'}.{'node' if hop > 1 else 'root'}"
            f" JOIN pool AS p{hop} ON p{hop}.model = n{hop}.path[-1]"
            f" JOIN generations AS g{hop} ON g{hop}.generation = n{hop}.generation AND g{hop}.status = 'ok'"
            for hop in hops
        )
        node = f"n{depth}.node" if depth else "q.root"
        path = f"n{depth}.path" if depth else "[]"
        answers = ", ".join(f"g{hop}.response" for hop in hops)
        order = "".join(f", p{hop}.position" for hop in hops)
        with self.read() as con:
            rows = con.execute(
                "WITH pool AS (SELECT model, position FROM suite_models WHERE suite = $suite)"
                f" SELECT {node}, q.root, q.question, q.sample, {path}, [{answers}] FROM suite_questions AS q{joins}"
                f" WHERE q.suite = $suite ORDER BY q.position{order}",
                {"suite": suite.key},
            ).fetchall()
        return [Parent(row[0], row[1], row[2], row[3], tuple(row[4]), tuple(row[5])) for row in rows]

    def nodes_done(self, nodes: Sequence[UUID], retry: bool = False) -> set[UUID]:
        """Return those of the nodes that need no generation: answered, or, unless `retry`, failed for good."""
        with self.read() as con:
            con.register("incoming", _arrow_keys(nodes))
            rows = con.execute(
                "SELECT n.node FROM nodes AS n JOIN incoming ON n.node = incoming.key::UUID"
                " JOIN generations AS g ON g.generation = n.generation"
                " WHERE g.status = 'ok' OR NOT (g.transient OR ?)",
                [retry],
            ).fetchall()
        return {row[0] for row in rows}

    def generations_done(self, generations: Sequence[UUID]) -> dict[UUID, str]:
        """Return key and response of those of the generations that are there with an answer."""
        with self.read() as con:
            con.register("incoming", _arrow_keys(generations))
            rows = con.execute(
                "SELECT g.generation, g.response FROM generations AS g"
                " JOIN incoming ON g.generation = incoming.key::UUID WHERE g.status = 'ok'"
            ).fetchall()
        return dict(rows)

    def commit(self, batch: Batch) -> None:
        """Commit a batch in one transaction; rows that are there already stay as they are, errors are replaced."""
        with self.write() as con:
            if batch.generations:
                con.register("retried", _arrow_keys([row["generation"] for row in batch.generations]))
                con.execute("DELETE FROM generations WHERE status = 'error' AND generation IN (SELECT key::UUID FROM retried)")
            for table in ("generations", "nodes", "scores", "embeddings"):
                _insert(con, table, getattr(batch, table))

    def unscored(self, suite: UUID) -> list[tuple[UUID, str]]:
        """Return question and response of the suite's answers that their metric has not scored."""
        with self.read() as con:
            return con.execute(
                "SELECT DISTINCT q.question, g.response FROM suite_questions AS q"
                " JOIN nodes AS n ON n.root = q.root JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'"
                " JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path"
                " WHERE q.suite = ? AND NOT EXISTS (SELECT 1 FROM scores AS c"
                " WHERE c.question = q.question AND c.text = g.text AND c.metric = q.metric)",
                [suite],
            ).fetchall()

    # -- features --------------------------------------------------------------------------------------------------

    def texts_to_embed(self, suite: Suite) -> list[str]:
        """Return the texts of the suite's decision nodes that its encoder has not embedded yet, equal texts once."""
        with self.read() as con:
            rows = con.execute(
                f"WITH {decision_texts(suite)}, texts AS (SELECT DISTINCT text FROM decision_texts)"
                " SELECT text FROM texts WHERE NOT EXISTS (SELECT 1 FROM embeddings AS e"
                " WHERE e.encoder = $encoder AND e.text = left(sha256(texts.text), 32)::UUID) ORDER BY length(text) DESC, text",
                {"suite": suite.key, "encoder": suite.encoder},
            ).fetchall()
        return [row[0] for row in rows]

    # -- runs ------------------------------------------------------------------------------------------------------

    def add_run(self, run: Row) -> None:
        """Record a trained router; a run of the same name is replaced, with what was evaluated of it."""
        with self.write() as con:
            for table in ("runs", "evaluations", "decisions"):
                con.execute(f"DELETE FROM {table} WHERE run = ?", [run["run"]])
            _append(con, "runs", [run])

    def add_evaluation(self, run: str, split: str, evaluations: Iterable[Row], decisions: Iterable[Row]) -> None:
        """Record what a run's router and its baselines score, in place of an earlier evaluation on the same split."""
        with self.write() as con:
            con.execute("DELETE FROM evaluations WHERE run = ? AND split = ?", [run, split])
            _append(con, "evaluations", list(evaluations))
            decided = list(decisions)
            con.register("decided", _arrow_keys([row["node"] for row in decided]))
            con.execute("DELETE FROM decisions WHERE run = ? AND node IN (SELECT key::UUID FROM decided)", [run])
            _append(con, "decisions", decided)

    def newest_run(self, suite: str) -> tuple[str, str] | None:
        """Return name and policy file of the run trained last for a suite of that name, or None."""
        with self.read() as con:
            row = _first(
                con,
                "SELECT run, policy FROM runs JOIN suites USING (suite) WHERE name = ? ORDER BY trained DESC LIMIT 1",
                [suite],
            )
        return (row[0], row[1]) if row else None

    # -- queries ---------------------------------------------------------------------------------------------------

    def arrow(self, query: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> "pa.Table":
        """Run one read-only query and return its rows."""
        with self.read() as con:
            try:
                return con.sql(query, params=parameters).to_arrow_table()
            except duckdb.Error as error:
                raise CacheError(f"{error}\nThe views and their columns are listed by: toolkit schema") from None


def schema_comments(name: str | None = None) -> "pa.Table":
    """Return what the views and tables of a cache are for, or, of one of them, what its columns mean."""
    overview = (
        "SELECT view_name AS name, 'view' AS kind, comment AS meaning FROM duckdb_views() WHERE NOT internal"
        " UNION ALL SELECT table_name, 'table', comment FROM duckdb_tables()"
    )
    columns = (
        'SELECT column_name AS "column", data_type AS type, comment AS meaning FROM duckdb_columns() WHERE table_name = $name'
    )
    with duckdb.connect() as con:
        con.execute(_schema())
        return con.sql(columns, params={"name": name}).to_arrow_table() if name else con.sql(overview).to_arrow_table()


def decision_texts(suite: Suite) -> str:
    """Return SQL for a common table `decision_texts(position, number, role, text)` of a suite's decision nodes.

    `role` is question or answer where the newest answer is encoded apart (roots have no answer), else context.
    """
    if suite.config.features.text == "context":
        return """RECURSIVE decision_texts AS (
            SELECT q.position, 0 AS number, 'context' AS role, i.prompt AS text, q.root AS node
            FROM suite_questions AS q JOIN questions AS i USING (question) WHERE q.suite = $suite
            UNION ALL
            SELECT d.position, p.number, d.role, d.text || chr(10) || chr(10) || g.response, n.node
            FROM decision_texts AS d
            JOIN nodes AS n ON n.parent = d.node
            JOIN suites AS s ON s.suite = $suite AND n.depth < s.horizon
            JOIN suite_paths AS p ON p.suite = s.suite AND p.path = n.path
            JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
        )"""
    return """decision_texts AS (
        SELECT q.position, 0 AS number, 'question' AS role, i.prompt AS text
        FROM suite_questions AS q JOIN questions AS i USING (question) WHERE q.suite = $suite
        UNION ALL
        SELECT q.position, p.number, 'answer', g.response
        FROM suite_questions AS q
        JOIN suites AS s ON s.suite = q.suite
        JOIN nodes AS n ON n.root = q.root AND n.depth BETWEEN 1 AND s.horizon - 1
        JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path
        JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
        WHERE q.suite = $suite
    )"""


def _schema() -> str:
    return (resources.files("toolkit") / "schema.sql").read_text("utf-8")


def _first(con: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    rows = con.execute(query, list(parameters)).fetchall()
    return rows[0] if rows else None


def _holder(message: str) -> str | None:
    found = _HOLDER.search(message)
    if found:
        return f"process {found['pid']} ({Path(found['program']).name or 'unknown program'})"
    if "different configuration" in message:
        return "another connection of this process"
    if "Could not set lock" in message or "being used by another process" in message:
        return "another process"
    return None


def _insert(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    """Insert rows whose key is not there yet; rows must not repeat a key among themselves."""
    if rows:
        same = " AND ".join(f"t.{column} = incoming.{column}" for column in _KEYS[table])
        con.register("incoming_rows", _arrow(con, table, rows))
        con.execute(
            f"INSERT INTO {table} BY NAME SELECT * FROM ({_typed(con, table, rows)}) AS incoming"
            f" WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {same})"
        )


def _append(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> None:
    if rows:
        con.register("incoming_rows", _arrow(con, table, rows))
        con.execute(f"INSERT INTO {table} BY NAME {_typed(con, table, rows)}")


def _typed(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> str:
    if table not in _TYPES:
        query = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND NOT internal"
        _TYPES[table] = dict(con.execute(query, [table]).fetchall())
    return f"SELECT {', '.join(f'{name}::{_TYPES[table][name]} AS {name}' for name in rows[0])} FROM incoming_rows"


def _arrow(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> "pa.Table":
    import pyarrow as pa

    schema = con.sql(f"SELECT {', '.join(rows[0])} FROM {table} LIMIT 0").to_arrow_table().schema
    return pa.Table.from_pylist([{name: _plain(value) for name, value in row.items()} for row in rows], schema=schema)


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _arrow_keys(keys: Sequence[UUID]) -> "pa.Table":
    import pyarrow as pa

    return pa.table({"key": pa.array([str(key) for key in keys], pa.string())})
