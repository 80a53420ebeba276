"""Builds the suite of results: its settings, prices, models and questions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import ValidationError

from toolkit.core.errors import BenchmarkError, SuiteError, did_you_mean
from toolkit.core.workspace import Workspace
from toolkit.outcomes.converting import SCORE_PREFIX
from toolkit.outcomes.results import CELL_TYPES, QUESTION_TYPES, Results
from toolkit.outcomes.values import HOP
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.suites.config import SuiteConfig
from toolkit.suites.fields import NAME
from toolkit.suites.keys import encoder_identity, model_key, question_key
from toolkit.suites.loading import shipped_suites
from toolkit.suites.models import Encoder, ModelConfig
from toolkit.suites.resolving import split_of
from toolkit.suites.section import mistakes
from toolkit.suites.suite import Model, Question, Suite
from toolkit.tasks.metrics import Reference

if TYPE_CHECKING:
    import pyarrow as pa

Incomplete = Literal["refuse", "exclude question", "mask"]
Rates = Mapping[str, tuple[float, float]]
"""Prices of a prompt token and of a completion token by model."""

METRIC = "given@1"
"""Label of the scores, which come with the results."""
VERSION = "imported"
"""Version of the benchmarks of imported questions."""
UNPRICED = (1.0, 1.0)
"""Prices of all models if none has a rate: every token costs the same."""
GIVEN = "@given"
"""What follows the name of a further score in the label of its metric."""


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


def recorded_results(suite: Suite, results: "pa.Table", scores: "pa.Table") -> Results:
    """Return the results of a recorded suite.

    Args:
        suite: The suite.
        results: The rows of the query `imported_results`.
        scores: The rows of the query `further_scores`.

    Raises:
        SuiteError: The suite was generated, so that results of others cannot be added.
    """
    if not suite.config.models[0].is_imported:
        raise SuiteError(
            f"The suite {suite.name} was generated, so results from elsewhere cannot be added to it. Import the table as "
            f"another suite, with another --suite NAME."
        )
    texts = [
        (question.benchmark, question.item, question.prompt, next(iter(question.reference.answers), None), question.split)
        for question in suite.questions
    ]
    cells = pl.DataFrame(results).with_columns(
        number=pl.col("position").cast(pl.UInt32) // suite.config.samples,
        path=pl.col("path").list.join(HOP),
        file=pl.lit("the cache").cast(pl.Categorical),
        place=pl.lit("the cache"),
    )
    if scores.num_rows:
        labels = pl.col("metric").str.strip_suffix(GIVEN)
        further = pl.DataFrame(scores).with_columns(metric=SCORE_PREFIX + labels)
        cells = cells.join(further.pivot("metric", index="node", values="value"), on="node", how="left")
    metrics = [name for name in cells.columns if name.startswith(SCORE_PREFIX)]
    types = {name: pl.col(name).cast(dtype) for name, dtype in CELL_TYPES.items()}
    return Results(
        questions=pl.DataFrame(texts, schema=QUESTION_TYPES, orient="row"),
        cells=cells.select(*types.values(), *metrics),
        models=[model.name for model in suite.models],
        horizon=suite.horizon,
        samples=suite.config.samples,
    )


@dataclass(frozen=True)
class SuiteSettings:
    """Settings of a suite that the user chooses; None for what the recorded suite has, else for what every suite has.

    Attributes:
        incomplete: What becomes of missing responses; at first they are masked.
        currency: Currency of the costs and rates.
        encoder: What embeds the texts.
    """

    incomplete: Incomplete | None = None
    currency: str | None = None
    encoder: Encoder | None = None


def build_suite(
    results: Results,
    name: str,
    recorded: Suite | None,
    rates: Rates,
    settings: SuiteSettings,
    description: str,
    workspace: Workspace,
) -> Suite:
    """Build the suite of results; models, benchmarks and questions have the order of the results.

    Args:
        results: The results.
        name: Name of the suite.
        recorded: The recorded suite of that name, whose other settings stay.
        rates: Prices of every model.
        settings: What the user chooses.
        description: What the results are.
        workspace: The folder of downloads.

    Raises:
        BenchmarkError: A suite cannot have such results.
    """
    config = _config(results, name, recorded, rates, settings, description)
    identities = [{"imported": name, "model": model.name} for model in config.models]
    return Suite(
        config=config,
        models=tuple(
            Model(model_key(identity), model.name, identity, *model.rates)
            for identity, model in zip(identities, config.models, strict=True)
        ),
        questions=tuple(_questions(results, config, recorded)),
        encoder=recorded.encoder if recorded and not settings.encoder else encoder_identity(config, workspace),
    )


def _config(
    results: Results, name: str, recorded: Suite | None, rates: Rates, settings: SuiteSettings, description: str
) -> SuiteConfig:
    base = recorded.config.model_dump() if recorded else {"name": name, "incomplete": "mask"}
    changes: dict[str, Any] = {
        "description": description,
        "horizon": results.horizon,
        "samples": results.samples,
        "models": tuple(
            ModelConfig(name=model, checkpoint="imported", dtype="float32", rate_in=rates[model][0], rate_out=rates[model][1])
            for model in results.models
        ),
        "benchmarks": tuple(
            BenchmarkConfig(name=benchmark, imported=True)
            for benchmark in results.questions["benchmark"].unique(maintain_order=True)
        ),
    }
    changes |= {"incomplete": settings.incomplete} if settings.incomplete else {}
    changes |= {"currency": settings.currency} if settings.currency is not None else {}
    if settings.encoder:
        features = recorded.config.features.model_dump() if recorded else {}
        changes["features"] = features | {"encoder": settings.encoder.model_dump()}
    try:
        return SuiteConfig.model_validate(base | changes)
    except ValidationError as error:
        lines = "; ".join(mistakes(error, "suite", SuiteConfig.model_fields))
        raise BenchmarkError(f"The results cannot be a suite: {lines}.") from None


def _questions(results: Results, config: SuiteConfig, recorded: Suite | None) -> Iterator[Question]:
    """Yield the questions of results; those that the recorded suite has, which come first, are not hashed again."""
    known = recorded.questions if recorded else ()
    for row, question in zip_longest(results.questions.iter_rows(named=True), known):
        content = (row["question"], row["reference"], row["split"])
        if question and content == (question.prompt, next(iter(question.reference.answers), None), question.split):
            yield question
        else:
            yield _question(row, config)


def _question(row: Mapping[str, Any], config: SuiteConfig) -> Question:
    reference = Reference(() if row["reference"] is None else (row["reference"],))
    benchmark, item, prompt = row["benchmark"], row["item"], row["question"]
    return Question(
        key=question_key(benchmark, VERSION, item, prompt, reference),
        benchmark=benchmark,
        version=VERSION,
        item=item,
        prompt=prompt,
        reference=reference,
        metric=METRIC,
        split=row["split"] or split_of(prompt, config.splits),
    )


def check_currency(results: Results, rates: Rates) -> None:
    """Check that what is to be a currency prices something: tokens that all cost 1 are no money.

    Raises:
        SuiteError: The results have tokens, and no model has a rate.
    """
    if results.priced_by_tokens and all(rates[model] == UNPRICED for model in results.models):
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
    by_tokens, had_tokens = results.priced_by_tokens, ours.priced_by_tokens
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
