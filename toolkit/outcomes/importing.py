"""Imports results as a suite: what other people's models responded, at what cost, and how it was scored.

The suite replays, trains, sweeps and can be queried like a generated one. A response that the results lack is a failed
generation, never a silent default. Names and scores are those of the results.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from toolkit.core.errors import BenchmarkError
from toolkit.core.hashing import canonical_json, text_key
from toolkit.core.progress import NoProgress, Progress
from toolkit.core.workspace import Workspace
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.outcomes.long_format import Cell, ResultRow, read_results
from toolkit.store import Batch, Cache, Prefer, Row, now
from toolkit.suites.config import BenchmarkConfig, SuiteConfig
from toolkit.suites.keys import child_key, encoder_identity, generation_key, model_key, question_key
from toolkit.suites.models import ModelConfig
from toolkit.suites.resolving import split_of
from toolkit.suites.suite import Model, Question, Suite
from toolkit.tasks.metrics import Reference

METRIC = "given@1"
"""Label of the scores, which come with the results."""
COMMIT_ROWS = 20_000
"""Nodes that are committed together, at least."""
MAX_LISTED_CELLS = 3
"""Missing cells that a summary lists."""

Incomplete = Literal["refuse", "exclude question"]


@dataclass(frozen=True)
class ImportSummary:
    """What an import has added.

    Attributes:
        suite: The suite that the results became.
        cells: Responses that complete results would have.
        missing: The first of the missing ones, as `benchmark/item: path`.
        n_missing: How many are missing.
        added: Rows added to the cache, by table.
    """

    suite: Suite
    cells: int
    missing: tuple[str, ...]
    n_missing: int
    added: Mapping[str, int]


def import_results(
    table: Path,
    name: str,
    cache: Cache,
    downloads: Path,
    *,
    rates: Mapping[str, tuple[float, float]] | None = None,
    incomplete: Incomplete = "refuse",
    prefer: Prefer | None = None,
    progress: Progress | None = None,
    encode: Encode | None = None,
) -> ImportSummary:
    """Import a table of results into a cache as a suite, completely or not at all.

    Args:
        table: CSV, JSONL or Parquet; docs/outcomes.md describes the columns.
        name: Name of the suite.
        cache: The cache; it is created if it does not exist.
        downloads: Folder of the encoder's weights.
        rates: Prices of a prompt and of a completion token by model, if the table has tokens; default: 1 and 1.
        incomplete: What training does with questions that lack a response.
        prefer: Which result to keep if the cache has another one of the same cell.
        progress: Is told of the progress.
        encode: Embeds texts; default: the suite's encoder.

    Raises:
        BenchmarkError: The table is malformed; the message names the row.
        CacheError: The cache has other results of the same cells and `prefer` does not say which to keep.
    """
    results = read_results(table)
    workspace = Workspace(Path.cwd(), downloads)
    suite = build_suite(results, name, rates or {}, incomplete, workspace)
    results_by_cell = {result.cell: result for result in results}
    cells = list(_cells(suite))
    missing = [cell for cell in cells if cell not in results_by_cell]
    cache.create()
    with tempfile.TemporaryDirectory(dir=cache.path.parent, prefix=f".{cache.path.name}.import-") as scratch:
        draft = Cache(Path(scratch) / "draft.duckdb")
        draft.create()
        draft.suites.record(suite)
        for batch in _batches(suite, results_by_cell, table.name):
            draft.generations.commit(batch)
        encode = encode or SuiteEncoder(suite, workspace)
        draft.embeddings.fill(suite, encode, draft.generations.commit, progress or NoProgress())
        added = cache.transfer.merge(draft.path, prefer)
    cache.suites.record(suite)
    cache.suites.compute_cost_unit(suite.key, recompute=True)
    return ImportSummary(
        suite=suite,
        cells=len(cells),
        missing=tuple(f"{benchmark}/{item}: {' > '.join(path)}" for benchmark, item, path in missing[:MAX_LISTED_CELLS]),
        n_missing=len(missing),
        added=added,
    )


def build_suite(
    results: Sequence[ResultRow],
    name: str,
    rates: Mapping[str, tuple[float, float]],
    incomplete: Incomplete,
    workspace: Workspace,
) -> Suite:
    """Build the suite of results; models and benchmarks are in the order of their first occurrence.

    Raises:
        BenchmarkError: `rates` has an unknown model, or a name or the number of models is not allowed in a suite.
    """
    config = _suite_config(results, name, rates, incomplete)
    models = []
    for model in config.models:
        identity = {"imported": name, "model": model.name}
        rate_in, rate_out = model.rates
        models.append(Model(key=model_key(identity), name=model.name, identity=identity, rate_in=rate_in, rate_out=rate_out))
    items = {(result.benchmark, result.item): result for result in results}  # all rows of an item have the same question
    questions = tuple(_question(result, config) for result in items.values())
    return Suite(config=config, models=tuple(models), questions=questions, encoder=encoder_identity(config, workspace))


def _suite_config(
    results: Sequence[ResultRow], name: str, rates: Mapping[str, tuple[float, float]], incomplete: Incomplete
) -> SuiteConfig:
    names = list(dict.fromkeys(model for result in results for model in result.path))
    if unknown := sorted(set(rates) - set(names)):
        raise BenchmarkError(f"There is no model {unknown[0]!r} to price; the table has: {', '.join(names)}.")
    has_tokens = results[0].cost is None
    prices = [rates.get(model, (1.0, 1.0)) if has_tokens else (0.0, 0.0) for model in names]
    benchmarks = dict.fromkeys(result.benchmark for result in results)
    try:
        return SuiteConfig(
            name=name,
            description="Imported from an outcome table.",
            horizon=max(len(result.path) for result in results),
            incomplete=incomplete,
            models=tuple(
                ModelConfig(name=model, checkpoint="imported", dtype="float32", rate_in=rate_in, rate_out=rate_out)
                for model, (rate_in, rate_out) in zip(names, prices, strict=True)
            ),
            benchmarks=tuple(BenchmarkConfig(name=benchmark, imported=True) for benchmark in benchmarks),
        )
    except ValueError as error:
        raise BenchmarkError(f"The table cannot be a suite: {error}") from None


def _question(result: ResultRow, config: SuiteConfig) -> Question:
    reference = Reference(() if result.reference is None else (result.reference,))
    version = "imported"
    return Question(
        key=question_key(result.benchmark, version, result.item, result.question, reference),
        benchmark=result.benchmark,
        version=version,
        item=result.item,
        prompt=result.question,
        reference=reference,
        metric=METRIC,
        split=split_of(result.question, config.splits),
    )


def _cells(suite: Suite) -> Iterator[Cell]:
    """Yield the cells that complete results have."""
    paths = [tuple(model.name for model in path) for path in suite.paths()[1:]]
    return ((question.benchmark, question.item, path) for question in suite.questions for path in paths)


def _batches(suite: Suite, results: Mapping[Cell, ResultRow], source: str) -> Iterator[Batch]:
    """Yield the rows of all trees, complete trees together."""
    paths = suite.paths()[1:]
    batch = Batch()
    for question, _, root in suite.trees():
        nodes: dict[tuple[str, ...], UUID] = {(): root}
        for path in paths:
            names, model = tuple(node_model.name for node_model in path), path[-1]
            parent = nodes[names[:-1]]
            nodes[names] = child_key(parent, model.key)
            result = results.get((question.benchmark, question.item, names))
            generation = _generation_row(question, names, model, result, source)
            batch.generations.append(generation)
            batch.nodes.append(
                {
                    "node": nodes[names],
                    "root": root,
                    "question": question.key,
                    "parent": parent,
                    "path": [node_model.key for node_model in path],
                    "depth": len(path),
                    "generation": generation["generation"],
                    "dropped_responses": 0,
                }
            )
            if result:
                score = {"text": generation["text"], "metric": METRIC, "value": result.score, "detail": "{}"}
                batch.scores.append({"question": question.key} | score)
        if len(batch.nodes) >= COMMIT_ROWS:
            yield _with_distinct_scores(batch)
            batch = Batch()
    yield _with_distinct_scores(batch)


def _generation_row(question: Question, path: tuple[str, ...], model: Model, result: ResultRow | None, source: str) -> Row:
    """Return the row of a generation; without a result, it is a failure that no run retries."""
    prompt = canonical_json([question.benchmark, question.item, question.prompt, path[:-1]])
    generation = generation_key(model.key, prompt, 0)
    row: dict[str, Any] = {
        "generation": generation,
        "model": model.key,
        "prompt": prompt,
        "sample": 0,
        "response": None,
        "text": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "finish_reason": None,
        "status": "error",
        "error": f"not in {source}",
        "transient": False,
        "seconds": None,
        "engine": "imported",
        "created": now(),
        "cost": None,
    }
    if result is None:
        return row
    return row | {
        "response": result.response,
        "text": text_key(str(generation) if result.response is None else result.response),
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
        "status": "ok",
        "error": None,
        "transient": None,
        "cost": result.cost,
    }


def _with_distinct_scores(batch: Batch) -> Batch:
    """Keep one score per response: several models may have given the same one."""
    batch.scores = list({(row["question"], row["text"]): row for row in batch.scores}.values())
    return batch
