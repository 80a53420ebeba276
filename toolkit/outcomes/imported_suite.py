"""Builds the suite of results: its settings, prices, models and questions, and the rows of its trees."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError

from toolkit.core.errors import BenchmarkError, SuiteError, did_you_mean
from toolkit.core.hashing import canonical_json, text_key
from toolkit.core.workspace import Workspace
from toolkit.outcomes.results import Cell, Item, QuestionText, ResultRow, Results
from toolkit.store import Batch, Row, now
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.suites.config import SuiteConfig
from toolkit.suites.fields import NAME
from toolkit.suites.keys import child_key, encoder_identity, generation_key, model_key, question_key
from toolkit.suites.loading import shipped_suites
from toolkit.suites.models import ModelConfig
from toolkit.suites.resolving import split_of
from toolkit.suites.section import mistakes
from toolkit.suites.suite import Model, Question, Suite
from toolkit.tasks.metrics import Reference

Incomplete = Literal["refuse", "exclude question"]
Rates = Mapping[str, tuple[float, float]]
"""Prices of a prompt token and of a completion token by model."""

METRIC = "given@1"
"""Label of the scores, which come with the results."""
VERSION = "imported"
"""Version of the benchmarks of imported questions."""
UNPRICED = (1.0, 1.0)
"""Prices of all models if none has a rate: every token costs the same."""
COMMIT_ROWS = 20_000
"""Nodes that are written together, at least."""


def check_suite_name(name: str) -> None:
    """Check that other commands can call an imported suite by its name.

    Raises:
        SuiteError: They cannot.
    """
    if name in shipped_suites():
        raise SuiteError(f"{name} is the name of a shipped suite. Give the imported one another name: --suite my-{name}")
    if not NAME.fullmatch(name) or name.endswith(".toml"):
        raise SuiteError(
            f"--suite {name!r} is not the name of a suite: up to 64 letters, digits, '.', '_' and '-', the first one a letter "
            "or a digit, and not ending in .toml. It also names the cache file."
        )


def recorded_results(suite: Suite, rows: Iterable[Mapping[str, Any]]) -> Results:
    """Return the results of a recorded suite, given the rows of the query `imported_results`.

    Raises:
        SuiteError: The suite was generated, so that results of others cannot be added.
    """
    if not suite.config.models[0].is_imported:
        raise SuiteError(
            f"The suite {suite.name} was generated, so results from elsewhere cannot be added to it. Import the table as "
            f"another suite, with another --suite NAME."
        )
    questions: dict[Item, QuestionText] = {}
    for question in suite.questions:
        reference = question.reference.answers[0] if question.reference.answers else None
        questions[question.benchmark, question.item] = QuestionText(question.prompt, reference, question.split)
    results = Results(questions, [model.name for model in suite.models], {}, suite.horizon, suite.config.samples)
    for row in rows:
        result = ResultRow(
            **{**row, "path": tuple(row["path"])}, place="the cache", question=questions[row["benchmark"], row["item"]]
        )
        results.cells[result.cell] = result
    return results


def build_suite(
    results: Results,
    name: str,
    recorded: Suite | None,
    rates: Rates,
    incomplete: Incomplete | None,
    workspace: Workspace,
    currency: str | None = None,
) -> Suite:
    """Build the suite of results; models, benchmarks and questions have the order of the results.

    Args:
        results: The results.
        name: Name of the suite.
        recorded: The recorded suite of that name, whose other settings stay.
        rates: Prices of every model.
        incomplete: What training does with questions that lack a response; default: as recorded, else `refuse`.
        workspace: The folder of downloads.
        currency: Currency of the costs and rates; default: as recorded.

    Raises:
        BenchmarkError: A suite cannot have such results.
    """
    base = recorded.config.model_dump() if recorded else {"name": name, "description": "Imported from an outcome table."}
    changes: dict[str, Any] = {
        "horizon": results.horizon,
        "samples": results.samples,
        "models": tuple(
            ModelConfig(name=model, checkpoint="imported", dtype="float32", rate_in=rates[model][0], rate_out=rates[model][1])
            for model in results.models
        ),
        "benchmarks": tuple(
            BenchmarkConfig(name=benchmark, imported=True) for benchmark in dict.fromkeys(item[0] for item in results.questions)
        ),
    }
    changes |= {"incomplete": incomplete} if incomplete else {}
    changes |= {"currency": currency} if currency is not None else {}
    try:
        config = SuiteConfig.model_validate(base | changes)
    except ValidationError as error:
        lines = "; ".join(mistakes(error, "suite", SuiteConfig.model_fields))
        raise BenchmarkError(f"The table cannot be a suite: {lines}.") from None
    identities = [{"imported": name, "model": model.name} for model in config.models]
    return Suite(
        config=config,
        models=tuple(
            Model(model_key(identity), model.name, identity, *model.rates)
            for identity, model in zip(identities, config.models, strict=True)
        ),
        questions=tuple(_question(item, text, config) for item, text in results.questions.items()),
        encoder=recorded.encoder if recorded else encoder_identity(config, workspace),
    )


def _question(item: Item, text: QuestionText, config: SuiteConfig) -> Question:
    reference = Reference(() if text.reference is None else (text.reference,))
    benchmark, name = item
    return Question(
        key=question_key(benchmark, VERSION, name, text.question, reference),
        benchmark=benchmark,
        version=VERSION,
        item=name,
        prompt=text.question,
        reference=reference,
        metric=METRIC,
        split=text.split or split_of(text.question, config.splits),
    )


def check_currency(results: Results, rates: Rates) -> None:
    """Check that what is to be a currency prices something: tokens that all cost 1 are no money.

    Raises:
        SuiteError: The results have tokens, and no model has a rate.
    """
    if _priced_by_tokens(results) and all(rates[model] == UNPRICED for model in results.models):
        raise SuiteError(
            "--currency says what costs and rates are in, and this table gives tokens without any rate. Add the prices of a "
            f"single prompt token and completion token: --rate '{results.models[0]}=IN,OUT'"
        )


def prices(results: Results, ours: Results, recorded: Suite | None, rates: Rates, source: str) -> Rates:
    """Return the prices of every model: the given rates, else those that the suite has.

    Without any rate, all tokens of all models cost 1. A model whose responses have costs needs no rate.

    Args:
        results: The results of the suite, those of the table included.
        ours: The results that the suite had before.
        recorded: The recorded suite, if there is one.
        rates: Prices by model, as the user gives them.
        source: Name of the table, for messages.

    Raises:
        BenchmarkError: A model with tokens has no rate, or a rate is for a model without tokens.
    """
    by_tokens, had_tokens = _priced_by_tokens(results), _priced_by_tokens(ours)
    for model in rates:
        if model not in results.models:
            raise BenchmarkError(f"There is no model {model!r} to price; {did_you_mean(model, results.models)}.")
        if model not in by_tokens:
            raise BenchmarkError(
                f"--rate {model} prices tokens, and {source} gives the costs of that model. Leave out the rate, or drop the "
                "column cost."
            )
    known = {model.name: (model.rate_in, model.rate_out) for model in recorded.models} if recorded else {}
    is_unpriced = not rates and by_tokens == set(results.models) and all(known[name] == UNPRICED for name in had_tokens)
    if is_unpriced and had_tokens.issuperset(known):
        return dict.fromkeys(results.models, UNPRICED)
    if all(known[name] == UNPRICED for name in had_tokens):  # the suite had no rates, and would mix them with 1 per token
        had_tokens = set()
    priced = {name: rates.get(name, known.get(name, (0.0, 0.0))) for name in results.models}
    if lacking := sorted(by_tokens - had_tokens - set(rates)):
        options = " ".join(f"--rate '{name}=IN,OUT'" for name in lacking)
        raise BenchmarkError(
            f"{source} gives tokens, and {', '.join(lacking)} has no price, though other models have one. Add the prices of a "
            f"prompt token and of a completion token: {options}"
        )
    return priced


def _priced_by_tokens(results: Results) -> set[str]:
    return {row.path[-1] for row in results.cells.values() if row.cost is None}


def cells(suite: Suite) -> Iterator[Cell]:
    """Yield the cells that complete results of a suite have."""
    paths = [tuple(model.name for model in path) for path in suite.paths()[1:]]
    for question in suite.questions:
        for sample in range(suite.config.samples):
            for path in paths:
                yield question.benchmark, question.item, sample, path


def observed_texts(suite: Suite, results: Results) -> list[str]:
    """Return the distinct texts that decision nodes of a suite observe: questions, and responses before the last hop."""
    texts = dict.fromkeys(question.prompt for question in suite.questions)
    rows = (row for row in results.cells.values() if row.response is not None and len(row.path) < suite.horizon)
    return list(texts | dict.fromkeys(row.response for row in rows if row.response is not None))


def tree_batches(
    suite: Suite, results: Results, written: Collection[Cell], recorded: Collection[UUID], source: str
) -> Iterator[Batch]:
    """Yield the rows of all trees, complete trees together.

    Args:
        suite: The suite.
        results: Its results.
        written: Cells that the cache has, if it has their question too; their rows are left out.
        recorded: Keys of the questions that the cache has.
        source: Name of the table, for the errors of missing cells.
    """
    paths = [(tuple(model.name for model in path), path) for path in suite.paths()[1:]]
    batch = Batch()
    for question, sample, root in suite.trees():
        nodes: dict[tuple[str, ...], UUID] = {(): root}
        is_recorded = question.key in recorded
        for names, path in paths:
            parent, model = nodes[names[:-1]], path[-1]
            node = nodes[names] = child_key(parent, model.key)
            cell = (question.benchmark, question.item, sample, names)
            if is_recorded and cell in written:
                continue
            generation = _generation_row(question, sample, names, model, results.cells.get(cell), source)
            batch.generations.append(generation)
            batch.nodes.append(
                {
                    "node": node,
                    "root": root,
                    "question": question.key,
                    "parent": parent,
                    "path": [node_model.key for node_model in path],
                    "depth": len(path),
                    "generation": generation["generation"],
                    "dropped_responses": 0,
                }
            )
            if generation["text"] is not None:
                value = results.cells[cell].score
                batch.scores.append(
                    {"question": question.key, "text": generation["text"], "metric": METRIC, "value": value, "detail": "{}"}
                )
        if len(batch.nodes) >= COMMIT_ROWS:
            yield _with_distinct_scores(batch)
            batch = Batch()
    yield _with_distinct_scores(batch)


def _generation_row(
    question: Question, sample: int, path: tuple[str, ...], model: Model, result: ResultRow | None, source: str
) -> Row:
    """Return the row of a generation; without a result, it is a failure that no run retries."""
    prompt = canonical_json([question.benchmark, question.item, question.prompt, path[:-1]])
    generation = generation_key(model.key, prompt, sample)
    row: dict[str, Any] = {
        "generation": generation,
        "model": model.key,
        "prompt": prompt,
        "sample": sample,
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
