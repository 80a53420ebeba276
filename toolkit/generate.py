"""The generation stage: what is pending goes through an engine, is scored, and is committed a batch at a time.

Breadth-first by hop, one model resident at a time. Batches are cut from the whole hop in a fixed order, whatever is done
already, so that a resumed run forms the same batches as an undisturbed one. Knows no DuckDB and no particular engine.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

import numpy as np
import numpy.typing as npt

from toolkit.config import EngineConfig, ModelConfig
from toolkit.engines import BatchTooLargeError, Completion, Engine, Prompt, open_engine
from toolkit.keys import canonical_json, text_key
from toolkit.metrics import METRICS
from toolkit.prompts import Turn, fit, messages
from toolkit.store import Batch, Cache, Parent, Row, now
from toolkit.suite import Model, Question, Suite, child_key, generation_key, metric_of

logger = logging.getLogger("toolkit")

OpenEngine = Callable[[EngineConfig, ModelConfig, Path, Path], Engine]
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


class Watcher(Protocol):
    """Who is told how far the work is, and asked whether to go on."""

    def stage(self, title: str) -> None:
        """A new stage begins."""
        ...

    def advance(self, nodes: int) -> None:
        """So many more nodes are committed."""
        ...

    def stopped(self) -> bool:
        """Whether to stop after the batch in flight."""
        ...


class Silent:
    """Watches nothing and never stops."""

    def stage(self, title: str) -> None:
        """Say nothing."""

    def advance(self, nodes: int) -> None:
        """Count nothing."""

    def stopped(self) -> bool:
        """Go on."""
        return False


@dataclass
class Report:
    """What one run of the generation stage did."""

    generated: int = 0
    shared: int = 0
    failed: int = 0
    seconds: float = 0.0
    stopped: bool = False


class Job(NamedTuple):
    """One generation that a hop needs, and the nodes that share it."""

    key: UUID
    prompt: Prompt
    sample: int
    dropped_answers: int
    fits: bool
    parents: list[Parent]


@dataclass
class _Budget:
    """Tokens of a batch; halves whenever a batch does not fit into memory, and stays there."""

    tokens: int


@dataclass
class _Stage:
    suite: Suite
    cache: Cache
    watcher: Watcher
    retry: bool
    questions: Mapping[UUID, Question]
    budget: _Budget
    report: Report = field(default_factory=Report)


def generate(
    suite: Suite,
    cache: Cache,
    base: Path,
    store: Path,
    *,
    watcher: Watcher | None = None,
    retry: bool = False,
    engine: OpenEngine = open_engine,
    encode: Encode | None = None,
) -> Report:
    """Bring a cache to where it holds every node, score and embedding of a suite.

    Args:
        suite: The suite; it is recorded as the current one of its name.
        cache: The cache, created if it is not there.
        base: Folder that relative paths of the suite start from.
        store: Folder for fetched weights.
        watcher: Who is told of the progress and may stop the run after a batch.
        retry: Whether generations that failed for good are tried again.
        engine: Opens an engine for a model.
        encode: Embeds texts; by default the suite's encoder, loaded when there is something to embed.

    Raises:
        ToolkitError: Weights cannot be had, or the cache cannot be written. What was committed stays.
    """
    started = time.monotonic()
    cache.create()
    cache.record(suite)
    stage = _Stage(
        suite,
        cache,
        watcher or Silent(),
        retry,
        {question.key: question for question in suite.questions},
        _Budget(suite.config.engine.batch_tokens),
    )
    for depth in range(1, suite.horizon + 1):
        parents = cache.parents(suite, depth - 1)
        for model, config in zip(suite.models, suite.config.models, strict=True):
            _hop(stage, depth, model, config, parents, partial(engine, suite.config.engine, config, base, store))
            if stage.watcher.stopped():
                break
        if stage.watcher.stopped():
            break
        if depth == 1:
            cache.set_cost_unit(suite.key)
    if not stage.watcher.stopped():
        score_missing(suite, cache)
        _embed(stage, encode or _SuiteEncoder(suite, base, store))
    stage.report.stopped = stage.watcher.stopped()
    stage.report.seconds = time.monotonic() - started
    return stage.report


def _hop(
    stage: _Stage, depth: int, model: Model, config: ModelConfig, parents: Sequence[Parent], engine: Callable[[], Engine]
) -> None:
    children = [child_key(parent.node, model.key) for parent in parents]
    done = stage.cache.nodes_done(children, stage.retry)
    if len(done) == len(children):
        return
    stage.watcher.stage(f"hop {depth} of {stage.suite.horizon}, {model.name}")
    with closing(engine()) as resident:
        jobs = _jobs(stage.suite, model, config, parents, resident)
        for batch in _batches(jobs, config.max_tokens, stage.budget):
            if stage.watcher.stopped():
                return
            pending = [_without(job, model, done) for job in batch]
            if any(job.parents for job in pending):
                _run_batch(stage, model, config, depth, [job for job in pending if job.parents], resident)


def _without(job: Job, model: Model, done: set[UUID]) -> Job:
    """Leave out the nodes of a job that are done."""
    return job._replace(parents=[parent for parent in job.parents if child_key(parent.node, model.key) not in done])


def _jobs(suite: Suite, model: Model, config: ModelConfig, parents: Sequence[Parent], engine: Engine) -> list[Job]:
    """Render every context of a hop, equal prompts once, longest first."""
    prompts = {question.key: question.prompt for question in suite.questions}
    few_shot = [Turn(example.user, example.assistant) for example in config.few_shot]
    protocol, drop = suite.config.prompts.protocol, suite.config.prompts.overlength == "drop_oldest"
    jobs: dict[UUID, Job] = {}
    for parent in parents:

        def render(answers: Sequence[str], question: str = prompts[parent.question]) -> str:
            return engine.render(messages(protocol, config.system_prompt, few_shot, question, answers))

        fitted = fit(render, engine.count, parent.answers, engine.context_length - config.max_tokens, drop)
        sample = parent.sample if config.temperature > 0 else 0
        key = generation_key(model.key, fitted.text, sample)
        if key not in jobs:
            prompt = Prompt(fitted.text, fitted.tokens, key.int % 2**63)
            jobs[key] = Job(key, prompt, sample, fitted.dropped_answers, fitted.fits, [])
        jobs[key].parents.append(parent)
    return sorted(jobs.values(), key=lambda job: (-job.prompt.tokens, job.prompt.text, job.sample))


def _batches(jobs: Sequence[Job], max_tokens: int, budget: _Budget) -> Iterator[list[Job]]:
    """Cut jobs, longest first, into batches of at most the budget's tokens, padding and answers included."""
    start = 0
    while start < len(jobs):
        rows = max(1, budget.tokens // (jobs[start].prompt.tokens + max_tokens))
        yield list(jobs[start : start + rows])
        start += rows


def _run_batch(stage: _Stage, model: Model, config: ModelConfig, depth: int, jobs: Sequence[Job], engine: Engine) -> None:
    """Generate what nobody has generated since, and commit the batch."""
    responses: dict[UUID, str] = stage.cache.generations_done([job.key for job in jobs])
    missing = [job for job in jobs if job.key not in responses]
    started = time.monotonic()
    answered = dict(zip((j.key for j in missing), _complete(missing, engine, stage.budget, config.max_tokens), strict=True))
    seconds = (time.monotonic() - started) / max(1, len(missing))
    batch = Batch()
    for job in missing:
        outcome = answered[job.key]
        batch.generations.append(_generation_row(model, job, outcome, seconds, engine.label))
        if isinstance(outcome, Completion):
            responses[job.key] = outcome.response
    for job in jobs:
        for parent in job.parents:
            batch.nodes.append(
                {
                    "node": child_key(parent.node, model.key),
                    "root": parent.root,
                    "question": parent.question,
                    "parent": parent.node,
                    "path": [*parent.path, model.key],
                    "depth": depth,
                    "generation": job.key,
                    "dropped_answers": job.dropped_answers,
                }
            )
    answers = {(p.question, responses[job.key]) for job in jobs if job.key in responses for p in job.parents}
    batch.scores = [row for question, response in sorted(answers) for row in _scores(stage.questions[question], response)]
    stage.cache.commit(batch)
    stage.report.generated += len(missing)
    stage.report.failed += sum(isinstance(outcome, str) for outcome in answered.values())
    stage.report.shared += len(batch.nodes) - len(missing)
    stage.watcher.advance(len(batch.nodes))


def _complete(jobs: Sequence[Job], engine: Engine, budget: _Budget, max_tokens: int) -> list[Completion | str]:
    """Answer jobs, in smaller parts where memory does not suffice; a reason instead of an answer where that is impossible."""
    reason = f"overlength: the prompt and {max_tokens} answer tokens do not fit into {engine.context_length} tokens"
    outcomes: dict[UUID, Completion | str] = {job.key: reason for job in jobs if not job.fits}
    runnable = [job for job in jobs if job.fits]
    while runnable:
        part = next(_batches(runnable, max_tokens, budget))
        try:
            outcomes |= zip((job.key for job in part), engine.generate([job.prompt for job in part]), strict=True)
        except BatchTooLargeError as error:
            if len(part) > 1:
                budget.tokens = (part[0].prompt.tokens + max_tokens) * (len(part) // 2)
                logger.warning("out of memory with %d prompts; going on with batches of %d tokens", len(part), budget.tokens)
                continue
            outcomes[part[0].key] = f"out of memory: a prompt of {part[0].prompt.tokens} tokens does not fit, alone ({error})"
        runnable = runnable[len(part) :]
    return [outcomes[job.key] for job in jobs]


def _generation_row(model: Model, job: Job, outcome: Completion | str, seconds: float, label: str) -> Row:
    row = {
        "generation": job.key,
        "model": model.key,
        "prompt": job.prompt.text,
        "sample": job.sample,
        "response": None,
        "text": None,
        "prompt_tokens": job.prompt.tokens,
        "completion_tokens": None,
        "finish_reason": None,
        "status": "error",
        "error": outcome,
        "transient": False,
        "seconds": seconds,
        "engine": label,
        "created": now(),
    }
    if isinstance(outcome, Completion):
        row |= {
            "response": outcome.response,
            "text": text_key(outcome.response),
            "completion_tokens": outcome.completion_tokens,
            "finish_reason": outcome.finish_reason,
            "status": "ok",
            "error": None,
            "transient": None,
        }
    return row


def _scores(question: Question, response: str) -> Iterable[Row]:
    """Score a response by the question's metric, and by token F1, which every benchmark has."""
    for metric in {metric_of(question).name, "token_f1"}:
        score = METRICS[metric].score(response, question.reference)
        yield {
            "question": question.key,
            "text": text_key(response),
            "metric": METRICS[metric].label,
            "value": score.value,
            "detail": canonical_json({"extracted": score.extracted}),
        }


def score_missing(suite: Suite, cache: Cache) -> int:
    """Score the suite's cached responses that its metrics have not scored yet; returns how many there were."""
    questions = {question.key: question for question in suite.questions}
    rows = [row for question, response in cache.unscored(suite.key) for row in _scores(questions[question], response)]
    if rows:
        cache.commit(Batch(scores=rows))
    return len(rows)


class _SuiteEncoder:
    """The suite's encoder, loaded when there is something to embed."""

    def __init__(self, suite: Suite, base: Path, store: Path) -> None:
        self.suite, self.base, self.store = suite, base, store
        self.loaded: Encode | None = None

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if self.loaded is None:
            from toolkit.encoder import load_encoder

            self.loaded = load_encoder(
                self.suite.config.features.encoder, self.base, self.store, self.suite.config.engine.device
            )
        return self.loaded(texts)


def _embed(stage: _Stage, encode: Encode, rows: int = 256) -> None:
    texts = stage.cache.texts_to_embed(stage.suite)
    if texts:
        stage.watcher.stage(f"embedding {len(texts)} texts")
    for start in range(0, len(texts), rows):
        if stage.watcher.stopped():
            return
        part = texts[start : start + rows]
        stage.cache.commit(
            Batch(
                embeddings=[
                    {"text": text_key(text), "encoder": stage.suite.encoder, "vector": vector.tolist()}
                    for text, vector in zip(part, encode(part), strict=True)
                ]
            )
        )
