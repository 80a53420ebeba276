-- Schema of a cache, version 6. Tables are content-addressed: keys are UUIDs, the first half of a SHA-256.
-- Every change below needs a new version number and, for tables, a migration: see migrations.py.
-- There are no constraints: inserts keep keys unique by an anti-join (rows.py, key_index.py).
-- The views are the public interface; tables may change between versions.

CREATE TABLE meta (key VARCHAR, value VARCHAR);
COMMENT ON TABLE meta IS 'Facts about this file: schema version, storage version, what created it.';
COMMENT ON COLUMN meta.key IS 'Name of the fact.';
COMMENT ON COLUMN meta.value IS 'Its value.';

CREATE TABLE models (model UUID, identity JSON);
COMMENT ON TABLE models IS 'Models of the pools, by everything that affects their responses.';
COMMENT ON COLUMN models.model IS 'Key: hash of the identity.';
COMMENT ON COLUMN models.identity IS 'Checkpoint, adapter, dtype, chat template, prompt and decoding, as JSON.';

CREATE TABLE questions (question UUID, benchmark VARCHAR, version VARCHAR, item VARCHAR, prompt VARCHAR, reference JSON);
COMMENT ON TABLE questions IS 'Items of benchmarks.';
COMMENT ON COLUMN questions.question IS 'Key: hash of the other columns.';
COMMENT ON COLUMN questions.benchmark IS 'Name of the benchmark.';
COMMENT ON COLUMN questions.version IS 'Version of the benchmark.';
COMMENT ON COLUMN questions.item IS 'Id of the item within the benchmark.';
COMMENT ON COLUMN questions.prompt IS 'The prompt without any chat template.';
COMMENT ON COLUMN questions.reference IS 'Accepted answers, the choices of multiple choice and the tests of code, as JSON.';

CREATE TABLE generations (
    generation UUID, model UUID, prompt VARCHAR, sample INTEGER, response VARCHAR, text UUID,
    prompt_tokens INTEGER, completion_tokens INTEGER, finish_reason VARCHAR, status VARCHAR, error VARCHAR,
    transient BOOLEAN, seconds DOUBLE, engine VARCHAR, created TIMESTAMP, cost DOUBLE
);
COMMENT ON TABLE generations IS 'One response of one model to one rendered prompt, shared by all nodes with that prompt.';
COMMENT ON COLUMN generations.generation IS 'Key: hash of model, rendered prompt and sample.';
COMMENT ON COLUMN generations.model IS 'The model that generated the response.';
COMMENT ON COLUMN generations.prompt IS 'The rendered prompt, token for token what the model read; for imported results, the position of the result.';
COMMENT ON COLUMN generations.sample IS 'Number of the sample; 0 for greedy decoding.';
COMMENT ON COLUMN generations.response IS 'The unedited response; NULL after an error, or if imported results have no text.';
COMMENT ON COLUMN generations.text IS 'Hash of the response, or of the generation''s key if there is no text.';
COMMENT ON COLUMN generations.prompt_tokens IS 'Length of the prompt by the model''s tokenizer.';
COMMENT ON COLUMN generations.completion_tokens IS 'Length of the response by the model''s tokenizer, end-of-turn mark not counted.';
COMMENT ON COLUMN generations.finish_reason IS 'stop: the model ended its response; length: the response was cut at max_tokens.';
COMMENT ON COLUMN generations.status IS 'ok or error.';
COMMENT ON COLUMN generations.error IS 'Why there is no response.';
COMMENT ON COLUMN generations.transient IS 'For errors: whether the next run retries without --retry.';
COMMENT ON COLUMN generations.seconds IS 'Wall time of the batch divided by its size, in seconds.';
COMMENT ON COLUMN generations.engine IS 'Engine and its version.';
COMMENT ON COLUMN generations.created IS 'When it was committed, UTC.';
COMMENT ON COLUMN generations.cost IS 'Cost given with imported results; NULL: computed from rates and tokens.';

