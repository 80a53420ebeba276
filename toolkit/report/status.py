"""How far a cache is, as text for people."""

from toolkit.report.tables import aligned
from toolkit.store import Cache

PROGRESS = """
    SELECT suite, depth AS hop, model,
           sum(nodes)::BIGINT AS nodes, sum(done)::BIGINT AS done,
           sum(failed)::BIGINT AS failed, sum(missing)::BIGINT AS missing
    FROM progress WHERE $name IS NULL OR suite = $name GROUP BY ALL ORDER BY suite, hop, model
"""
_SHARED = """
    WITH used AS (
        SELECT s.name AS suite, n.generation, count(*) AS nodes, count(*) FILTER (n.dropped_answers > 0) AS dropped
        FROM current_suites AS s
        JOIN suite_questions AS sq USING (suite)
        JOIN nodes AS n ON n.root = sq.root
        JOIN suite_paths AS p ON p.suite = s.suite AND p.path = n.path AND p.depth > 0
        WHERE $name IS NULL OR s.name = $name GROUP BY ALL
    )
    SELECT suite, sum(nodes)::BIGINT AS nodes, count(*) AS generations,
           count(*) FILTER (g.finish_reason = 'length') AS cut, sum(dropped)::BIGINT AS dropped
    FROM used JOIN generations AS g USING (generation) GROUP BY suite ORDER BY suite
"""
_ERRORS = """
    SELECT t.suite, t.error, count(*) AS nodes,
           sum((SELECT count(*) FROM suite_paths AS p
                WHERE p.suite = s.suite AND p.depth > t.depth AND p.names[1:t.depth] = t.path))::BIGINT AS blocked,
           CASE WHEN any_value(g.transient) THEN 'by the next generate' ELSE 'by generate --retry' END AS retried
    FROM transitions AS t JOIN generations AS g USING (generation) JOIN current_suites AS s ON s.name = t.suite
    WHERE t.status = 'error' AND ($name IS NULL OR t.suite = $name)
    GROUP BY t.suite, t.error, g.transient ORDER BY nodes DESC LIMIT 5
"""
_RUNS = """
    SELECT run, alpha, seed, round(seconds, 1) AS seconds, trained FROM runs JOIN suites USING (suite)
    WHERE $name IS NULL OR name = $name ORDER BY trained
"""


def render(cache: Cache, name: str | None) -> str:
    """Lay out progress, shared answers, failures and runs of one suite, or of all in the cache.

    Args:
        cache: The cache.
        name: Name of a suite; all of them where there is none.
    """

    def table(query: str) -> str | None:
        found = cache.arrow(query, {"name": name})
        return aligned(found.column_names, [list(row.values()) for row in found.to_pylist()]) if found.num_rows else None

    parts = [table(PROGRESS) or f"{cache.path} has no suite {name or 'yet'}."]
    parts += [
        f"{row['suite']}: {row['nodes']} nodes share {row['generations']} generations "
        f"({row['nodes'] - row['generations']} saved); {row['cut']} answers were cut at max_tokens, "
        f"{row['dropped']} prompts left out earlier answers to fit."
        for row in cache.arrow(_SHARED, {"name": name}).to_pylist()
    ]
    for title, query in (("Failed:", _ERRORS), ("TrainedRun:", _RUNS)):
        rows = table(query)
        if rows:
            parts.append(f"{title}\n{rows}")
    waiting = cache.spool.files()
    if waiting:
        parts.append(
            f"{len(waiting)} finished batches wait in {cache.spool.folder}: another process held the cache. "
            "The next generate takes them in."
        )
    wal = cache.path.with_name(cache.path.name + ".wal")
    if wal.exists():
        parts.append(
            f"{wal.name} belongs to the cache: a writer did not close it. Keep both together; the next write takes it in."
        )
    return "\n\n".join(parts)
