"""A suite as resolved: every model and every question with its key.

A suite is resolved from its file and the benchmarks' data once, recorded in the cache, and from then on read back from
there: replay needs neither checkpoints nor data sets.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal
from uuid import UUID

from toolkit.core import tree
from toolkit.core.errors import SuiteError
from toolkit.core.hashing import canonical_json, key
from toolkit.core.workspace import Workspace
from toolkit.suites.benchmarks import find_benchmark
from toolkit.suites.config import BenchmarkConfig, ModelConfig, SplitConfig, SuiteConfig
from toolkit.suites.weights import hash_weights, identify, local_path
from toolkit.tasks.metrics import METRICS, Metric, Reference, normalise

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Model:
    """A pool entry: its key is a hash of `identity`, which holds all that changes its answers."""

    key: UUID
    name: str
    identity: dict[str, Any]
    rate_in: float
    rate_out: float


@dataclass(frozen=True)
class Question:
    """One question of a suite."""

    key: UUID
    benchmark: str
    version: str
    item: str
    prompt: str
    reference: Reference
    metric: str
    split: Split


@dataclass(frozen=True)
class Suite:
    """A suite as resolved and as recorded in a cache."""

    config: SuiteConfig
    models: tuple[Model, ...]
    questions: tuple[Question, ...]
    encoder: str

    @property
    def name(self) -> str:
        """The suite's name; several recorded suites may share one, of which the newest is current."""
        return self.config.name

    @property
    def horizon(self) -> int:
        """Number of hops L."""
        return self.config.horizon

    @cached_property
    def key(self) -> UUID:
        """Hash of everything that the recorded rows depend on."""
        return key(
            "suite",
            self.name,
            self.horizon,
            self.config.samples,
            self.config.prompts.model_dump(),
            self.config.features.text,
            self.encoder,
            [[str(model.key), model.name, model.rate_in, model.rate_out] for model in self.models],
            [[str(question.key), question.metric, question.split] for question in self.questions],
        )

    def paths(self) -> list[tuple[Model, ...]]:
        """Return the models along the path to every node, in the order of the nodes' numbers."""
        return [tuple(self.models[a] for a in path) for path in tree.paths(len(self.models), self.horizon)]

    def trees(self) -> Iterator[tuple[Question, int, UUID]]:
        """Yield question, sample and root key of every tree of the suite."""
        for question in self.questions:
            for sample in range(self.config.samples):
                yield question, sample, root_key(question.key, self.config, sample)


def root_key(question: UUID, config: SuiteConfig, sample: int) -> UUID:
    """Return the key of the root of a question's tree."""
    return key("root", question, config.prompts.protocol, config.prompts.overlength, sample)


def child_key(parent: UUID, model: UUID) -> UUID:
    """Return the key of the node that `model` leads to from `parent`."""
    return key("node", parent, model)


def generation_key(model: UUID, prompt: str, sample: int) -> UUID:
    """Return the key of a generation; greedy models answer alike in every sample, so pass 0 for them."""
    return key("generation", model, prompt, sample)


def question_key(benchmark: str, version: str, item: str, prompt: str, reference: Reference) -> UUID:
    """Return the key of a question."""
    tests = [list(reference.tests)] if reference.tests else []
    return key("question", benchmark, version, item, prompt, reference.answers, reference.choices, *tests)


def model_identity(config: ModelConfig, workspace: Workspace) -> dict[str, Any]:
    """Collect all that changes what a model answers, and nothing else."""
    identity: dict[str, Any] = {
        "checkpoint": identify(config, workspace),
        "adapter": hash_weights(local_path(config.adapter, workspace), workspace.downloads) if config.adapter else None,
        "dtype": config.dtype,
        "chat_template": config.chat_template,
        "chat_template_args": config.chat_template_args,
        "system_prompt": config.system_prompt,
        "few_shot": [turn.model_dump() for turn in config.few_shot],
        "max_tokens": config.max_tokens,
        "context_length": config.context_length,
        "temperature": config.temperature,
        "stop": list(config.stop),
    }
    if config.temperature > 0:
        identity |= {"top_p": config.top_p, "seed": config.seed}
    if config.fingerprint:
        identity["fingerprint"] = config.fingerprint
    return identity


def encoder_identity(config: SuiteConfig, workspace: Workspace) -> str:
    """Name an encoder so that equal weights have equal names."""
    identity = identify(config.features.encoder, workspace)
    stem = config.features.encoder.checkpoint.split("==")[0].removeprefix("package:").rsplit("/", 1)[-1]
    return f"{stem}@{hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]}"


def split_of(prompt: str, splits: SplitConfig) -> Split:
    """Draw the split of a question by a hash of its normalised text, so that equal questions stay together."""
    digest = hashlib.sha256(f"{splits.seed}\n{normalise(prompt)}".encode()).digest()
    point = int.from_bytes(digest[:8]) / 2**64
    if point < splits.train:
        return "train"
    return "validation" if point < splits.train + splits.validation else "test"


