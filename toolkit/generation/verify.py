"""Prove a cache: every key is derived again, every tree is whole, every score and embedding belongs to its text.

Reads only; what is wrong is reported with the check, a count and an example, and left as it is.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

from toolkit.core.hashing import key
from toolkit.store import KEYS, Cache
from toolkit.suites.loading import recorded_config
from toolkit.suites.suite import generation_key, question_key, root_key
from toolkit.tasks.metrics import METRICS, Reference

READ_ROWS = 50_000


class Finding(NamedTuple):
    """What one check found.

    Attributes:
        check: What was checked.
        rows: How many rows that were.
        wrong: How many of them are wrong.
        example: One that is, or None.
    """

    check: str
    rows: int
    wrong: int
    example: str | None


def verify(cache: Cache) -> list[Finding]:
    """Check a whole cache.

    Raises:
        CacheError: The file cannot be opened as a cache.
    """
    findings = [_unique(cache, table) for table in KEYS]
    findings += [_in_sql(cache, check, *queries) for check, queries in _SQL.items()]
    findings += [_derived(cache, *derivation) for derivation in _DERIVED]
    findings.append(_roots(cache))
    findings.append(_scores(cache))
    return findings


def _unique(cache: Cache, table: str) -> Finding:
    columns = ", ".join(KEYS[table])
    twice = cache.arrow(f"SELECT {columns} FROM {table} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL")
    rows = cache.arrow(f"SELECT count(*) AS n FROM {table}")["n"][0].as_py()
    example = " ".join(map(str, twice.slice(0, 1).to_pylist()[0].values())) if twice.num_rows else None
    return Finding(f"keys of {table} are unique", rows, twice.num_rows, example)


_SQL = {
    "every response has its hash": (
        "SELECT count(*) FROM generations WHERE status = 'ok'",
        "SELECT generation FROM generations WHERE status = 'ok'"
        " AND (response IS NULL AND engine <> 'imported'"
        " OR text IS DISTINCT FROM left(sha256(coalesce(response, generation::VARCHAR)), 32)::UUID)",
    ),
    "every generation is an answer with its tokens, or an error with its reason": (
        "SELECT count(*) FROM generations",
        "SELECT generation FROM generations WHERE NOT coalesce(CASE status"
        " WHEN 'ok' THEN error IS NULL AND (finish_reason IN ('stop', 'length') OR engine = 'imported')"
        " AND (prompt_tokens >= 0 AND completion_tokens >= 0 OR cost >= 0)"
        " WHEN 'error' THEN error IS NOT NULL AND response IS NULL AND transient IS NOT NULL END, false)",
    ),
    "every node's key is the hash of its parent and model": (
        "SELECT count(*) FROM nodes WHERE depth > 0",
        "SELECT node FROM nodes WHERE depth > 0 AND node IS DISTINCT FROM"
        """ left(sha256('["node","' || parent::VARCHAR || '","' || path[-1]::VARCHAR || '"]'), 32)::UUID""",
    ),
    "every tree is whole: each node has its parent, one hop shorter, in the same tree": (
        "SELECT count(*) FROM nodes WHERE depth > 0",
        "SELECT n.node FROM nodes AS n LEFT JOIN nodes AS p ON p.node = n.parent WHERE n.depth > 0 AND NOT coalesce("
        "p.depth = n.depth - 1 AND p.root = n.root AND p.question = n.question AND n.path[:-2] = p.path"
        " AND len(n.path) = n.depth, false)",
    ),
    "every node has a generation by the last model of its path": (
        "SELECT count(*) FROM nodes WHERE depth > 0",
        "SELECT n.node FROM nodes AS n LEFT JOIN generations AS g USING (generation)"
        " WHERE n.depth > 0 AND g.model IS DISTINCT FROM n.path[-1]",
    ),
    "every node's question and models are there": (
        "SELECT count(*) FROM nodes",
        "SELECT node FROM nodes WHERE question NOT IN (SELECT question FROM questions)"
        " OR NOT list_has_all((SELECT coalesce(list(model), []) FROM models), path)",
    ),
    "every score belongs to a response to its question, and lies in [0, 1]": (
        "SELECT count(*) FROM scores",
        "SELECT text FROM scores AS s WHERE NOT coalesce(value BETWEEN 0 AND 1, false) OR NOT EXISTS ("
        "SELECT 1 FROM nodes AS n JOIN generations AS g USING (generation) WHERE n.question = s.question AND g.text = s.text)",
    ),
    "every embedding has finite numbers, as many as the others of its encoder": (
        "SELECT count(*) FROM embeddings",
        "SELECT text FROM embeddings AS e JOIN (SELECT encoder, mode(len(vector)) AS size FROM embeddings GROUP BY encoder)"
        " USING (encoder) WHERE len(vector) IS DISTINCT FROM size OR NOT list_bool_and([isfinite(x) FOR x IN vector])",
    ),
    "every embedding belongs to a text that a recorded suite reads": (
        "SELECT count(*) FROM embeddings",
        "WITH RECURSIVE contexts AS ("
        " SELECT n.node, q.prompt AS text FROM nodes AS n JOIN questions AS q USING (question) WHERE n.depth = 0"
        " UNION ALL SELECT n.node, c.text || chr(10) || chr(10) || g.response FROM contexts AS c"
        " JOIN nodes AS n ON n.parent = c.node JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'"
        " WHERE EXISTS (SELECT 1 FROM suites WHERE config->>'$.features.text' = 'context'))"
        " SELECT text FROM embeddings WHERE text NOT IN (SELECT text FROM generations WHERE text IS NOT NULL)"
        " AND text NOT IN (SELECT left(sha256(text), 32)::UUID FROM contexts)",
    ),
}
"""Check to two queries: how many rows there are, and the keys of the wrong ones."""


def _in_sql(cache: Cache, check: str, count: str, wrong: str) -> Finding:
    found = cache.arrow(wrong)
    example = str(found.column(0)[0].as_py()) if found.num_rows else None
    return Finding(check, cache.arrow(f"SELECT ({count}) AS n")["n"][0].as_py(), found.num_rows, example)


def _rows(cache: Cache, query: str) -> Iterator[dict[str, Any]]:
    for part in cache.arrow(query).to_batches(READ_ROWS):
        yield from part.to_pylist()


def _reference(text: str) -> Reference:
    return Reference.from_json(json.loads(text))


def _question(row: dict[str, Any]) -> UUID:
    return question_key(row["benchmark"], row["version"], row["item"], row["prompt"], _reference(row["reference"]))


_DERIVED: list[tuple[str, str, Callable[[dict[str, Any]], UUID]]] = [
    (
        "every model's key is the hash of its identity",
        "SELECT model AS key, identity FROM models",
        lambda row: key("model", json.loads(row["identity"])),
    ),
    ("every question's key is the hash of its content", "SELECT question AS key, * FROM questions", _question),
    (
        "every generation's key is the hash of model, prompt and sample",
        "SELECT generation AS key, model, prompt, sample FROM generations",
        lambda row: generation_key(UUID(row["model"]), row["prompt"], row["sample"]),
    ),
]


def _derived(cache: Cache, check: str, query: str, derive: Callable[[dict[str, Any]], UUID]) -> Finding:
    rows, wrong = 0, []
    for row in _rows(cache, query):
        rows += 1
        if str(derive(row)) != row["key"]:
            wrong.append(row["key"])
    return Finding(check, rows, len(wrong), wrong[0] if wrong else None)


def _roots(cache: Cache) -> Finding:
    """Derive every root again from the suites that ask its question."""
    configs = {row["suite"]: recorded_config(row["config"]) for row in _rows(cache, "SELECT suite, config FROM suites")}
    wrong, rows = [], 0
    for row in _rows(cache, "SELECT suite, question, sample, root FROM suite_questions"):
        rows += 1
        if str(root_key(UUID(row["question"]), configs[row["suite"]], row["sample"])) != row["root"]:
            wrong.append(row["root"])
    return Finding(
        "every root's key is the hash of question, protocol, policy and sample", rows, len(wrong), next(iter(wrong), None)
    )


def _scores(cache: Cache) -> Finding:
    """Score every response again by the metrics that this version of the toolkit has; model-written code is not run."""
    known = {metric.label: metric for metric in METRICS.values() if not metric.runs_code}
    query = (
        "SELECT s.metric, s.value, s.text, any_value(q.reference) AS reference, any_value(g.response) AS response"
        " FROM scores AS s JOIN questions AS q USING (question) JOIN generations AS g ON g.text = s.text GROUP BY ALL"
    )
    rows, wrong = 0, []
    for row in _rows(cache, query.replace("GROUP BY ALL", "GROUP BY s.question, s.metric, s.value, s.text")):
        metric = known.get(row["metric"])
        if metric is None:
            continue
        rows += 1
        if abs(metric.score(row["response"], _reference(row["reference"])).value - row["value"]) > 1e-9:
            wrong.append(row["text"])
    return Finding("every score is what its metric gives", rows, len(wrong), wrong[0] if wrong else None)
