"""Suites: recorded once as resolved, then read back without checkpoints or data sets."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import duckdb

from toolkit.core.hashing import canonical_json
from toolkit.store.file import CacheFile, now
from toolkit.store.imported import ImportedRows, write_imported
from toolkit.store.rows import (
    Row,
    append,
    first_row,
    insert,
    key_table,
    path_table,
)
from toolkit.store.transfer import Prefer
from toolkit.suites.loading import recorded_config
from toolkit.suites.suite import Model, Question, Suite
from toolkit.tasks.metrics import Reference

if TYPE_CHECKING:
    pass


class ProgressRow(NamedTuple):
    """Counts of the nodes of a suite, roots left out.

    Attributes:
        benchmark: Name of the benchmark.
        depth: Hop, from 1.
        model: Name of the model.
        nodes: Number of nodes.
        done: Nodes with a response.
        failed: Nodes whose generation is an error.
        missing: Nodes without a generation, including those below an error.
    """

    benchmark: str
    depth: int
    model: str
    nodes: int
    done: int
    failed: int
    missing: int


class NodeCounts(NamedTuple):
    """Numbers of the nodes of a suite, roots left out.

    Attributes:
        nodes: All of them.
        done: Those with a response.
        transient: Those that failed, and that the next run tries again.
        permanent: Those that failed for good.
    """

    nodes: int
    done: int
    transient: int
    permanent: int

    @property
    def failed(self) -> int:
        """Those that failed."""
        return self.transient + self.permanent

    @property
    def missing(self) -> int:
        """Those that have neither a response nor a failure."""
        return self.nodes - self.done - self.failed

    @property
    def is_complete(self) -> bool:
        """Whether every node has a response."""
        return self.done == self.nodes

    @property
    def is_usable(self) -> bool:
        """Whether nothing is missing, and not everything failed."""
        return self.done > 0 and not self.missing


_TRIED_NODES = """
    FROM roots JOIN nodes AS n ON n.root = roots.key::UUID AND n.depth BETWEEN 1 AND ?
    JOIN generations AS g ON g.generation = n.generation
    JOIN questions AS q USING (question)
    WHERE n.path IN (SELECT path::UUID[] FROM existing)
"""
"""The nodes of a suite, recorded or not, that have a response or failed."""

_COST_UNIT = """
    WITH first_hop AS (
        SELECT q.root, m.name, g.status,
               coalesce(g.cost, m.rate_in * g.prompt_tokens + m.rate_out * g.completion_tokens) AS cost
        FROM suite_questions AS q
        JOIN nodes AS n ON n.root = q.root AND n.depth = 1
        JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path
        JOIN suite_models AS m ON m.suite = q.suite AND m.model = n.path[1]
        JOIN generations AS g ON g.generation = n.generation
        WHERE q.suite = $1 AND q.split = 'train'
    ),
    setting AS (
        SELECT config->>'$.incomplete' AS incomplete,
               coalesce(config->>'$.benchmarks[0].imported', 'false')::BOOLEAN AS imported,
               (SELECT count(*) FROM suite_paths WHERE suite = $1 AND depth = 1) AS models
        FROM suites WHERE suite = $1
    ),
    trees AS (
        SELECT q.root FROM suite_questions AS q, setting
        WHERE q.suite = $1 AND q.split = 'train' AND NOT (
            setting.incomplete = 'exclude question' AND (
                q.root IN (SELECT root FROM first_hop WHERE status = 'error')
                OR imported AND q.root NOT IN (
                    SELECT root FROM first_hop GROUP BY root HAVING count(*) = (SELECT models FROM setting)
                )
            )
        )
    ),
    costs AS (SELECT * FROM first_hop SEMI JOIN trees USING (root) WHERE status = 'ok')
    SELECT max(mean) FROM (SELECT avg(cost) AS mean FROM costs GROUP BY name)
    WHERE (
        SELECT imported OR (SELECT count(*) FROM trees) * models
            = CASE incomplete WHEN 'mask' THEN (SELECT count(*) FROM first_hop) ELSE (SELECT count(*) FROM costs) END
        FROM setting
    )
"""
"""The cost unit of a suite by what is cached; NULL unless every training question has its first hop.

