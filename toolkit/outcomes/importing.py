"""Other people's outcome tables as suites: who was asked what, what it cost and how good it was, one row an answer.

A table becomes a suite whose answers are all there: it replays, trains, sweeps and answers SQL like a generated one. A cell
that the table lacks is a failed generation, never a silent default. Names and scores are the table's own.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from toolkit.core.errors import BenchmarkError
from toolkit.core.hashing import canonical_json, key, text_key
from toolkit.core.progress import Progress
from toolkit.core.workspace import Workspace
from toolkit.generation.embedding import Encode
from toolkit.generation.generate import generate
from toolkit.store import Batch, Cache, Prefer, now
from toolkit.suites.config import BenchmarkConfig, ModelConfig, SuiteConfig
from toolkit.suites.suite import Model, Question, Suite, child_key, encoder_identity, generation_key, question_key, split_of
from toolkit.tasks.metrics import Reference

if TYPE_CHECKING:
    import polars as pl

NEEDED = ("benchmark", "item", "question", "score")
KNOWN = (*NEEDED, "model", "path", "response", "prompt_tokens", "completion_tokens", "cost", "reference")
METRIC = "given@1"
"""Label of the scores, which came with the table."""
ROWS_AT_ONCE = 20_000

Cell = tuple[str, str, tuple[str, ...]]
"""Benchmark, item, and names of the models along a path."""


class ResultRow(NamedTuple):
    """One row of a table; `row` is its number, counted from 1 without the header."""

    row: int
    benchmark: str
    item: str
    question: str
    path: tuple[str, ...]
    response: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    score: float
    reference: str | None


@dataclass(frozen=True)
class ImportSummary:
    """What an outcome table brought.

    Attributes:
        suite: The suite that it became.
        cells: Answers that a whole table would have.
        missing: Those that this one lacks, the first few as people read them.
        n_missing: How many it lacks.
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
    store: Path,
    *,
    rates: Mapping[str, tuple[float, float]] | None = None,
    incomplete: Literal["refuse", "exclude question"] = "refuse",
    prefer: Prefer | None = None,
    progress: Progress | None = None,
    encode: Encode | None = None,
) -> ImportSummary:
    """Take an outcome table into a cache as a suite, all of it or nothing.

    Args:
        table: CSV, JSONL or Parquet; docs/outcomes.md says what the columns mean.
        name: Name of the suite.
        cache: The cache, made if it is not there.
        store: Folder for the encoder's weights.
        rates: Prices of a prompt and of a completion token by model, where the table has tokens; 1 and 1 where none is given.
        incomplete: What training does about questions of which an answer is missing.
        prefer: Whose outcome stays where the cache has another one of the same cell.
        progress: Who is told of the progress.
        encode: Embeds texts; by default the suite's encoder.

    Raises:
        BenchmarkError: The table is not what it should be; names the row.
        CacheError: The cache has other outcomes of the same cells and `prefer` does not say which to keep.
    """
    outcomes = read_results(table)
    cells = {(one.benchmark, one.item, one.path): one for one in outcomes}
    suite = as_suite(outcomes, name, rates or {}, incomplete, store)
    lacking = [cell for cell in _cells(suite) if cell not in cells]
    cache.create()
    with tempfile.TemporaryDirectory(dir=cache.path.parent, prefix=f".{cache.path.name}.import-") as scratch:
        draft = Cache(Path(scratch) / "draft.duckdb")
        draft.create()
        draft.record(suite)
        for batch in _batches(suite, cells, table.name):
            draft.commit(batch)
        generate(
            suite, draft, Workspace(Path.cwd(), store), progress=progress, encode=encode
        )  # embeds; there is nothing to generate
        added = cache.merge(draft.path, prefer)
    cache.record(suite)
    cache.set_cost_unit(suite.key, incomplete != "refuse", again=True)
    shown = tuple(f"{benchmark}/{item}: {' > '.join(path)}" for benchmark, item, path in lacking[:3])
    return ImportSummary(suite, sum(1 for _ in _cells(suite)), shown, len(lacking), added)