CREATE TABLE nodes (
    node UUID, root UUID, question UUID, parent UUID, path UUID[], depth INTEGER, generation UUID, dropped_responses INTEGER
);
COMMENT ON TABLE nodes IS 'Nodes of the prefix trees: a question and the models chosen so far. The root has an empty path.';
COMMENT ON COLUMN nodes.node IS 'Key. Root: hash of question, prompt protocol, overlength policy, sample. Child: hash of parent and model.';
COMMENT ON COLUMN nodes.root IS 'The root of the node''s tree.';
COMMENT ON COLUMN nodes.question IS 'The question.';
COMMENT ON COLUMN nodes.parent IS 'The node one hop earlier; NULL for the root.';
COMMENT ON COLUMN nodes.path IS 'The models chosen so far, in order.';
COMMENT ON COLUMN nodes.depth IS 'Number of hops so far.';
COMMENT ON COLUMN nodes.generation IS 'Generation of the last response on the path; NULL for the root.';
COMMENT ON COLUMN nodes.dropped_responses IS 'Number of oldest responses left out because the prompt did not fit.';

CREATE TABLE scores (question UUID, text UUID, metric VARCHAR, value DOUBLE, detail JSON);
COMMENT ON TABLE scores IS 'One metric of one response to one question.';
COMMENT ON COLUMN scores.question IS 'The question.';
COMMENT ON COLUMN scores.text IS 'Hash of the response.';
COMMENT ON COLUMN scores.metric IS 'Name and version, e.g. token_f1@1.';
COMMENT ON COLUMN scores.value IS 'In [0, 1].';
COMMENT ON COLUMN scores.detail IS 'What the metric extracted from the response; for code, also the verdict and its reason.';

CREATE TABLE embeddings (text UUID, encoder VARCHAR, vector FLOAT[]);
COMMENT ON TABLE embeddings IS 'Embeddings of questions, responses or contexts.';
COMMENT ON COLUMN embeddings.text IS 'Hash of the text: left(sha256(text), 32).';
COMMENT ON COLUMN embeddings.encoder IS 'Name of the encoder and a hash of its weights.';
COMMENT ON COLUMN embeddings.vector IS 'The embedding.';

CREATE TABLE suites (
    suite UUID, name VARCHAR, config JSON, horizon INTEGER, samples INTEGER, encoder VARCHAR, cost_unit DOUBLE, recorded TIMESTAMP
);
COMMENT ON TABLE suites IS 'Resolved suites. The newest of each name is current, and the views show only current suites.';
COMMENT ON COLUMN suites.suite IS 'Key: hash of pool, rates, questions, splits, metrics, protocol, horizon, encoder.';
COMMENT ON COLUMN suites.name IS 'Name of the suite.';
COMMENT ON COLUMN suites.config IS 'The suite file as loaded, defaults included.';
COMMENT ON COLUMN suites.horizon IS 'Number of hops L.';
COMMENT ON COLUMN suites.samples IS 'Sampled trees per question.';
COMMENT ON COLUMN suites.encoder IS 'Encoder of the policy''s features.';
COMMENT ON COLUMN suites.cost_unit IS 'Largest mean raw cost of any model at depth 1 on the training split; NULL until depth 1 is complete.';
COMMENT ON COLUMN suites.recorded IS 'When the suite was last recorded with these settings, UTC.';

CREATE TABLE suite_models (suite UUID, position INTEGER, model UUID, name VARCHAR, rate_in DOUBLE, rate_out DOUBLE);
COMMENT ON TABLE suite_models IS 'The pool of a suite.';
COMMENT ON COLUMN suite_models.suite IS 'The suite.';
COMMENT ON COLUMN suite_models.position IS 'Position in the pool, from 0; the policy''s action.';
COMMENT ON COLUMN suite_models.model IS 'The model.';
COMMENT ON COLUMN suite_models.name IS 'Its name in this suite.';
COMMENT ON COLUMN suite_models.rate_in IS 'Price of a prompt token.';
COMMENT ON COLUMN suite_models.rate_out IS 'Price of a completion token.';

CREATE TABLE suite_questions (
    suite UUID, position INTEGER, sample INTEGER, question UUID, root UUID, split VARCHAR, metric VARCHAR
);
COMMENT ON TABLE suite_questions IS 'The trees of a suite: one row per question and sample.';
COMMENT ON COLUMN suite_questions.suite IS 'The suite.';
COMMENT ON COLUMN suite_questions.position IS 'Row of the replay table, from 0.';
COMMENT ON COLUMN suite_questions.sample IS 'Number of the sampled tree, from 0.';
COMMENT ON COLUMN suite_questions.question IS 'The question.';
COMMENT ON COLUMN suite_questions.root IS 'Root of the tree.';
COMMENT ON COLUMN suite_questions.split IS 'train, validation or test.';
COMMENT ON COLUMN suite_questions.metric IS 'Metric used as quality Q for this question.';