A suite that excludes questions with a failed generation, or masks failures, does not wait for them.
An imported one never waits.
"""


class Suites:
    """The recorded suites of a cache, `cache.suites`."""

    def __init__(self, file: CacheFile) -> None:
        self._file = file

    def names(self) -> list[str]:
        """Return the names of the recorded suites, sorted."""
        with self._file.read() as con:
            return [row[0] for row in con.execute("SELECT name FROM current_suites ORDER BY name").fetchall()]

    def current_key(self, name: str) -> UUID | None:
        """Return the key of the current suite of a name, or None."""
        with self._file.read() as con:
            row = first_row(con, "SELECT suite FROM current_suites WHERE name = ?", [name])
        return row[0] if row else None

    def get(self, name: str) -> Suite | None:
        """Read back the current suite of a name, the one recorded last; None if there is none."""
        with self._file.read() as con:
            row = first_row(con, "SELECT suite, config, encoder FROM current_suites WHERE name = ?", [name])
            if row is None:
                return None
            key, config, encoder = row
            models = con.execute(
                "SELECT model, name, identity, rate_in, rate_out FROM suite_models JOIN models USING (model)"
                " WHERE suite = ? ORDER BY position",
                [key],
            ).fetchall()
            questions = con.execute(
                "SELECT question, benchmark, version, item, prompt, reference, metric, split"
                " FROM suite_questions JOIN questions USING (question) WHERE suite = ? AND sample = 0 ORDER BY position",
                [key],
            ).fetchall()
        return Suite(
            config=recorded_config(config),
            models=tuple(
                Model(model, name, json.loads(identity), rate_in, rate_out)
                for model, name, identity, rate_in, rate_out in models
            ),
            questions=tuple(
                Question(question, benchmark, version, item, prompt, Reference.from_json(json.loads(reference)), metric, split)
                for question, benchmark, version, item, prompt, reference, metric, split in questions
            ),
            encoder=encoder,
        )

    def add(self, suite: Suite) -> None:
        """Record a resolved suite, but leave the current suite of its name current until `record` replaces it.

        Until then the time of its recording is NULL, which the view `current_suites` sorts last.
        """
        with self._file.read() as con:  # a repeated run changes nothing, and need not wait for other readers
            if _has_suite(con, suite):
                return
        with self._file.write() as con:
            _insert_suite(con, suite)

    def record(self, suite: Suite, wait: float | None = None) -> None:
        """Record a resolved suite and make it the current one of its name."""
        config = suite.config.model_dump_json()
        with self._file.read(wait) as con:
            current = first_row(con, "SELECT suite, config, recorded FROM current_suites WHERE name = ?", [suite.name])
            if current and current[:2] == (suite.key, config) and current[2]:
                return
        with self._file.write(wait) as con:
            _make_current(con, suite, config)

    def record_with_rows(self, suite: Suite, parts: Iterable[ImportedRows], prefer: Prefer | None) -> None:
        """Record a suite as current and write rows of it, in one transaction. Responses and scores replace those of their key.

        Args:
            suite: The suite.
            parts: Its rows.
            prefer: Whether a score replaces (`theirs`) or yields to (`ours`) another one of an equal response in another suite.

        Raises:
            CacheError: Another suite scores an equal response differently, and `prefer` does not say whose score to keep.
        """
        with self._file.write() as con:
            _make_current(con, suite, suite.config.model_dump_json())
            for part in parts:
                write_imported(con, suite, part, prefer)

    def cost_unit(self, suite: UUID) -> float | None:
        """Return the raw cost (tokens times rate) of one cost unit: the stored one, else the one that the cache gives.

        Returns:
            The cost unit; None until the first hop is complete.
        """
        with self._file.read() as con:
            stored = _stored_cost_unit(con, suite)
            return _derived_cost_unit(con, suite) if stored is None else stored

    def compute_cost_unit(self, suite: UUID, recompute: bool = False) -> None:
        """Store a suite's cost unit, for views, once its first hop is complete; does nothing before that, or a second time.

        Args:
            suite: The suite.
            recompute: Whether to compute it again, because costs have changed.
        """
        with self._file.read() as con:
            stored = _stored_cost_unit(con, suite)
            unit = _derived_cost_unit(con, suite) if stored is None or recompute else stored
        if unit != stored:
            with self._file.write() as con:
                con.execute("UPDATE suites SET cost_unit = ? WHERE suite = ?", [unit, suite])

    def progress(self, name: str) -> list[ProgressRow]:
        """Count done, failed and missing nodes of a suite by benchmark, depth and model."""
        with self._file.read() as con:
            rows = con.execute(
                "SELECT benchmark, depth, p.model, nodes, done, failed, missing FROM progress AS p"
                " JOIN current_suites AS s ON s.name = p.suite JOIN suite_models AS m ON m.suite = s.suite AND m.name = p.model"
                " WHERE p.suite = ? ORDER BY depth, m.position, benchmark",
                [name],
            ).fetchall()
        return [ProgressRow(*row) for row in rows]

    def count_nodes(self, suite: Suite) -> NodeCounts:
        """Count the nodes of a suite, recorded or not, by what has become of them; the file need not exist."""
        counts: dict[tuple[str, bool], int] = {}
        if self._file.exists():
            with self._file.read() as con:
                rows = _select_tried(con, suite, "SELECT g.status, coalesce(g.transient, false), count(*)", "GROUP BY ALL")
            counts = {(status, transient): count for status, transient, count in rows}
        return NodeCounts(
            nodes=len(suite.questions) * suite.config.samples * suite.tree.n_nodes,
            done=counts.get(("ok", False), 0),
            transient=counts.get(("error", True), 0),
            permanent=counts.get(("error", False), 0),
        )

    def count_cached(self, suite: Suite) -> dict[tuple[str, int, UUID], int]:
        """Count the nodes of a suite, recorded or not, that have a response, by benchmark, depth and last model."""
        select = "SELECT q.benchmark, n.depth, n.path[-1], count(*)"
        with self._file.read() as con:
            rows = _select_tried(con, suite, select, "AND g.status = 'ok' GROUP BY ALL")
        return {(benchmark, depth, model): count for benchmark, depth, model, count in rows}

    def count_shared(self, suite: Suite) -> int:
        """Count the nodes of a suite, recorded or not, whose response is another node's generation."""
        with self._file.read() as con:
            [(count,)] = _select_tried(con, suite, "SELECT count(*) - count(DISTINCT n.generation)", "AND g.status = 'ok'")
        return int(count)