def read_results(table: Path) -> list[ResultRow]:
    """Read and check a table; rows without a score are left out, as cells that it lacks.

    Raises:
        BenchmarkError: It cannot be read, lacks a column, or has a row that is wrong, or there twice.
    """
    frame = _frame(table)
    lacking = [column for column in NEEDED if column not in frame.columns]
    if not {"model", "path"} & set(frame.columns):
        lacking.append("model")
    if lacking or not ({"cost"} <= set(frame.columns) or {"prompt_tokens", "completion_tokens"} <= set(frame.columns)):
        raise BenchmarkError(
            f"{table} lacks the columns {', '.join(lacking or ['cost (or prompt_tokens and completion_tokens)'])}; it has "
            f"{', '.join(frame.columns)}. docs/outcomes.md says what they mean."
        )
    rows = frame.select(column for column in KNOWN if column in frame.columns).iter_rows(named=True)
    outcomes = [_outcome(table, number, row) for number, row in enumerate(rows, 1) if row["score"] is not None]
    if not outcomes:
        raise BenchmarkError(f"{table} has no row with a score.")
    _check_whole(table, outcomes)
    return outcomes


def _frame(table: Path) -> "pl.DataFrame":
    import polars as pl

    readers = {
        ".csv": lambda: pl.read_csv(table, infer_schema_length=None),
        ".jsonl": lambda: pl.read_ndjson(table, infer_schema_length=None),
        ".parquet": lambda: pl.read_parquet(table),
    }
    if table.suffix not in readers:
        raise BenchmarkError(f"{table} is of no known format: an outcome table is CSV, JSONL or Parquet.")
    try:
        return readers[table.suffix]()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BenchmarkError(f"{table} cannot be read: {str(error).splitlines()[0]}") from None


def _outcome(table: Path, number: int, row: Mapping[str, Any]) -> ResultRow:
    path = _path(row)
    try:
        tokens = [None if row.get(column) is None else int(row[column]) for column in ("prompt_tokens", "completion_tokens")]
        cost = None if row.get("cost") is None else float(row["cost"])
        score = float(row["score"])
    except ValueError as error:
        raise BenchmarkError(f"{table}, row {number}: {error}.") from None
    problem = None
    if any(row[column] is None or not str(row[column]).strip() for column in ("benchmark", "item", "question")):
        problem = "has no benchmark, item or question"
    elif not path:
        problem = "has neither model nor path"
    elif row.get("path") is not None and row.get("model") is not None and path[-1] != str(row["model"]):
        problem = f"has the path {' > '.join(path)}, which does not end with its model {row['model']}"
    elif not 0 <= score <= 1:
        problem = f"has the score {score:g}, which is not in [0, 1]: scale the scores"
    elif cost is None and None in tokens:
        problem = "has neither a cost nor prompt_tokens and completion_tokens"
    elif (cost is not None and not 0 <= cost < float("inf")) or any(count is not None and count < 0 for count in tokens):
        problem = "has a cost or a number of tokens below 0"
    if problem:
        raise BenchmarkError(f"{table}, row {number} {problem}.")
    texts = [None if row.get(column) is None else str(row[column]) for column in ("response", "reference")]
    what = (str(row["benchmark"]), str(row["item"]), str(row["question"]))
    return ResultRow(number, *what, path, texts[0], tokens[0], tokens[1], cost, score, texts[1])


def _path(row: Mapping[str, Any]) -> tuple[str, ...]:
    given = row.get("path")
    if given is None:
        return (str(row["model"]),) if row.get("model") is not None else ()
    return tuple(map(str, given)) if isinstance(given, list) else tuple(part.strip() for part in str(given).split(">"))


def _check_whole(table: Path, outcomes: Sequence[ResultRow]) -> None:
    """Check what rows say together."""
    cells: dict[Cell, int] = {}
    questions: dict[tuple[str, str], ResultRow] = {}
    scores: dict[tuple[str, str, str], ResultRow] = {}
    for one in outcomes:
        problem = None
        other = cells.setdefault((one.benchmark, one.item, one.path), one.row)
        asked = questions.setdefault((one.benchmark, one.item), one)
        said = scores.setdefault((one.benchmark, one.item, one.response), one) if one.response is not None else one
        if other != one.row:
            problem = f"is the same cell as row {other}"
        elif (asked.question, asked.reference) != (one.question, one.reference):
            problem = f"has another question or reference than row {asked.row}, of the same item"
        elif said.score != one.score:
            problem = (
                f"scores the response of row {said.row} otherwise; a score belongs to a response, so mend one of them or leave "
                "out the column response"
            )
        elif (one.cost is None) != (outcomes[0].cost is None):
            problem = f"and row {outcomes[0].row} differ in having a cost; give all of them one, or none"
        if problem:
            raise BenchmarkError(f"{table}, row {one.row} {problem}.")


