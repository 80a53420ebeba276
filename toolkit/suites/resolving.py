"""From a suite file to keys: which models and questions a suite has, and how its questions are scored and split."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from toolkit.core.errors import BenchmarkError, SuiteChangedError, SuiteError
from toolkit.core.workspace import Workspace
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.suites.benchmarks import Trust, find_benchmark
from toolkit.suites.config import SplitConfig, SuiteConfig
from toolkit.suites.keys import encoder_identity, model_identity, model_key, question_key
from toolkit.suites.suite import Model, Question, Split, Suite
from toolkit.tasks import BENCHMARKS, METRICS, Metric, Reference
from toolkit.tasks.metrics import normalise


def resolve(
    config: SuiteConfig,
    workspace: Workspace,
    recorded: Suite | None = None,
    *,
    trust: Trust = False,
    is_recorded: bool = False,
) -> Suite:
    """Resolve a suite file into keys.

    Args:
        config: The suite as written.
        workspace: The suite file's folder, and the folder of downloads.
        recorded: A recorded suite; if it asks the same questions, the benchmarks' data are not loaded again.
        trust: Whether Python files of benchmarks may be executed, or a function that decides it.
        is_recorded: Whether `config` comes from the cache rather than from a file of the user's: no file that only the cache
            names is then read or executed, and a benchmark of the user's own has the recorded questions.

    Raises:
        BenchmarkError: The data of a benchmark cannot be read, or its Python file may not be executed.
        CheckpointError: Weights that the suite names are not available on this machine.
        SuiteError: Two models are the same, or the metric that is the quality does not apply to a question.
    """
    if recorded and _has_same_questions(config, recorded):
        questions = tuple(with_metric_and_split(question, config) for question in recorded.questions)
    elif recorded and is_recorded:
        questions = _recorded_questions(config, workspace, recorded)
    else:
        questions = load_questions(config, workspace, trust)
    return Suite(
        config=config,
        models=resolve_models(config, workspace),
        questions=questions,
        encoder=encoder_identity(config, workspace),
    )


def resolve_models(config: SuiteConfig, workspace: Workspace) -> tuple[Model, ...]:
    """Resolve the pool; see `toolkit.suites.weights.identify` for what it needs on this machine.

    Raises:
        SuiteError: Two models differ in nothing but their names and prices.
    """
    pool: dict[UUID, Model] = {}
    for model_config in config.models:
        identity = model_identity(model_config, workspace)
        rate_in, rate_out = model_config.rates
        model = Model(key=model_key(identity), name=model_config.name, identity=identity, rate_in=rate_in, rate_out=rate_out)
        if model.key in pool:
            raise SuiteError(
                f"Models {pool[model.key].name!r} and {model.name!r} of suite {config.name} are the same model: "
                "they differ at most in name and prices. Remove one."
            )
        pool[model.key] = model
    return tuple(pool.values())


def load_questions(config: SuiteConfig, workspace: Workspace, trust: Trust = False) -> tuple[Question, ...]:
    """Load the questions of all benchmarks, in the suite's order.

    Raises:
        BenchmarkError: The data of a benchmark cannot be read, or its Python file may not be executed.
        SuiteError: The metric that is the quality does not apply to a question.
    """
    return tuple(question for entry in config.benchmarks for question in _load_benchmark(entry, config, workspace, trust))


def _load_benchmark(entry: BenchmarkConfig, config: SuiteConfig, workspace: Workspace, trust: Trust) -> Iterator[Question]:
    benchmark = find_benchmark(entry, workspace, trust)
    data = workspace.path(entry.data) if entry.data else None
    items = benchmark.items(entry.limit, data=data, downloads=workspace.downloads, seed=entry.seed, shots=entry.shots)
    for item in items:
        reference = Reference(item.answers, item.choices, item.tests)
        question = Question(
            key=question_key(benchmark.name, benchmark.version, item.id, item.prompt, reference),
            benchmark=benchmark.name,
            version=benchmark.version,
            item=item.id,
            prompt=item.prompt,
            reference=reference,
            metric=METRICS[benchmark.metric].label,
            split="train",
        )
        question = with_metric_and_split(question, config)
        metric = metric_of(question)
        if not metric.applies(reference):
            raise SuiteError(
                f"The metric {metric.name} of benchmark {entry.name} needs {metric.needs}, which its question {item.id!r} does "
                "not have. Choose another metric for it."
            )
        yield question


def _recorded_questions(config: SuiteConfig, workspace: Workspace, recorded: Suite) -> tuple[Question, ...]:
    """Return the recorded questions, up to each benchmark's limit; only shipped benchmarks of a newer version are loaded.

    Raises:
        BenchmarkError: The cache names files of a benchmark of which it has no questions.
    """
    questions: list[Question] = []
    for entry in config.benchmarks:
        known = [question for question in recorded.questions if question.benchmark == entry.name][: entry.limit]
        is_own = bool(entry.file or entry.data)
        if entry.imported or (not is_own and (not known or BENCHMARKS[entry.name].version != known[0].version)):
            questions += _load_benchmark(entry, config, workspace, False)
        elif not known:
            raise BenchmarkError(
                f"Only the cache of suite {config.name} names the files of benchmark {entry.name}, and a cache's files are not "
                "opened. Name the suite file instead: toolkit generate FILE.toml"
            )
        else:
            questions += [with_metric_and_split(question, config) for question in known]
    return tuple(questions)


def reread(recorded: Suite, config: SuiteConfig) -> Suite:
    """Apply a suite file's prices, metrics, splits and training settings to a recorded suite; nothing is loaded.

    Raises:
        SuiteChangedError: The file also changes what is generated, which only `toolkit generate` can follow.
    """
    changed = [name for name, value in _content(config).items() if value != _content(recorded.config)[name]]
    if changed:
        raise SuiteChangedError(
            f"The suite file of {config.name} has changed since it was generated ({', '.join(changed)}). "
            "Generate what is new first; what is cached already takes no time."
        )
    models = tuple(
        replace(model, rate_in=rates[0], rate_out=rates[1])
        for model, rates in zip(recorded.models, (model_config.rates for model_config in config.models), strict=True)
    )
    return Suite(
        config=config,
        models=models,
        questions=tuple(with_metric_and_split(question, config) for question in recorded.questions),
        encoder=recorded.encoder,
    )


def with_metric_and_split(question: Question, config: SuiteConfig) -> Question:
    """Return a question with the quality metric and the split that a suite gives it; imported ones keep theirs."""
    entry = _entry_of(question, config)
    if entry.imported:  # results may bring splits of their own
        return question
    split = split_of(question.prompt, config.splits)
    own = BENCHMARKS[entry.name].metric if entry.name in BENCHMARKS else question.metric.partition("@")[0]
    name = entry.quality or entry.metric or own
    return replace(question, metric=METRICS[name].label if name in METRICS else question.metric, split=split)


def split_of(prompt: str, splits: SplitConfig) -> Split:
    """Draw the split of a question by a hash of its normalised text, so that equal questions stay together."""
    digest = hashlib.sha256(f"{splits.seed}\n{normalise(prompt)}".encode()).digest()
    point = int.from_bytes(digest[:8]) / 2**64
    if point < splits.train:
        return "train"
    return "validation" if point < splits.train + splits.validation else "test"


def metric_of(question: Question) -> Metric:
    """Return the metric that is a question's quality.

    Raises:
        SuiteError: The metric is not registered.
    """
    return registered_metric(question.metric.partition("@")[0], question)


def registered_metric(name: str, question: Question) -> Metric:
    """Return a metric of a question by its name.

    Raises:
        SuiteError: The metric is not registered.
    """
    if name not in METRICS:
        raise SuiteError(
            f"The metric {name!r} of benchmark {question.benchmark} is not registered. If the benchmark's Python file defines "
            "it, use the suite file, which names that file; if a package does, install it."
        )
    return METRICS[name]


def metrics_of(question: Question, config: SuiteConfig) -> list[str]:
    """Return the names of the metrics that score a question's responses: its quality, token F1, and any further ones.

    The list is empty if the scores were imported with the responses.
    """
    entry = _entry_of(question, config)
    if entry.imported:
        return []
    further = BENCHMARKS[entry.name].metrics if entry.name in BENCHMARKS else ()
    return list(dict.fromkeys([metric_of(question).name, "token_f1", *further, *entry.metrics]))


def _entry_of(question: Question, config: SuiteConfig) -> BenchmarkConfig:
    return next(entry for entry in config.benchmarks if entry.name == question.benchmark)


def _has_same_questions(config: SuiteConfig, recorded: Suite) -> bool:
    return _selection(config) == _selection(recorded.config) and all(
        question.benchmark in BENCHMARKS and BENCHMARKS[question.benchmark].version == question.version
        for question in recorded.questions
    )


def _selection(config: SuiteConfig) -> list[dict[str, Any]]:
    """Return the settings that determine the questions."""
    return [entry.model_dump(exclude={"quality", "metrics", "metric", "licence"}) for entry in config.benchmarks]


def _content(config: SuiteConfig) -> dict[str, Any]:
    """Return the settings that determine the texts to generate and to embed."""
    content = config.model_dump(include={"horizon", "samples", "prompts", "features"})
    content["models"] = [model.model_dump(exclude={"base_rate", "rate_in", "rate_out"}) for model in config.models]
    content["benchmarks"] = _selection(config)
    content["tree"] = config.path_tree().numbers
    return content