CREATE TABLE suite_paths (suite UUID, number INTEGER, depth INTEGER, path UUID[], names VARCHAR[]);
COMMENT ON TABLE suite_paths IS 'All paths of a suite, numbered as a complete heap: the children of n are n*M+1 ... n*M+M.';
COMMENT ON COLUMN suite_paths.suite IS 'The suite.';
COMMENT ON COLUMN suite_paths.number IS 'Number of the node; the root is 0.';
COMMENT ON COLUMN suite_paths.depth IS 'Number of hops.';
COMMENT ON COLUMN suite_paths.path IS 'The models, as in nodes.path.';
COMMENT ON COLUMN suite_paths.names IS 'Their names in this suite.';

CREATE TABLE runs (
    run VARCHAR, suite UUID, algorithm VARCHAR, alpha DOUBLE, seed INTEGER, config JSON, versions JSON, policy VARCHAR,
    policy_sha256 VARCHAR, seconds DOUBLE, trained TIMESTAMP, encoder_seconds DOUBLE, network_seconds DOUBLE
);
COMMENT ON TABLE runs IS 'What is evaluated: trained routers, routers and decisions of your own, and baselines alone.';
COMMENT ON COLUMN runs.run IS 'Name of the run: suite, algorithm, alpha, seed if it has one, and a hash of everything it depends on.';
COMMENT ON COLUMN runs.suite IS 'The resolved suite.';
COMMENT ON COLUMN runs.algorithm IS
    'Learning algorithm; FILE:NAME of a router of your own, the name of a file of decisions, or baselines.';
COMMENT ON COLUMN runs.alpha IS 'Weight of cost in R = Q - alpha * C.';
COMMENT ON COLUMN runs.seed IS 'Seed of training; NULL unless the toolkit trained the router.';
COMMENT ON COLUMN runs.config IS 'All settings, defaults included.';
COMMENT ON COLUMN runs.versions IS 'Versions of the software that trained or evaluated the router.';
COMMENT ON COLUMN runs.policy IS 'Path of the router''s file when it was written or read; NULL for baselines.';
COMMENT ON COLUMN runs.policy_sha256 IS 'Hash of that file.';
COMMENT ON COLUMN runs.seconds IS 'Time of training or fitting, in seconds.';
COMMENT ON COLUMN runs.trained IS 'When training ended, or when a router of your own was last evaluated, UTC.';
COMMENT ON COLUMN runs.encoder_seconds IS
    'Seconds per decision spent embedding the newest text, as last measured by evaluate --overhead; NULL if never measured.';
COMMENT ON COLUMN runs.network_seconds IS 'Seconds per decision spent in the policy network, measured likewise.';

CREATE TABLE evaluations (
    run VARCHAR, split VARCHAR, policy VARCHAR, benchmark VARCHAR, synthetic BOOLEAN, questions INTEGER, alpha DOUBLE,
    quality DOUBLE, quality_low DOUBLE, quality_high DOUBLE, cost DOUBLE, cost_low DOUBLE, cost_high DOUBLE,
    reward DOUBLE, reward_low DOUBLE, reward_high DOUBLE,
    lead DOUBLE, lead_low DOUBLE, lead_high DOUBLE, paths JSON, evaluated TIMESTAMP,
    improvement DOUBLE, improvement_low DOUBLE, improvement_high DOUBLE, overhead_rate DOUBLE, reference VARCHAR,
    gap_recovered DOUBLE, gap_recovered_low DOUBLE, gap_recovered_high DOUBLE
);
COMMENT ON TABLE evaluations IS 'Exact results of a run''s router and of the baselines, by benchmark and overall.';
COMMENT ON COLUMN evaluations.run IS 'The run.';
COMMENT ON COLUMN evaluations.split IS 'The split evaluated on.';
COMMENT ON COLUMN evaluations.policy IS
    'router (greedy), router (sampled), another router by its name, a model, a fixed path or another baseline.';
