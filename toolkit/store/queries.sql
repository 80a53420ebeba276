-- Named queries of the toolkit itself; `Cache.query(name, ...)` runs one and returns an Arrow table.
-- `$suite` is a suite's key, `$name` a suite's name or NULL for all suites.

-- name: trees
-- The trees of a suite, in the order of the replay table.
SELECT q.position, i.benchmark, q.split, i.prompt, q.question::VARCHAR AS question
FROM suite_questions AS q JOIN questions AS i USING (question)
WHERE q.suite = $suite ORDER BY q.position;

-- name: scored_transitions
-- The successful and scored nodes of a suite; cost only if it was imported.
SELECT n.position, n.number, g.prompt_tokens, g.completion_tokens, g.cost, c.value AS quality
FROM suite_nodes AS n
JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
JOIN scores AS c ON c.question = n.question AND c.text = g.text AND c.metric = n.metric
WHERE n.suite = $suite AND n.depth > 0;

-- name: imported_results
-- The successful and scored nodes of a suite with their cells.
SELECT n.position, n.node::VARCHAR AS node, n.sample, n.names AS path, g.response, g.prompt_tokens, g.completion_tokens, g.cost,
       c.value AS score
FROM suite_nodes AS n
JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
JOIN scores AS c ON c.question = n.question AND c.text = g.text AND c.metric = n.metric
WHERE n.suite = $suite AND n.depth > 0 ORDER BY n.position, n.number;

-- name: results_extent
-- How many scored responses a suite has, and how many of those have a text, an imported cost, and tokens.
SELECT count(*) AS results, count(g.response) AS responses, count(g.cost) AS costs, count(g.prompt_tokens) AS tokens
FROM suite_nodes AS n
JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
JOIN scores AS c ON c.question = n.question AND c.text = g.text AND c.metric = n.metric
WHERE n.suite = $suite AND n.depth > 0;

-- name: further_metrics
-- The metrics that have scored responses of a suite beside the quality of their question.
SELECT DISTINCT c.metric FROM suite_nodes AS n
JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
JOIN scores AS c ON c.question = n.question AND c.text = g.text AND c.metric <> n.metric
WHERE n.suite = $suite AND n.depth > 0 ORDER BY c.metric;

-- name: results
-- The scored responses in the trees at rows `$first` to `$last` of a suite's table, with the raw cost of their hop and the
-- scores by each of `$metrics`; only those at the nodes of the given numbers, unless `$numbers` is NULL.
SELECT n.position, n.number, g.response, g.prompt_tokens, g.completion_tokens, g.cost,
       coalesce(g.cost, m.rate_in * g.prompt_tokens + m.rate_out * g.completion_tokens) AS raw_cost, g.seconds,
       c.value AS score, c.detail->>'$.extracted' AS extracted, [f.by_metric[metric] FOR metric IN $metrics::VARCHAR[]] AS further
FROM suite_nodes AS n
JOIN suite_models AS m ON m.suite = n.suite AND m.model = n.path[-1]
JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
JOIN scores AS c ON c.question = n.question AND c.text = g.text AND c.metric = n.metric
LEFT JOIN (
    SELECT question, text, map(list(metric), list(value)) AS by_metric FROM scores
    WHERE list_contains($metrics::VARCHAR[], metric) GROUP BY ALL
) AS f ON f.question = n.question AND f.text = g.text
WHERE n.suite = $suite AND n.position BETWEEN $first AND $last AND n.depth > 0
  AND ($numbers::INTEGER[] IS NULL OR list_contains($numbers::INTEGER[], n.number))
ORDER BY n.position, n.number;

-- name: further_scores
-- The scores of a suite's responses by other metrics than its own.
SELECT n.node::VARCHAR AS node, c.metric, c.value
FROM suite_nodes AS n
JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
JOIN scores AS c ON c.question = n.question AND c.text = g.text AND c.metric <> n.metric
WHERE n.suite = $suite AND n.depth > 0 ORDER BY c.metric, n.position, n.number;

-- name: failed_nodes
-- The nodes of a suite whose generation failed.
SELECT n.position, n.number FROM suite_nodes AS n
JOIN generations AS g ON g.generation = n.generation AND g.status = 'error' WHERE n.suite = $suite;