def as_suite(
    outcomes: Sequence[ResultRow],
    name: str,
    rates: Mapping[str, tuple[float, float]],
    incomplete: Literal["refuse", "exclude question"],
    store: Path,
) -> Suite:
    """Return the suite that a table is: its models and benchmarks in the order in which they first occur.

    Raises:
        BenchmarkError: A name or a number of models is none that a suite may have.
    """
    names = list(dict.fromkeys(model for one in outcomes for model in one.path))
    unknown = sorted(set(rates) - set(names))
    if unknown:
        raise BenchmarkError(f"There is no model {unknown[0]!r} to price; the table has: {', '.join(names)}.")
    priced = outcomes[0].cost is None
    try:
        config = SuiteConfig(
            name=name,
            description="ImportSummary from an outcome table.",
            horizon=max(len(one.path) for one in outcomes),
            incomplete=incomplete,
            models=tuple(_model(model, rates.get(model, (1.0, 1.0)) if priced else (0.0, 0.0)) for model in names),
            benchmarks=tuple(
                BenchmarkConfig(name=benchmark, imported=True) for benchmark in dict.fromkeys(one.benchmark for one in outcomes)
            ),
        )
    except ValueError as error:
        raise BenchmarkError(f"The table cannot be a suite: {error}") from None
    pool = []
    for model in config.models:
        identity = {"imported": name, "model": model.name}
        pool.append(Model(key("model", identity), model.name, identity, *model.rates))
    questions: dict[tuple[str, str], Question] = {}
    for one in outcomes:
        reference = Reference(() if one.reference is None else (one.reference,))
        asked = (one.benchmark, "imported", one.item, one.question, reference)
        questions.setdefault(
            (one.benchmark, one.item),
            Question(question_key(*asked), *asked, METRIC, split_of(one.question, config.splits)),
        )
    return Suite(config, tuple(pool), tuple(questions.values()), encoder_identity(config, Workspace(Path.cwd(), store)))


def _model(name: str, rates: tuple[float, float]) -> ModelConfig:
    return ModelConfig(name=name, checkpoint="imported", dtype="float32", rate_in=rates[0], rate_out=rates[1])


def _cells(suite: Suite) -> Iterator[Cell]:
    paths = [tuple(model.name for model in path) for path in suite.paths()[1:]]
    return ((question.benchmark, question.item, path) for question in suite.questions for path in paths)


def _batches(suite: Suite, cells: Mapping[Cell, ResultRow], source: str) -> Iterator[Batch]:
    """Yield the rows of every tree, whole trees together."""
    batch = Batch()
    paths = list(enumerate(suite.paths()))[1:]
    for question, _, root in suite.trees():
        nodes = [root]
        for number, path in paths:
            parent = nodes[(number - 1) // len(suite.models)]
            names = tuple(model.name for model in path)
            place = canonical_json([question.benchmark, question.item, question.prompt, names[:-1]])
            generation = generation_key(path[-1].key, place, 0)
            nodes.append(child_key(parent, path[-1].key))
            outcome = cells.get((question.benchmark, question.item, names))
            batch.nodes.append(
                {
                    "node": nodes[number],
                    "root": root,
                    "question": question.key,
                    "parent": parent,
                    "path": [model.key for model in path],
                    "depth": len(path),
                    "generation": generation,
                    "dropped_answers": 0,
                }
            )
            response = outcome.response if outcome else None
            text = text_key(str(generation) if response is None else response)
            batch.generations.append(
                {
                    "generation": generation,
                    "model": path[-1].key,
                    "prompt": place,
                    "sample": 0,
                    "response": response,
                    "text": text if outcome else None,
                    "prompt_tokens": outcome.prompt_tokens if outcome else None,
                    "completion_tokens": outcome.completion_tokens if outcome else None,
                    "finish_reason": None,
                    "status": "ok" if outcome else "error",
                    "error": None if outcome else f"not in {source}",
                    "transient": None if outcome else False,
                    "seconds": None,
                    "engine": "imported",
                    "created": now(),
                    "cost": outcome.cost if outcome else None,
                }
            )
            if outcome:
                batch.scores.append(
                    {"question": question.key, "text": text, "metric": METRIC, "value": outcome.score, "detail": "{}"}
                )
        if len(batch.nodes) >= ROWS_AT_ONCE:
            yield _once(batch)
            batch = Batch()
    yield _once(batch)


def _once(batch: Batch) -> Batch:
    """Keep one score a response: several models may have given the same one."""
    batch.scores = list({(row["question"], row["text"]): row for row in batch.scores}.values())
    return batch