COMMENT ON COLUMN evaluations.benchmark IS 'A benchmark, or overall: the unweighted mean of benchmarks.';
COMMENT ON COLUMN evaluations.synthetic IS 'Whether the questions are synthetic; overall: whether those of any benchmark are.';
COMMENT ON COLUMN evaluations.questions IS 'Number of questions.';
COMMENT ON COLUMN evaluations.alpha IS 'Weight of cost in the reward.';
COMMENT ON COLUMN evaluations.quality IS 'Mean quality Q.';
COMMENT ON COLUMN evaluations.quality_low IS 'Lower end of its 95% interval over questions.';
COMMENT ON COLUMN evaluations.quality_high IS 'Upper end.';
COMMENT ON COLUMN evaluations.cost IS 'Mean cost C of a question, in cost units.';
COMMENT ON COLUMN evaluations.cost_low IS 'Lower end of its 95% interval.';
COMMENT ON COLUMN evaluations.cost_high IS 'Upper end.';
COMMENT ON COLUMN evaluations.reward IS 'Mean of R = Q - alpha * C.';
COMMENT ON COLUMN evaluations.reward_low IS 'Lower end of its 95% interval.';
COMMENT ON COLUMN evaluations.reward_high IS 'Upper end.';
COMMENT ON COLUMN evaluations.lead IS 'Mean over questions of the reference''s reward minus this policy''s.';
COMMENT ON COLUMN evaluations.lead_low IS 'Lower end of its 95% interval.';
COMMENT ON COLUMN evaluations.lead_high IS 'Upper end.';
COMMENT ON COLUMN evaluations.paths IS 'Share of questions on each path, as JSON.';
COMMENT ON COLUMN evaluations.evaluated IS 'When, UTC.';
COMMENT ON COLUMN evaluations.improvement IS
    'Probability that the reference''s reward exceeds this policy''s on a question, ties counting half; NULL before schema 2.';
COMMENT ON COLUMN evaluations.improvement_low IS 'Lower end of its 95% interval.';
COMMENT ON COLUMN evaluations.improvement_high IS 'Upper end.';
COMMENT ON COLUMN evaluations.overhead_rate IS
    'Cost units charged per second of the router''s own work (encoder only, for baselines that see the question alone); NULL before schema 4.';
COMMENT ON COLUMN evaluations.reference IS 'The policy whose lead and improvement over this row''s policy are recorded.';
COMMENT ON COLUMN evaluations.gap_recovered IS
    'This policy''s share of the way in reward from the best fixed path (0) to the oracle (1); NULL before schema 6.';
COMMENT ON COLUMN evaluations.gap_recovered_low IS 'Lower end of its 95% interval.';
COMMENT ON COLUMN evaluations.gap_recovered_high IS 'Upper end.';

CREATE TABLE decisions (run VARCHAR, node UUID, action VARCHAR, probability DOUBLE, chosen BOOLEAN);
COMMENT ON TABLE decisions IS
    'Action probabilities of a router at every decision node of the evaluated split; of a router of your own, at those it reaches.';
COMMENT ON COLUMN decisions.run IS 'The run.';
COMMENT ON COLUMN decisions.node IS 'The decision node; joins transitions.node and transitions.parent.';
COMMENT ON COLUMN decisions.action IS 'Name of the model, or stop.';
COMMENT ON COLUMN decisions.probability IS 'Its probability.';
COMMENT ON COLUMN decisions.chosen IS 'Whether the greedy router takes it.';

CREATE VIEW current_suites AS
SELECT * EXCLUDE (age)
FROM (SELECT *, row_number() OVER (PARTITION BY name ORDER BY recorded DESC) AS age FROM suites)
WHERE age = 1;
COMMENT ON VIEW current_suites IS 'The current suite of each name: the one recorded last.';
COMMENT ON COLUMN current_suites.suite IS 'Key of the resolved suite.';
COMMENT ON COLUMN current_suites.name IS 'Name of the suite, as in the other views.';
COMMENT ON COLUMN current_suites.config IS 'The suite file as loaded, defaults included.';
COMMENT ON COLUMN current_suites.horizon IS 'Number of hops L.';
COMMENT ON COLUMN current_suites.samples IS 'Sampled trees per question.';
COMMENT ON COLUMN current_suites.encoder IS 'Encoder of the policy''s features.';
COMMENT ON COLUMN current_suites.cost_unit IS 'Raw cost (tokens times rate) of one cost unit; NULL until depth 1 is complete.';
COMMENT ON COLUMN current_suites.recorded IS 'When the suite was last recorded with these settings, UTC.';