-- name: masked_suites
-- How many nodes of each suite are masked: those that failed or, in results from elsewhere, are missing.
WITH masked AS (
    SELECT s.name AS suite,
           sum(p.failed + CASE WHEN s.config->>'$.benchmarks[0].imported' = 'true' THEN p.missing ELSE 0 END)::BIGINT AS nodes
    FROM current_suites AS s JOIN progress AS p ON p.suite = s.name
    WHERE s.config->>'$.incomplete' = 'mask' AND ($name IS NULL OR s.name = $name) GROUP BY s.name
)
FROM masked WHERE nodes > 0 ORDER BY suite;

-- name: decision_nodes
SELECT n.position, n.number, n.node FROM suite_nodes AS n JOIN suites AS s USING (suite)
WHERE n.suite = $suite AND n.depth < s.horizon;

-- name: observed_responses
-- The responses after which a router decides, in trees at the given rows of the table; NULL if they were imported without text.
SELECT n.position, n.number, g.response
FROM suite_nodes AS n JOIN suites AS s USING (suite) JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'
JOIN (SELECT unnest($positions::INTEGER[]) AS position) AS p USING (position)
WHERE n.suite = $suite AND n.depth BETWEEN 1 AND s.horizon - 1;

-- name: question_names
-- What the questions of a suite go by, in the order of the replay table.
SELECT q.position, i.question::VARCHAR AS question, i.benchmark, i.item, i.prompt
FROM suite_questions AS q JOIN questions AS i USING (question) WHERE q.suite = $suite ORDER BY q.position;

-- name: generations_of_suite
-- Each generation at the first hop that uses it, in the order in which `generate` forms batches.
WITH first_hop AS (
    SELECT n.generation, n.depth, min(n.question) AS question, min(n.position) AS position
    FROM suite_nodes AS n WHERE n.suite = $suite GROUP BY n.generation, n.depth
    QUALIFY n.depth = min(n.depth) OVER (PARTITION BY n.generation)
)
SELECT g.model, f.depth, f.position, g.generation, g.prompt_tokens, g.status = 'ok' AS succeeded
FROM first_hop AS f JOIN generations AS g ON g.generation = f.generation
ORDER BY g.model, f.depth, max(g.prompt_tokens) OVER (PARTITION BY g.model, f.depth, f.question) DESC, f.question, g.prompt, g.sample;

-- name: generations_of_model
SELECT generation, prompt, response, prompt_tokens, completion_tokens FROM generations
WHERE model = $model AND status = 'ok';

-- name: generations_by_key
SELECT generation, prompt, response, prompt_tokens, completion_tokens FROM generations
WHERE generation IN (SELECT unnest($keys::UUID[]));

-- name: responses_by_key
-- The successful generations with the given keys, as a router's pool returns them.
SELECT generation::VARCHAR AS key, response, prompt_tokens, completion_tokens, finish_reason, cost, true AS succeeded
FROM generations WHERE generation IN (SELECT unnest($keys::UUID[])) AND status = 'ok';

-- name: responses_by_node
-- What has become of the given nodes: responses as above, and failures.
SELECT n.node::VARCHAR AS key, g.response, g.prompt_tokens, g.completion_tokens, g.finish_reason, g.cost, g.status = 'ok' AS succeeded
FROM nodes AS n JOIN generations AS g ON g.generation = n.generation WHERE n.node IN (SELECT unnest($keys::UUID[]));

-- name: scored_nodes
-- The nodes of a suite that share the given generations.
SELECT n.generation, n.position, n.number, n.question, g.model, g.prompt_tokens, g.response, c.value AS quality
FROM suite_nodes AS n
JOIN generations AS g ON g.generation = n.generation
JOIN scores AS c ON c.question = n.question AND c.text = g.text AND c.metric = n.metric
WHERE n.suite = $suite AND n.generation IN (SELECT unnest($keys::UUID[]));

-- name: mean_generations
-- Means by engine, model and depth, each NULL for any.
SELECT coalesce(g.engine, 'unknown') AS engine, g.model, n.depth, count(*) AS generations,
       avg(g.prompt_tokens) AS prompt_tokens, avg(g.completion_tokens) AS completion_tokens, avg(g.seconds) AS seconds
