"""The generation stage: what is pending goes through an engine, is scored, and is committed a batch at a time.

Breadth-first by hop, one model resident at a time. Batches are cut from the whole hop in a fixed order, whatever is done
already, so that a resumed run forms the same batches as an undisturbed one. With an allowance, as many questions at a time as
it affords go through all hops, so that what is cached when it is spent can be trained on. The engine works on a batch while the
one before it is scored and committed. Knows no DuckDB and no particular engine.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from toolkit.allowance import Allowance, Spent, dollars
from toolkit.config import ModelConfig
from toolkit.embed import Encode, SuiteEncoder, embed_missing
from toolkit.engines import Completion, Failure, OpenEngine, open_engine
from toolkit.engines.guard import AHEAD, Answered, Answerer, Answering, Budget, Guard
from toolkit.errors import CacheBusyError, EngineError
from toolkit.jobs import Job, cut_batches, render_jobs
from toolkit.keys import text_key
from toolkit.rescore import rescore, wanted
from toolkit.scoring import check, score, scorings
from toolkit.store import Batch, Cache, Parent, Row, now
from toolkit.suite import Model, Question, Suite, child_key
from toolkit.watch import Silent, Watcher

logger = logging.getLogger("toolkit")

SPARED = 0.9
"""Share of what is left of an allowance that a group of questions is to take, by the rate of the group before."""
PATIENCE = 5.0
"""Seconds that a finished batch waits for its turn before it is spooled."""
BLOCKED_PATIENCE = 0.2
"""The same, while earlier batches are spooled already."""


@dataclass
class Report:
    """What one run of the generation stage did."""

    generated: int = 0
    shared: int = 0
    failed: int = 0
    seconds: float = 0.0
    stopped: bool = False
    spent: Spent = field(default_factory=lambda: Spent(0.0, 0, 0.0))
    exhausted: bool = False


class Shard(NamedTuple):
    """Part `number` (from 1) of so many: the questions whose key says so, with their whole trees."""

    number: int
    of: int

    def has(self, question: UUID) -> bool:
        """Tell whether a question is in this part."""
        return question.int % self.of == self.number - 1


ALL = Shard(1, 1)


@dataclass
class _Stage:
    """What a run knows; enough to go on while others hold the file.

    Attributes:
        known: Nodes with an answer, by depth: what the next hop starts from.
        done: Nodes that need no generation.
        spooled: Answers of this run that the file does not hold yet.
        blocked: Whether others kept the file so long that the last batch was spooled.
        allowance: What the run may spend; None for no limit.
        group: Questions that go through the hops now; None for all.
        tokens: Prompt and completion tokens newly generated, by model.
        largest: The most that a batch has taken of the allowance.
        ahead: Batches that are worked on at a time.
    """

    suite: Suite
    cache: Cache
    watcher: Watcher
    shard: Shard
    questions: Mapping[UUID, Question]
    budget: Budget
    known: list[dict[UUID, Parent]]
    done: set[UUID]
    spooled: dict[UUID, str] = field(default_factory=dict)
    blocked: bool = False
    report: Report = field(default_factory=Report)
    allowance: Allowance | None = None
    group: Collection[UUID] | None = None
    tokens: dict[str, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    largest: float = 0.0
    ahead: int = AHEAD
    started: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> Spent:
        """What the run has spent."""
        seconds, engine = time.monotonic() - self.started, self.suite.config.engine
        usd = dollars(seconds / 3600, engine.usd_per_hour, self.tokens, engine.usd_per_million_tokens)
        return Spent(seconds, sum(map(sum, self.tokens.values())), usd)

    @property
    def left(self) -> float:
        """What is left of the allowance."""
        return self.allowance.amount - self.spent.of(self.allowance.unit) if self.allowance else float("inf")

    @property
    def reserve(self) -> float:
        """What the batches in flight may still take of the allowance."""
        in_turn = AHEAD if self.allowance and self.allowance.unit == "seconds" else self.ahead  # workers share the time
        return in_turn * self.largest

    def stopped(self) -> bool:
        """Tell whether no further batch is to begin: somebody said so, or with those in flight it might take what is left."""
        self.report.exhausted = self.report.exhausted or self.left <= self.reserve
        return self.watcher.stopped() or self.report.exhausted

    @property
    def patience(self) -> float:
        """Seconds to wait for others in the middle of the work: less while they are known to keep the file."""
        return BLOCKED_PATIENCE if self.blocked else min(PATIENCE, self.cache.wait)

    def parents(self, depth: int) -> list[Parent]:
        """Return the nodes that a hop starts from, with those that other processes have committed since."""
        try:
            self.known[depth] |= {parent.node: parent for parent in self.cache.parents(self.suite, depth, self.patience)}
        except CacheBusyError:
            logger.info("others hold the cache: going on with what this run knows of hop %d", depth)
        wanted = self.questions if self.group is None else self.group
        return [p for p in self.known[depth].values() if p.question in wanted and self.shard.has(p.question)]

    def answered(self, generations: Sequence[UUID]) -> dict[UUID, str]:
        """Return those of the generations that somebody has answered since."""
        found = {generation: self.spooled[generation] for generation in generations if generation in self.spooled}
        try:
            return found | self.cache.generations_done(generations, self.patience)
        except CacheBusyError:
            return found

    def keep(self, batch: Batch) -> None:
        """Commit a batch, or spool it where others hold the file."""
        if self.cache.commit_or_spool(batch, self.patience):
            self.blocked = False
            self.spooled.clear()
        else:
            self.blocked = True
            self.spooled |= {row["generation"]: row["response"] for row in batch.generations if row["response"] is not None}


def generate(
    suite: Suite,
    cache: Cache,
    base: Path,
    store: Path,
    *,
    watcher: Watcher | None = None,
    retry: bool = False,
    shard: Shard | None = None,
    allowance: Allowance | None = None,
    engine: OpenEngine = open_engine,
    answering: Answering = Guard,
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
        shard: Which part of the questions to generate, while other processes do the others; default: all.
        allowance: What to spend at most; whole questions are finished first, the same number of every benchmark.
        engine: Opens an engine for a model.
        answering: Has the batches of a hop and a model answered: by an engine in this process, or by many elsewhere.
        encode: Embeds texts; by default the suite's encoder, loaded when there is something to embed.

    Raises:
        ToolkitError: Weights cannot be had, an engine is broken, or the cache cannot be written. What was committed stays.
        CacheBusyError: Others hold the file to the end; what is finished is spooled beside it.
    """
    check(suite.config, suite.questions)
    started = time.monotonic()
    cache.create()
    cache.record(suite)
    cache.drain()
    stage = _Stage(
        suite,
        cache,
        watcher or Silent(),
        shard or ALL,
        {question.key: question for question in suite.questions},
        Budget(suite.config.engine.budget),
        [{parent.node: parent for parent in cache.parents(suite, depth)} for depth in range(suite.horizon)],
        cache.nodes_done(suite, retry),
        allowance=allowance,
        started=started,
    )
    encode = encode or SuiteEncoder(suite, base, store)
    for group in _groups(stage):
        stage.group = group
        for depth in range(1, suite.horizon + 1):
            for model, config in zip(suite.models, suite.config.models, strict=True):
                if not stage.stopped():
                    opened = partial(engine, suite.config.engine, config, base.absolute(), store.absolute())
                    _hop(stage, depth, model, config, partial(answering, opened, config.max_tokens))
        cache.drain()
        cache.set_cost_unit(suite.key, suite.config.incomplete != "refuse")
        if not stage.watcher.stopped():
            rescore(suite, cache, suite.key, wanted(suite))
            embed_missing(suite, cache, encode, stage.keep, stage.watcher)
    stage.report.stopped = stage.watcher.stopped()
    stage.report.spent = stage.spent
    stage.report.seconds = time.monotonic() - started
    return stage.report