def resolve_models(config: SuiteConfig, workspace: Workspace) -> tuple[Model, ...]:
    """Resolve the pool; see `toolkit.suites.weights.identify` for what it needs of this machine.

    Raises:
        SuiteError: Two models differ in nothing but their names and prices.
    """
    pool: dict[UUID, Model] = {}
    for wanted in config.models:
        identity = model_identity(wanted, workspace)
        model = Model(key("model", identity), wanted.name, identity, *wanted.rates)
        if model.key in pool:
            raise SuiteError(
                f"Models {pool[model.key].name!r} and {model.name!r} of suite {config.name} "
                "are one and the same. Leave one out."
            )
        pool[model.key] = model
    return tuple(pool.values())


def load_questions(config: SuiteConfig, workspace: Workspace) -> tuple[Question, ...]:
    """Load the questions of all benchmarks, in the suite's order."""
    questions = []
    for wanted in config.benchmarks:
        benchmark = find_benchmark(wanted, workspace)
        data = workspace.path(wanted.data) if wanted.data else None
        for item in benchmark.items(
            wanted.limit, data=data, downloads=workspace.downloads, seed=wanted.seed, shots=wanted.shots
        ):
            reference = Reference(item.answers, item.choices, item.tests)
            question = question_key(benchmark.name, benchmark.version, item.id, item.prompt, reference)
            label = METRICS[benchmark.metric].label
            loaded = Question(question, benchmark.name, benchmark.version, item.id, item.prompt, reference, label, "train")
            questions.append(with_reading(loaded, config))
    return tuple(questions)


def with_reading(question: Question, config: SuiteConfig) -> Question:
    """Apply what a suite says about reading a question: its split and the metric that is its quality."""
    from benchmarks import BENCHMARKS, load_benchmark

    wanted = _wanted(question, config)
    if wanted.imported:
        return replace(question, split=split_of(question.prompt, config.splits))
    name = wanted.quality or wanted.metric or (load_benchmark(wanted.name).metric if wanted.name in BENCHMARKS else None)
    label = METRICS[name].label if name else metric_of(question).label
    return replace(question, metric=label, split=split_of(question.prompt, config.splits))


def metrics_of(question: Question, config: SuiteConfig) -> list[str]:
    """Return the names of the metrics that a question's answers are scored by: its quality, token F1, and what was added.

    None where the scores were imported with the answers.
    """
    from benchmarks import BENCHMARKS, load_benchmark

    wanted = _wanted(question, config)
    if wanted.imported:
        return []
    own = load_benchmark(wanted.name) if wanted.name in BENCHMARKS else None
    return list(dict.fromkeys([metric_of(question).name, "token_f1", *(own.metrics if own else ()), *wanted.metrics]))


def _wanted(question: Question, config: SuiteConfig) -> BenchmarkConfig:
    return next(wanted for wanted in config.benchmarks if wanted.name == question.benchmark)


def resolve(config: SuiteConfig, workspace: Workspace, known: Suite | None = None) -> Suite:
    """Resolve a suite file into keys.

    Args:
        config: The suite as written.
        workspace: The suite file's folder, and the folder of downloads.
        known: A recorded suite; where it asks the same questions, the benchmarks' data is not loaded again.
    """
    if known and _same_questions(config, known):
        questions = tuple(with_reading(question, config) for question in known.questions)
    else:
        questions = load_questions(config, workspace)
    return Suite(config, resolve_models(config, workspace), questions, encoder_identity(config, workspace))


def _same_questions(config: SuiteConfig, known: Suite) -> bool:
    from benchmarks import BENCHMARKS, load_benchmark

    return _asked(config) == _asked(known.config) and all(
        question.benchmark in BENCHMARKS and load_benchmark(question.benchmark).version == question.version
        for question in known.questions
    )


def _asked(config: SuiteConfig) -> list[dict[str, Any]]:
    """Return what decides which questions are asked."""
    return [benchmark.model_dump(exclude={"quality", "metrics", "metric", "licence"}) for benchmark in config.benchmarks]


def reread(known: Suite, config: SuiteConfig) -> Suite:
    """Apply a suite file's rates, metrics, splits and training settings to what is recorded; nothing is loaded.

    Raises:
        SuiteError: The file also changes what is generated, which only `toolkit generate` can follow.
    """
    changed = [name for name, value in _content(config).items() if value != _content(known.config)[name]]
    if changed:
        raise SuiteError(
            f"The suite file of {config.name} has changed since it was generated ({', '.join(changed)}). "
            f"Generate what is new first: toolkit generate with this file"
        )
    models = tuple(
        replace(model, rate_in=rates[0], rate_out=rates[1])
        for model, rates in zip(known.models, (wanted.rates for wanted in config.models), strict=True)
    )
    return Suite(config, models, tuple(with_reading(question, config) for question in known.questions), known.encoder)


def _content(config: SuiteConfig) -> dict[str, Any]:
    """Return what decides which texts are generated and embedded."""
    dump = config.model_dump(include={"horizon", "samples", "prompts", "features"})
    dump["models"] = [model.model_dump(exclude={"base_rate", "rate_in", "rate_out"}) for model in config.models]
    dump["benchmarks"] = _asked(config)
    return dump


def metric_of(question: Question) -> Metric:
    """Return the metric that is a question's quality."""
    return METRICS[question.metric.partition("@")[0]]