FROM generations AS g JOIN (SELECT DISTINCT generation, depth FROM nodes) AS n USING (generation)
WHERE g.status = 'ok' AND g.prompt_tokens IS NOT NULL
GROUP BY GROUPING SETS ((1, g.model, n.depth), (1, g.model), (1), (g.model, n.depth), (g.model), ())
HAVING count(*) > 0;

-- name: path_shares
-- The share of questions that a policy routes along each path, in each evaluation of the given runs.
SELECT alpha, paths FROM evaluations
WHERE split = 'test' AND benchmark = 'overall' AND policy = $policy AND list_contains($runs, run);

-- name: evaluated_alphas
SELECT DISTINCT run, alpha FROM evaluations WHERE split = 'test';

-- name: progress_by_hop
SELECT suite, depth AS hop, model, sum(nodes)::BIGINT AS nodes, sum(done)::BIGINT AS done,
       sum(failed)::BIGINT AS failed, sum(missing)::BIGINT AS missing
FROM progress WHERE $name IS NULL OR suite = $name GROUP BY ALL ORDER BY suite, hop, model;

-- name: shared_generations
-- Nodes, their distinct generations, responses cut at max_tokens, and shortened contexts.
WITH used AS (
    SELECT s.name AS suite, n.generation, count(*) AS nodes, count(*) FILTER (n.dropped_responses > 0) AS dropped
    FROM current_suites AS s JOIN suite_nodes AS n ON n.suite = s.suite AND n.depth > 0
    WHERE $name IS NULL OR s.name = $name GROUP BY ALL
)
SELECT suite, sum(nodes)::BIGINT AS nodes, count(*) AS generations,
       count(*) FILTER (g.finish_reason = 'length') AS cut, sum(dropped)::BIGINT AS dropped
FROM used JOIN generations AS g USING (generation) GROUP BY suite ORDER BY suite;

-- name: frequent_errors
-- The five most frequent errors, the nodes that they block, and how they are retried.
SELECT t.suite, t.error, count(*) AS nodes,
       sum((SELECT count(*) FROM suite_paths AS p
            WHERE p.suite = s.suite AND p.depth > t.depth AND p.names[1:t.depth] = t.path))::BIGINT AS blocked,
       CASE WHEN any_value(g.transient) THEN 'by the next generate' ELSE 'by generate --retry' END AS retried
FROM transitions AS t JOIN generations AS g USING (generation) JOIN current_suites AS s ON s.name = t.suite
WHERE t.status = 'error' AND ($name IS NULL OR t.suite = $name)
GROUP BY t.suite, t.error, g.transient ORDER BY nodes DESC LIMIT 5;

-- name: runs_of_suite
-- The trained runs of a suite, oldest first.
SELECT run, runs.config->>'$.name' AS name, alpha, seed, round(seconds, 1) AS seconds, trained FROM runs JOIN suites USING (suite)
WHERE seed IS NOT NULL AND ($name IS NULL OR suites.name = $name) ORDER BY trained;

-- name: recorded_runs
-- The trained runs of all suites of a name, superseded ones included, newest first.
SELECT run, name AS suite, policy, policy_sha256, seconds, algorithm, alpha, seed,
       coalesce(runs.config->>'$.name', '') AS title
FROM runs JOIN suites USING (suite)
WHERE name = $suite AND seed IS NOT NULL ORDER BY runs.trained DESC, run;

-- name: run_summaries
-- Every run, newest first, with its newest evaluation on test questions at its own alpha, or else at another one.
WITH latest AS (
    SELECT e.*, row_number() OVER (
        PARTITION BY e.run ORDER BY e.split = 'test' DESC, abs(e.alpha - r.alpha), e.evaluated DESC) AS place
    FROM evaluations AS e JOIN runs AS r USING (run) WHERE e.policy = e.reference AND e.benchmark = 'overall'
)
SELECT r.run, r.config->>'$.name' AS name, s.name AS suite, r.algorithm, r.alpha, r.seed, r.config, r.trained,
       e.split, e.quality, e.quality_low, e.quality_high, e.cost, e.cost_low, e.cost_high, e.reward, e.reward_low, e.reward_high
