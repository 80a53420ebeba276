"""Suites as recorded: written once as resolved, read back ever after without a checkpoint or a data set."""

import json
from typing import NamedTuple
from uuid import UUID

from toolkit.core.hashing import canonical_json
from toolkit.store.file import CacheFile, now
from toolkit.store.rows import append, arrow_keys, first, insert
from toolkit.suites.loading import recorded_config
from toolkit.suites.suite import Model, Question, Suite
from toolkit.tasks.metrics import Reference


class ProgressRow(NamedTuple):
    """Counts of nodes of a suite, root nodes left out."""

    benchmark: str
    depth: int
    model: str
    nodes: int
    done: int
    failed: int
    missing: int


class MeanGeneration(NamedTuple):
    """What answers take on average: tokens, and the engine's seconds."""

    answers: int
    prompt_tokens: float
    completion_tokens: float
    seconds: float


class Suites(CacheFile):
    """What a cache knows of its suites."""

    def record(self, suite: Suite) -> None:
        """Record a suite as resolved, with its models, questions, roots and paths, and make it the current one of its name."""
        config = suite.config.model_dump_json()
        with self.read() as con:  # a rerun leaves the file as it is, and needs nobody to let go of it
            current = first(con, "SELECT suite, config FROM current_suites WHERE name = ?", [suite.name])
            if current == (suite.key, config):
                return
        with self.write() as con:
            if first(con, "SELECT 1 FROM suites WHERE suite = ?", [suite.key]):
                con.execute(
                    "UPDATE suites SET recorded = ?, config = ? WHERE suite = ?",
                    [now(), suite.config.model_dump_json(), suite.key],
                )
                return
            insert(con, "models", [{"model": m.key, "identity": canonical_json(m.identity)} for m in suite.models])
            insert(
                con,
                "questions",
                [
                    {
                        "question": q.key,
                        "benchmark": q.benchmark,
                        "version": q.version,
                        "item": q.item,
                        "prompt": q.prompt,
                        "reference": canonical_json(q.reference.to_json()),
                    }
                    for q in suite.questions
                ],
            )
            trees = list(suite.trees())
            insert(
                con,
                "nodes",
                [{"node": root, "root": root, "question": q.key, "path": [], "depth": 0} for q, _, root in trees],
            )
            append(
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
            append(
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
            append(
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
            append(
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
            row = first(con, "SELECT suite, config, encoder FROM current_suites WHERE name = ?", [name])
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
            recorded_config(row[1]),
            tuple(Model(k, n, json.loads(identity), a, b) for k, n, identity, a, b in models),
            tuple(Question(k, b, v, i, p, Reference.from_json(json.loads(r)), m, s) for k, b, v, i, p, r, m, s in questions),
            row[2],
        )

    def set_cost_unit(self, suite: UUID, among_answered: bool = False, again: bool = False) -> None:
        """Compute a suite's cost unit once its first hop is whole; does nothing before that, or a second time.

        Args:
            suite: The suite.
            among_answered: Whether questions of which an answer failed are left out, instead of waited for.
            again: Whether to compute it anew, as costs have changed.
        """
        with self.read() as con:
            if not again and first(con, "SELECT 1 FROM suites WHERE suite = ? AND cost_unit IS NOT NULL", [suite]):
                return
        with self.write() as con:
            con.execute("UPDATE suites SET cost_unit = NULL WHERE suite = ? AND ?", [suite, again])
            con.execute(
                """
                WITH answered AS (
                    SELECT q.root, m.name, g.status,
                           coalesce(g.cost, m.rate_in * g.prompt_tokens + m.rate_out * g.completion_tokens) AS cost
                    FROM suite_questions AS q
                    JOIN nodes AS n ON n.root = q.root AND n.depth = 1
                    JOIN suite_models AS m ON m.suite = q.suite AND m.model = n.path[1]
                    JOIN generations AS g ON g.generation = n.generation
                    WHERE q.suite = $suite AND q.split = 'train'
                ),
                trees AS (
                    SELECT root FROM suite_questions WHERE suite = $suite AND split = 'train'
                    AND NOT ($among_answered AND root IN (SELECT root FROM answered WHERE status = 'error'))
                ),
                hop AS (SELECT * FROM answered SEMI JOIN trees USING (root) WHERE status = 'ok')
                UPDATE suites SET cost_unit = (SELECT max(mean) FROM (SELECT avg(cost) AS mean FROM hop GROUP BY name))
                WHERE suite = $suite AND cost_unit IS NULL
                  AND (SELECT count(*) FROM hop)
                    = (SELECT count(*) FROM trees) * (SELECT count(*) FROM suite_models WHERE suite = $suite)
                """,
                {"suite": suite, "among_answered": among_answered},
            )

    def progress(self, name: str) -> list[ProgressRow]:
        """Count done, failed and missing nodes of a suite by benchmark, depth and model."""
        with self.read() as con:
            rows = con.execute(
                "SELECT benchmark, depth, p.model, nodes, done, failed, missing FROM progress AS p"
                " JOIN current_suites AS s ON s.name = p.suite JOIN suite_models AS m ON m.suite = s.suite AND m.name = p.model"
                " WHERE p.suite = ? ORDER BY depth, m.position, benchmark",
                [name],
            ).fetchall()
        return [ProgressRow(*row) for row in rows]

    def nodes_by_benchmark(self, suite: Suite) -> dict[tuple[str, int, UUID], int]:
        """Count the answered nodes of a suite, recorded or not, by benchmark, depth and last model."""
        with self.read() as con:
            con.register("incoming", arrow_keys([root for _, _, root in suite.trees()]))
            con.register("pool", arrow_keys([model.key for model in suite.models]))
            rows = con.execute(
                "SELECT q.benchmark, n.depth, n.path[-1], count(*) FROM incoming"
                " JOIN nodes AS n ON n.root = incoming.key::UUID AND n.depth BETWEEN 1 AND ?"
                " JOIN questions AS q USING (question)"
                " JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'"
                " WHERE list_has_all((SELECT list(key::UUID) FROM pool), n.path) GROUP BY ALL",
                [suite.horizon],
            ).fetchall()
        return {(benchmark, depth, model): count for benchmark, depth, model, count in rows}

    def saved(self, suite: Suite) -> int:
        """Count the answered nodes of a suite, recorded or not, that share another's generation."""
        with self.read() as con:
            con.register("incoming", arrow_keys([root for _, _, root in suite.trees()]))
            con.register("pool", arrow_keys([model.key for model in suite.models]))
            row = first(
                con,
                "SELECT count(*) - count(DISTINCT n.generation) FROM incoming"
                " JOIN nodes AS n ON n.root = incoming.key::UUID AND n.depth BETWEEN 1 AND ?"
                " JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'"
                " WHERE list_has_all((SELECT list(key::UUID) FROM pool), n.path)",
                [suite.horizon],
            )
        return int(row[0]) if row else 0

    def mean_generations(self) -> dict[tuple[str | None, UUID | None, int | None], MeanGeneration]:
        """Return the mean of answers by engine, model and depth; None is any."""
        with self.read() as con:
            rows = con.execute(
                "SELECT coalesce(g.engine, 'unknown') AS engine, g.model, n.depth, count(*),"
                " avg(g.prompt_tokens), avg(g.completion_tokens), avg(g.seconds)"
                " FROM generations AS g JOIN (SELECT DISTINCT generation, depth FROM nodes) AS n USING (generation)"
                " WHERE g.status = 'ok' AND g.prompt_tokens IS NOT NULL GROUP BY GROUPING SETS ("
                "(1, g.model, n.depth), (1, g.model), (1), (g.model, n.depth), (g.model), ()) HAVING count(*) > 0"
            ).fetchall()
        return {(engine, model, depth): MeanGeneration(*means) for engine, model, depth, *means in rows}