CREATE VIEW suite_nodes AS
SELECT
    q.suite, q.position, q.sample, q.question, q.split, q.metric, q.root, p.number, n.depth, p.names, n.node, n.parent, n.path,
    n.generation, n.dropped_responses
FROM suite_questions AS q
JOIN nodes AS n ON n.root = q.root
JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path;
COMMENT ON VIEW suite_nodes IS 'The nodes of every recorded suite, superseded ones included; the join behind the other views.';
COMMENT ON COLUMN suite_nodes.suite IS 'Key of the suite.';
COMMENT ON COLUMN suite_nodes.position IS 'Row of the tree in the replay table, from 0.';
COMMENT ON COLUMN suite_nodes.sample IS 'Number of the sampled tree, from 0.';
COMMENT ON COLUMN suite_nodes.question IS 'Key of the question.';
COMMENT ON COLUMN suite_nodes.split IS 'train, validation or test.';
COMMENT ON COLUMN suite_nodes.metric IS 'Metric used as quality Q for this question.';
COMMENT ON COLUMN suite_nodes.root IS 'Root of the tree.';
COMMENT ON COLUMN suite_nodes.number IS 'Number of the node in its tree; the root is 0.';
COMMENT ON COLUMN suite_nodes.depth IS 'Number of hops.';
COMMENT ON COLUMN suite_nodes.names IS 'Names of the models chosen so far, in order.';
COMMENT ON COLUMN suite_nodes.node IS 'Key of the node.';
COMMENT ON COLUMN suite_nodes.parent IS 'Key of the node one hop earlier; NULL for the root.';
COMMENT ON COLUMN suite_nodes.path IS 'Keys of the models chosen so far, in order.';
COMMENT ON COLUMN suite_nodes.generation IS 'Generation of the last response on the path; NULL for the root.';
COMMENT ON COLUMN suite_nodes.dropped_responses IS 'Number of oldest responses left out because the prompt did not fit.';

CREATE VIEW transitions AS
SELECT
    s.name AS suite, q.benchmark, q.item, n.question, n.split, n.sample, n.depth, n.names AS path, m.name AS model,
    n.number, n.node, n.parent, q.prompt AS question_prompt, g.response, g.prompt_tokens, g.completion_tokens,
    CASE WHEN g.status = 'error' THEN NULL WHEN s.cost_unit = 0 THEN 0
         ELSE coalesce(g.cost, m.rate_in * g.prompt_tokens + m.rate_out * g.completion_tokens) / s.cost_unit END AS cost,
    CASE WHEN g.status = 'ok' THEN c.value END AS quality,
    g.status, g.finish_reason, n.dropped_responses, g.error, n.generation, g.seconds
FROM current_suites AS s
JOIN suite_nodes AS n ON n.suite = s.suite AND n.depth > 0
JOIN questions AS q ON q.question = n.question
JOIN suite_models AS m ON m.suite = n.suite AND m.model = n.path[-1]
JOIN generations AS g ON g.generation = n.generation
LEFT JOIN scores AS c ON c.question = n.question AND c.metric = n.metric AND c.text = g.text;
COMMENT ON VIEW transitions IS 'One row per node below the root: prompt, response, cost and quality of the last model on the path.';
COMMENT ON COLUMN transitions.suite IS 'Name of the suite.';
COMMENT ON COLUMN transitions.benchmark IS 'Name of the benchmark.';
COMMENT ON COLUMN transitions.item IS 'Id of the question within the benchmark.';
COMMENT ON COLUMN transitions.question IS 'Key of the question.';
COMMENT ON COLUMN transitions.split IS 'train, validation or test.';
COMMENT ON COLUMN transitions.sample IS 'Number of the sampled tree, from 0.';
COMMENT ON COLUMN transitions.depth IS 'Number of hops so far.';
COMMENT ON COLUMN transitions.path IS 'Names of the models chosen so far, in order.';
COMMENT ON COLUMN transitions.model IS 'The last model on the path.';
COMMENT ON COLUMN transitions.number IS 'Number of the node in its tree; the root is 0, the children of n are n*M+1 ... n*M+M.';
COMMENT ON COLUMN transitions.node IS 'Key of the node.';
COMMENT ON COLUMN transitions.parent IS 'Key of the node one hop earlier.';
COMMENT ON COLUMN transitions.question_prompt IS 'Prompt of the question.';
COMMENT ON COLUMN transitions.response IS 'The response.';
COMMENT ON COLUMN transitions.prompt_tokens IS 'Tokens of the prompt of this hop.';
COMMENT ON COLUMN transitions.completion_tokens IS 'Tokens of the response.';
COMMENT ON COLUMN transitions.cost IS 'Cost of this hop alone, in cost units.';
COMMENT ON COLUMN transitions.quality IS 'Quality of this response by the suite''s metric.';
COMMENT ON COLUMN transitions.status IS 'ok or error.';
COMMENT ON COLUMN transitions.finish_reason IS 'stop or length.';
COMMENT ON COLUMN transitions.dropped_responses IS 'Number of oldest responses left out because the prompt did not fit.';
COMMENT ON COLUMN transitions.error IS 'Why there is no response.';
COMMENT ON COLUMN transitions.generation IS 'Key of the generation, shared by all nodes with the same rendered prompt.';
COMMENT ON COLUMN transitions.seconds IS 'Wall time of the batch divided by its size, in seconds.';