def whole_questions(suite: Suite, cache: Cache) -> set[UUID]:
    """Return the questions whose trees are cached to the last node."""
    return _whole(suite, cache.parents(suite, 0), cache.nodes_done(suite))


def _whole(suite: Suite, roots: Collection[Parent], done: Collection[UUID]) -> set[UUID]:
    def below(node: UUID, hops: int) -> bool:
        children = [child_key(node, model.key) for model in suite.models] if hops else []
        return all(child in done and below(child, hops - 1) for child in children)

    return {root.question for root in roots} - {root.question for root in roots if not below(root.node, suite.horizon)}


def _groups(stage: _Stage) -> Iterator[Collection[UUID] | None]:
    """Cut the questions into groups that go through all hops one after the other: one group where nothing limits the run.

    With an allowance, benchmarks take turns. The first group is a question of each; a further one is at most twice as large as
    that before, since weights are loaded anew for each, and no larger than what is left affords at the last group's rate.
    """
    if stage.allowance is None:
        yield None
        return
    place: Counter[str] = Counter()
    turns = []
    for question in stage.suite.questions:
        turns.append((place[question.benchmark], question.key))
        place[question.benchmark] += 1
    whole = _whole(stage.suite, stage.known[0].values(), stage.done)
    waiting = [key for _, key in sorted(turns, key=lambda turn: turn[0]) if stage.shard.has(key) and key not in whole]
    size = len(place)
    while waiting and size > 0 and not stage.stopped():
        before, group = stage.left, waiting[:size]
        waiting = waiting[size:]
        yield group
        each = (before - stage.left) / len(group)
        affordable = SPARED * stage.left - stage.reserve
        size = min(2 * len(group), int(affordable / each)) if each > 0 else 2 * len(group)
    stage.report.exhausted = (bool(waiting) and not stage.watcher.stopped()) or stage.report.exhausted