def _stored_cost_unit(con: duckdb.DuckDBPyConnection, suite: UUID) -> float | None:
    row = first_row(con, "SELECT cost_unit FROM suites WHERE suite = ?", [suite])
    return row[0] if row else None


def _derived_cost_unit(con: duckdb.DuckDBPyConnection, suite: UUID) -> float | None:
    row = first_row(con, _COST_UNIT, [suite])
    return row[0] if row else None


def _select_tried(con: duckdb.DuckDBPyConnection, suite: Suite, select: str, condition: str) -> list[tuple[Any, ...]]:
    con.register("roots", key_table([root for _, _, root in suite.trees()]))
    con.register("existing", path_table([[model.key for model in path] for _, path in suite.paths()]))
    return con.execute(f"{select} {_TRIED_NODES} {condition}", [suite.horizon]).fetchall()


def _has_suite(con: duckdb.DuckDBPyConnection, suite: Suite) -> bool:
    return first_row(con, "SELECT 1 FROM suites WHERE suite = ?", [suite.key]) is not None


def _insert_suite(con: duckdb.DuckDBPyConnection, suite: Suite) -> None:
    """Insert the rows of a suite that the cache does not have, not yet as the current one of its name."""
    if not _has_suite(con, suite):
        for table, rows in content_rows(suite):
            insert(con, table, rows)
        for table, rows in _suite_rows(suite):
            append(con, table, rows)


def _make_current(con: duckdb.DuckDBPyConnection, suite: Suite, config: str) -> None:
    _insert_suite(con, suite)
    con.execute("UPDATE suites SET recorded = ?, config = ? WHERE suite = ?", [now(), config, suite.key])


def content_rows(suite: Suite) -> Iterator[tuple[str, list[Row]]]:
    """Yield the rows that suites share: models, questions and roots."""
    yield "models", [{"model": model.key, "identity": canonical_json(model.identity)} for model in suite.models]
    yield (
        "questions",
        [
            {
                "question": question.key,
                "benchmark": question.benchmark,
                "version": question.version,
                "item": question.item,
                "prompt": question.prompt,
                "reference": canonical_json(question.reference.to_json()),
            }
            for question in suite.questions
        ],
    )
    yield (
        "nodes",
        [{"node": root, "root": root, "question": question.key, "path": [], "depth": 0} for question, _, root in suite.trees()],
    )


def _suite_rows(suite: Suite) -> Iterator[tuple[str, list[Row]]]:
    """Yield the rows of one suite alone: itself, its pool, its trees and its paths."""
    yield (
        "suites",
        [
            {
                "suite": suite.key,
                "name": suite.name,
                "config": suite.config.model_dump_json(),
                "horizon": suite.horizon,
                "samples": suite.config.samples,
                "encoder": suite.encoder,
            }
        ],
    )
    yield (
        "suite_models",
        [
            {
                "suite": suite.key,
                "position": position,
                "model": model.key,
                "name": model.name,
                "rate_in": model.rate_in,
                "rate_out": model.rate_out,
            }
            for position, model in enumerate(suite.models)
        ],
    )
    yield (
        "suite_questions",
        [
            {
                "suite": suite.key,
                "position": position,
                "sample": sample,
                "question": question.key,
                "root": root,
                "split": question.split,
                "metric": question.metric,
            }
            for position, (question, sample, root) in enumerate(suite.trees())
        ],
    )
    yield (
        "suite_paths",
        [
            {
                "suite": suite.key,
                "number": number,
                "depth": len(path),
                "path": [model.key for model in path],
                "names": [model.name for model in path],
            }
            for number, path in suite.paths()
        ],
    )