CREATE VIEW paths AS
WITH hops AS MATERIALIZED (
    SELECT suite, benchmark, item, question, split, sample, path, number, response, prompt_tokens, completion_tokens, cost,
           quality, status
    FROM transitions
),
steps AS (
    SELECT s.name AS suite, complete.number, part.number AS step
    FROM current_suites AS s
    JOIN suite_paths AS complete ON complete.suite = s.suite AND complete.depth = s.horizon
    JOIN suite_paths AS part
      ON part.suite = s.suite AND part.depth BETWEEN 1 AND complete.depth AND part.path = complete.path[1:part.depth]
),
totals AS (
    SELECT
        hops.suite, hops.question, hops.sample, steps.number, sum(hops.prompt_tokens)::BIGINT AS prompt_tokens,
        sum(hops.completion_tokens)::BIGINT AS completion_tokens, sum(hops.cost) AS cost
    FROM hops JOIN steps ON steps.suite = hops.suite AND steps.step = hops.number
    GROUP BY ALL
)
SELECT
    last.suite, last.benchmark, last.item, last.question, last.split, last.sample, last.path,
    totals.prompt_tokens, totals.completion_tokens, totals.cost, last.quality, last.response
FROM totals JOIN hops AS last USING (suite, question, sample, number)
WHERE last.status = 'ok';
COMMENT ON VIEW paths IS 'One row per question and complete path: total cost, and quality of the final response.';
COMMENT ON COLUMN paths.suite IS 'Name of the suite.';
COMMENT ON COLUMN paths.benchmark IS 'Name of the benchmark.';
COMMENT ON COLUMN paths.item IS 'Id of the question within the benchmark.';
COMMENT ON COLUMN paths.question IS 'Key of the question.';
COMMENT ON COLUMN paths.split IS 'train, validation or test.';
COMMENT ON COLUMN paths.sample IS 'Number of the sampled tree, from 0.';
COMMENT ON COLUMN paths.path IS 'Names of all L models, in order.';
COMMENT ON COLUMN paths.prompt_tokens IS 'Prompt tokens of all hops.';
COMMENT ON COLUMN paths.completion_tokens IS 'Completion tokens of all hops.';
COMMENT ON COLUMN paths.cost IS 'Cost C of the whole path, in cost units.';
COMMENT ON COLUMN paths.quality IS 'Quality Q of the final response.';
COMMENT ON COLUMN paths.response IS 'The final response.';

