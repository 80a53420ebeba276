-- Checks of a whole cache, one per name: each query yields the key of every checked row, and whether it is wrong.

-- name: every response has its hash
SELECT generation AS key,
       response IS NULL AND engine <> 'imported'
       OR text IS DISTINCT FROM left(sha256(coalesce(response, generation::VARCHAR)), 32)::UUID
       AND NOT (engine = 'imported' AND text = left(sha256(generation::VARCHAR), 32)::UUID) AS wrong
FROM generations WHERE status = 'ok';

-- name: every generation is a response with its tokens, or an error with its reason
SELECT generation AS key,
       NOT coalesce(CASE status
           WHEN 'ok' THEN error IS NULL AND (finish_reason IN ('stop', 'length', 'content_filter') OR engine = 'imported')
               AND (prompt_tokens >= 0 AND completion_tokens >= 0 OR cost >= 0)
           WHEN 'error' THEN error IS NOT NULL AND response IS NULL AND transient IS NOT NULL END, false) AS wrong
FROM generations;

-- name: every node's key is the hash of its parent and model
SELECT node AS key,
       node IS DISTINCT FROM left(sha256('["node","' || parent::VARCHAR || '","' || path[-1]::VARCHAR || '"]'), 32)::UUID
       AS wrong
FROM nodes WHERE depth > 0;

-- name: every node has its parent, one hop shorter, in the same tree
SELECT n.node AS key,
       NOT coalesce(p.depth = n.depth - 1 AND p.root = n.root AND p.question = n.question AND n.path[:-2] = p.path
                    AND len(n.path) = n.depth, false) AS wrong
FROM nodes AS n LEFT JOIN nodes AS p ON p.node = n.parent WHERE n.depth > 0;

-- name: every node has a generation by the last model of its path
SELECT n.node AS key, g.model IS DISTINCT FROM n.path[-1] AS wrong
FROM nodes AS n LEFT JOIN generations AS g USING (generation) WHERE n.depth > 0;

-- name: every node's question and models exist
SELECT node AS key,
       question NOT IN (SELECT question FROM questions)
       OR NOT list_has_all((SELECT coalesce(list(model), []) FROM models), path) AS wrong
FROM nodes;

-- name: every score belongs to a response to its question, and lies in [0, 1]
SELECT s.text AS key, NOT coalesce(s.value BETWEEN 0 AND 1, false) OR r.text IS NULL AS wrong
FROM scores AS s LEFT JOIN (
    SELECT DISTINCT n.question, g.text FROM nodes AS n JOIN generations AS g USING (generation)
) AS r ON r.question = s.question AND r.text = s.text;

-- name: every embedding has finite numbers, as many as the others of its encoder
SELECT text AS key, len(vector) IS DISTINCT FROM size OR NOT list_bool_and([isfinite(x) FOR x IN vector]) AS wrong
FROM embeddings AS e JOIN (SELECT encoder, mode(len(vector)) AS size FROM embeddings GROUP BY encoder) USING (encoder);
