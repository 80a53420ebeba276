"""What a cache file holds, as text for people."""

from toolkit.report.tables import aligned, size
from toolkit.store import Cache

_SUITES = """
    SELECT s.name AS suite, s.suite = c.suite AS current, s.horizon AS hops,
           (SELECT count(*) FROM suite_models AS m WHERE m.suite = s.suite) AS models,
           (SELECT count(DISTINCT question) FROM suite_questions AS q WHERE q.suite = s.suite) AS questions,
           CASE WHEN current THEN p.done || ' of ' || p.nodes END AS answered,
           CASE WHEN current THEN p.failed END AS failed,
           (SELECT count(*) FROM runs AS r WHERE r.suite = s.suite) AS runs,
           strftime(s.recorded, '%Y-%m-%d %H:%M') AS recorded
    FROM suites AS s LEFT JOIN current_suites AS c ON c.suite = s.suite
    LEFT JOIN (SELECT suite AS name, sum(nodes)::BIGINT AS nodes, sum(done)::BIGINT AS done, sum(failed)::BIGINT AS failed
               FROM progress GROUP BY ALL) AS p ON p.name = s.name
    ORDER BY s.name, s.recorded DESC
"""
_MODELS = """
    SELECT string_agg(DISTINCT m.name, ', ') AS names,
           coalesce(identity->>'$.checkpoint.hub', left(identity->>'$.checkpoint.sha256', 12)) AS checkpoint,
           identity->>'$.dtype' AS dtype, identity->>'$.max_tokens' AS max_tokens, identity->>'$.temperature' AS temperature,
           (SELECT count(*) FROM generations AS g WHERE g.model = models.model) AS generations
    FROM models LEFT JOIN suite_models AS m USING (model)
    GROUP BY models.model, identity ORDER BY ALL
"""
_ENGINES = """
    SELECT engine, count(*) AS generations, strftime(min(created), '%Y-%m-%d %H:%M') AS first,
           strftime(max(created), '%Y-%m-%d %H:%M') AS last, round(sum(seconds) / 3600, 2) AS hours
    FROM generations GROUP BY engine ORDER BY first
"""


def render(cache: Cache) -> str:
    """Lay out what a file says of itself, its suites, its models, who generated it, and its tables."""

    def table(query: str) -> str:
        found = cache.arrow(query)
        return aligned(found.column_names, [list(row.values()) for row in found.to_pylist()])

    overview = cache.overview()
    facts = [f"{key.replace('_', ' ')}: {value}" for key, value in cache.facts().items()]
    sizes = [[found.table, found.rows, size(found.bytes)] for found in cache.sizes()]
    notes = [overview.note] if overview.note else []
    return "\n\n".join(
        [
            "\n".join([f"{cache.path}: {size(overview.bytes)}", *facts, *notes]),
            table(_SUITES),
            table(_MODELS),
            table(_ENGINES),
            aligned(["table", "rows", "in blocks of"], sizes),
        ]
    )