CREATE VIEW routes AS
WITH RECURSIVE steps AS MATERIALIZED (
    SELECT d.run, t.suite, t.parent, t.node, t.path, t.depth, t.quality, t.cost
    FROM transitions AS t JOIN decisions AS d ON d.node = t.parent AND d.action = t.model AND d.chosen
),
starts AS MATERIALIZED (
    SELECT DISTINCT r.run, s.name AS suite, q.root, q.question, q.sample, q.split
    FROM runs AS r
    JOIN suites AS known ON known.suite = r.suite
    JOIN current_suites AS s ON s.name = known.name
    JOIN suite_questions AS q ON q.suite = s.suite
    JOIN decisions AS d ON d.run = r.run AND d.node = q.root
),
walks AS (
    SELECT run, suite, root, root AS node, []::VARCHAR[] AS path, 0 AS hops, 0::DOUBLE AS quality, 0::DOUBLE AS cost FROM starts
    UNION ALL
    SELECT w.run, w.suite, w.root, s.node, s.path, s.depth, s.quality, w.cost + s.cost
    FROM walks AS w JOIN steps AS s ON s.run = w.run AND s.suite = w.suite AND s.parent = w.node
),
ends AS (
    SELECT * FROM walks QUALIFY row_number() OVER (PARTITION BY run, suite, root ORDER BY hops DESC) = 1
)
SELECT e.run, e.suite, q.benchmark, q.item, s.question, s.sample, s.split, e.path, e.hops, e.quality, e.cost
FROM ends AS e
JOIN starts AS s ON s.run = e.run AND s.suite = e.suite AND s.root = e.root
JOIN questions AS q ON q.question = s.question;
COMMENT ON VIEW routes IS 'One row per run and evaluated question: the path that the greedy router takes, its quality and cost.';
COMMENT ON COLUMN routes.run IS 'The run.';
COMMENT ON COLUMN routes.suite IS 'Name of the suite.';
COMMENT ON COLUMN routes.benchmark IS 'Name of the benchmark.';
COMMENT ON COLUMN routes.item IS 'Id of the question within the benchmark.';
COMMENT ON COLUMN routes.question IS 'Key of the question.';
COMMENT ON COLUMN routes.sample IS 'Number of the sampled tree, from 0.';
COMMENT ON COLUMN routes.split IS 'train, validation or test.';
COMMENT ON COLUMN routes.path IS 'Names of the models on the path, in order; empty if the router abstains.';
COMMENT ON COLUMN routes.hops IS 'Number of hops.';
COMMENT ON COLUMN routes.quality IS 'Quality Q of the final response.';
COMMENT ON COLUMN routes.cost IS 'Cost C of the path, in cost units, without the overhead of decisions.';

CREATE VIEW progress AS
WITH counts AS (
    SELECT
        n.suite, q.benchmark, n.number,
        count(*) FILTER (g.status = 'ok') AS done, count(*) FILTER (g.status = 'error') AS failed
    FROM suite_nodes AS n
    JOIN questions AS q ON q.question = n.question
    JOIN generations AS g ON g.generation = n.generation
    WHERE n.suite IN (SELECT suite FROM current_suites)
    GROUP BY ALL
),
trees AS (
    SELECT sq.suite, q.benchmark, count(*) AS trees
    FROM suite_questions AS sq JOIN questions AS q ON q.question = sq.question
    GROUP BY ALL
)
SELECT
    s.name AS suite, t.benchmark, p.depth, p.names[-1] AS model, sum(t.trees)::BIGINT AS nodes,
    coalesce(sum(g.done), 0)::BIGINT AS done, coalesce(sum(g.failed), 0)::BIGINT AS failed,
    (sum(t.trees) - coalesce(sum(g.done + g.failed), 0))::BIGINT AS missing
FROM current_suites AS s
JOIN trees AS t ON t.suite = s.suite
JOIN suite_paths AS p ON p.suite = s.suite AND p.depth > 0
LEFT JOIN counts AS g ON g.suite = s.suite AND g.benchmark = t.benchmark AND g.number = p.number
GROUP BY s.name, t.benchmark, p.depth, p.names[-1];
COMMENT ON VIEW progress IS 'Progress of generation, by benchmark, depth and model.';
COMMENT ON COLUMN progress.suite IS 'Name of the suite.';
COMMENT ON COLUMN progress.benchmark IS 'Name of the benchmark.';
COMMENT ON COLUMN progress.depth IS 'Hop, from 1.';
COMMENT ON COLUMN progress.model IS 'Name of the model.';
COMMENT ON COLUMN progress.nodes IS 'Number of nodes.';
COMMENT ON COLUMN progress.done IS 'Nodes with a response.';
COMMENT ON COLUMN progress.failed IS 'Nodes whose generation is an error.';
COMMENT ON COLUMN progress.missing IS 'Nodes without a generation, including those below an error.';