FROM runs AS r JOIN suites AS s USING (suite) LEFT JOIN latest AS e ON e.run = r.run AND e.place = 1
WHERE $name IS NULL OR s.name = $name ORDER BY r.trained DESC, r.run;

-- name: run_evaluations
-- The averages of a run's evaluations, of the router or, without one, of the reference.
SELECT split, alpha, benchmark AS average, policy, questions, quality, quality_low, quality_high, cost, cost_low, cost_high,
       reward, reward_low, reward_high, evaluated
FROM evaluations WHERE run = $run AND policy = reference AND starts_with(benchmark, 'overall')
ORDER BY split, alpha, benchmark;

-- name: run_row
SELECT r.run, r.config->>'$.name' AS name, s.name AS suite, r.algorithm, r.alpha, r.seed, r.config, r.versions, r.policy,
       r.seconds, r.trained, s.suite IN (SELECT suite FROM current_suites) AS is_current
FROM runs AS r JOIN suites AS s USING (suite) WHERE r.run = $run;

-- name: recorded_suites
-- Every recorded suite, superseded ones included.
SELECT s.name AS suite, s.suite = c.suite AS current, s.horizon AS hops,
       (SELECT count(*) FROM suite_models AS m WHERE m.suite = s.suite) AS models,
       (SELECT count(DISTINCT question) FROM suite_questions AS q WHERE q.suite = s.suite) AS questions,
       CASE WHEN current THEN p.done || ' of ' || p.nodes END AS done,
       CASE WHEN current THEN p.failed END AS failed,
       (SELECT count(*) FROM runs AS r WHERE r.suite = s.suite) AS runs,
       strftime(s.recorded, '%Y-%m-%d %H:%M') AS recorded
FROM suites AS s LEFT JOIN current_suites AS c ON c.suite = s.suite
LEFT JOIN (
    SELECT suite AS name, sum(nodes)::BIGINT AS nodes, sum(done)::BIGINT AS done, sum(failed)::BIGINT AS failed
    FROM progress GROUP BY ALL
) AS p ON p.name = s.name
ORDER BY s.name, s.recorded DESC;

-- name: recorded_models
SELECT string_agg(DISTINCT m.name, ', ') AS names,
       coalesce(identity->>'$.checkpoint.hub', left(identity->>'$.checkpoint.sha256', 12)) AS checkpoint,
       identity->>'$.dtype' AS dtype, identity->>'$.max_tokens' AS max_tokens, identity->>'$.temperature' AS temperature,
       (SELECT count(*) FROM generations AS g WHERE g.model = models.model) AS generations
FROM models LEFT JOIN suite_models AS m USING (model)
GROUP BY models.model, identity ORDER BY ALL;

-- name: engines
SELECT engine, count(*) AS generations, strftime(min(created), '%Y-%m-%d %H:%M') AS first,
       strftime(max(created), '%Y-%m-%d %H:%M') AS last, round(sum(seconds) / 3600, 2) AS hours
FROM generations GROUP BY engine ORDER BY first;

-- name: suite_alphas
-- The training alpha and the size of the pool of every current suite, the one recorded last first.
SELECT name, (config->>'$.train.alpha')::DOUBLE AS alpha,
       (SELECT count(*) FROM suite_models AS m WHERE m.suite = current_suites.suite) AS models
FROM current_suites ORDER BY recorded DESC;

-- name: questions_called
-- The questions of a suite that go by `$question`: BENCHMARK/ITEM, or the beginning of a key.
SELECT DISTINCT q.question, q.benchmark, q.item, q.prompt, q.reference->>'$.answers[0]' AS reference
FROM current_suites AS s JOIN suite_questions USING (suite) JOIN questions AS q USING (question)
WHERE s.name = $name AND (q.benchmark || '/' || q.item = $question OR starts_with(q.question::VARCHAR, $question));

-- name: tree
-- The transitions of one tree of a question.
SELECT number, depth, path, response, prompt_tokens, completion_tokens, cost, quality, status, error
FROM transitions WHERE suite = $name AND question = $question::UUID AND sample = $sample;

-- name: verified_models
SELECT model AS key, identity FROM models;

-- name: verified_questions
SELECT question AS key, * FROM questions;