def _hop(stage: _Stage, depth: int, model: Model, config: ModelConfig, answering: Callable[[Budget, float], Answerer]) -> None:
    parents = stage.parents(depth - 1)
    if all(child_key(parent.node, model.key) in stage.done for parent in parents):
        return
    stage.watcher.stage(f"hop {depth} of {stage.suite.horizon}, {model.name}")
    with closing(answering(stage.budget, stage.suite.config.engine.batch_timeout)) as answerer:
        jobs = render_jobs(stage.suite, model, config, parents, answerer.engine)
        ahead: list[_Asked] = []
        for batch in cut_batches(jobs, config.max_tokens, stage.budget):
            if stage.stopped() or answerer.broken:
                break
            pending = [job for job in (job.without(model, stage.done) for job in batch) if job.parents]
            if pending:
                ahead.append(_ask(stage, pending, config, answerer))
            stage.ahead = answerer.ahead
            while len(ahead) >= stage.ahead:
                _finish(stage, model, depth, _first_answered(ahead))
        while ahead:
            _finish(stage, model, depth, _first_answered(ahead))
        if answerer.broken:
            raise EngineError(
                f"The engine of model {model.name!r} failed on {answerer.broken}. It is given up; all answers so far are kept. "
                f"Mend the engine, then repeat the command, with --retry for failures that are not transient "
                f"(toolkit status {stage.suite.name})."
            )


class _Asked(NamedTuple):
    """A batch that is being answered.

    Attributes:
        jobs: All of it.
        responses: What somebody has answered since, by generation.
        missing: What nobody has.
        refused: Why those of them that do not fit into the context have no answer.
        answered: The outcomes of the others, in order, once they are there.
    """

    jobs: Sequence[Job]
    responses: dict[UUID, str]
    missing: Sequence[Job]
    refused: dict[UUID, Completion | Failure]
    answered: Future[Answered]


def _ask(stage: _Stage, jobs: Sequence[Job], config: ModelConfig, answerer: Answerer) -> _Asked:
    """Hand in what nobody has generated since; it is left untried if the run is stopped before its turn."""
    responses = stage.answered([job.key for job in jobs])
    missing = [job for job in jobs if job.key not in responses]
    room = answerer.engine.context_length
    reason = f"overlength: the prompt and {config.max_tokens} answer tokens do not fit into {room} tokens"
    refused: dict[UUID, Completion | Failure] = {job.key: Failure(reason, False) for job in missing if not job.fits}
    answered = answerer.submit([job.prompt for job in missing if job.fits], lambda: not stage.stopped())
    return _Asked(jobs, responses, missing, refused, answered)


def _first_answered(ahead: list[_Asked]) -> _Asked:
    """Take out the batch that is answered first; of several, the one that was asked first."""
    done = wait([asked.answered for asked in ahead], return_when=FIRST_COMPLETED).done
    return ahead.pop(next(place for place, asked in enumerate(ahead) if asked.answered in done))


def _finish(stage: _Stage, model: Model, depth: int, asked: _Asked) -> None:
    """Score and commit a batch, once it is answered."""
    jobs, responses, missing, outcomes, _ = asked
    before = stage.left
    answered = asked.answered.result()
    seconds = answered.seconds / max(1, len(missing))
    fitting = [job.key for job in missing if job.fits]
    outcomes |= {key: outcome for key, outcome in zip(fitting, answered.outcomes, strict=True) if outcome}
    batch = Batch()
    for job in missing:
        outcome = outcomes.get(job.key)
        if outcome:
            batch.generations.append(_generation_row(model, job, outcome, seconds, answered.label))
        if isinstance(outcome, Completion):
            responses[job.key] = outcome.response
            prompt, completion = stage.tokens[model.name]
            stage.tokens[model.name] = prompt + job.prompt.tokens, completion + (outcome.completion_tokens or 0)
    for job in jobs:
        for parent in job.parents if job.key in responses or job.key in outcomes else []:
            node = child_key(parent.node, model.key)
            path = (*parent.path, model.key)
            batch.nodes.append(
                {
                    "node": node,
                    "root": parent.root,
                    "question": parent.question,
                    "parent": parent.node,
                    "path": list(path),
                    "depth": depth,
                    "generation": job.key,
                    "dropped_answers": job.dropped_answers,
                }
            )
            if job.key in responses and depth < stage.suite.horizon:
                along = (*parent.answers, responses[job.key])
                stage.known[depth][node] = Parent(node, parent.root, parent.question, parent.sample, path, along)
    answers = {(p.question, responses[job.key]) for job in jobs if job.key in responses for p in job.parents}
    todo = scorings([(stage.questions[question], response) for question, response in sorted(answers)], stage.suite.config)
    batch.scores = score(todo, stage.suite.config.code.sandbox)
    stage.keep(batch)
    if stage.allowance:
        took = answered.seconds if stage.allowance.unit == "seconds" else before - stage.left
        stage.largest = max(stage.largest, took)
    stage.report.generated += len(batch.generations)
    stage.report.failed += sum(isinstance(outcome, Failure) for outcome in outcomes.values())
    stage.report.shared += len(batch.nodes) - len(batch.generations)
    stage.watcher.advance(len(batch.nodes))


def _generation_row(model: Model, job: Job, outcome: Completion | Failure, seconds: float, label: str) -> Row:
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
        "status": "ok",
        "error": None,
        "transient": None,
        "seconds": seconds,
        "engine": label,
        "created": now(),
    }
    if isinstance(outcome, Failure):
        return row | {"status": "error", "error": outcome.reason, "transient": outcome.transient}
    counted = {name: value for name, value in outcome._asdict().items() if value is not None}
    return row | counted | {"text": text_key(outcome.response)}