-- name: verified_generations
SELECT generation AS key, model, prompt, sample FROM generations;

-- name: verified_roots
SELECT q.root AS key, q.question, q.sample, s.config FROM suite_questions AS q JOIN suites AS s USING (suite);

-- name: verified_scores
SELECT s.text AS key, s.metric, s.value, any_value(q.reference) AS reference, any_value(g.response) AS response
FROM scores AS s JOIN questions AS q USING (question) JOIN generations AS g ON g.text = s.text
GROUP BY s.question, s.metric, s.value, s.text;

-- name: evaluated_runs
-- The runs of a suite that are evaluated on a split, baselines alone excepted, newest first; `own` if the toolkit trained them.
SELECT r.run, r.algorithm, r.alpha, r.seed, r.config, r.versions, r.seconds, strftime(r.trained, '%Y-%m-%d %H:%M') AS trained,
       r.seed IS NOT NULL AS own
FROM runs AS r
WHERE r.suite = $suite AND r.algorithm <> 'baselines'
  AND EXISTS (FROM evaluations AS e WHERE e.run = r.run AND e.split = $split)
ORDER BY r.trained DESC, r.run;

-- name: route_ends
-- Where a run's routes end on a split: the row of the replay table, and the number of the node.
SELECT q.position, p.number
FROM routes AS r
JOIN current_suites AS s ON s.name = r.suite
JOIN suite_questions AS q ON q.suite = s.suite AND q.question = r.question AND q.sample = r.sample
JOIN suite_paths AS p ON p.suite = s.suite AND p.names = r.path
WHERE s.suite = $suite AND r.run = $run AND r.split = $split ORDER BY q.position;

-- name: question_texts
-- The questions in the trees at the given rows of a suite's table, with the first reference answer.
SELECT q.position, q.sample, i.benchmark, i.item, i.prompt, i.reference->>'$.answers[0]' AS reference
FROM suite_questions AS q JOIN questions AS i USING (question)
WHERE q.suite = $suite AND list_contains($positions::INTEGER[], q.position) ORDER BY q.position;

-- name: tree_nodes
-- The transitions in the trees at the given rows of a current suite's table.
SELECT q.position, t.number, t.response, t.quality, t.cost, t.prompt_tokens, t.completion_tokens, t.error
FROM suite_questions AS q
JOIN current_suites AS s ON s.suite = q.suite
JOIN transitions AS t ON t.suite = s.name AND t.question = q.question AND t.sample = q.sample
WHERE q.suite = $suite AND list_contains($positions::INTEGER[], q.position) ORDER BY q.position, t.number;

-- name: model_means
-- Mean quality and cost of each model after one hop, by benchmark, over the questions of a split that have its response.
SELECT benchmark, model, count(quality)::INTEGER AS questions, avg(quality) AS quality, avg(cost) AS cost
FROM transitions WHERE suite = $name AND split = $split AND depth = 1 GROUP BY ALL ORDER BY ALL;

-- name: solved_together
-- How many questions of a split each set of models solves after one hop (quality of at least 0.5), by benchmark.
WITH solved AS (
    SELECT benchmark, question, sample, list(model ORDER BY model) FILTER (quality >= 0.5) AS models
    FROM transitions WHERE suite = $name AND split = $split AND depth = 1 GROUP BY ALL
)
SELECT benchmark, coalesce(models, []) AS models, count(*)::INTEGER AS questions FROM solved GROUP BY ALL ORDER BY ALL;

-- name: hop_changes
-- What a further hop does to the quality of the newest response on a split, by benchmark and the two models.
WITH hops AS MATERIALIZED (
    SELECT benchmark, node, parent, model, depth, quality FROM transitions WHERE suite = $name AND split = $split
)
SELECT next.benchmark, first.model AS first, next.model AS second, count(*)::INTEGER AS hops,
       count(*) FILTER (next.quality > first.quality)::INTEGER AS mended,
       count(*) FILTER (next.quality < first.quality)::INTEGER AS spoiled, avg(next.quality - first.quality) AS gain
FROM hops AS next JOIN hops AS first ON first.node = next.parent
WHERE next.quality IS NOT NULL AND first.quality IS NOT NULL GROUP BY ALL ORDER BY ALL;
