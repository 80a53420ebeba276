"""The generation stage: what is pending goes through an engine, is scored, and is committed a batch at a time.

Breadth-first by hop, one model resident at a time. Batches are cut from the whole hop in a fixed order, whatever is done
already, so that a resumed run forms the same batches as an undisturbed one. With an budget, as many questions at a time as
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
from typing import NamedTuple
from uuid import UUID

from toolkit.core.errors import CacheBusyError, EngineError
from toolkit.core.hashing import text_key
from toolkit.core.progress import NoProgress, Progress
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, OpenEngine, open_engine
from toolkit.engines.guard import PREFETCH_BATCHES, BatchResult, BatchRunner, Guard, OpenRunner, TokenBudget
from toolkit.generation.batching import Request, cut_batches, render_requests
from toolkit.generation.budget import Budget, Spent, dollars
from toolkit.generation.embedding import Encode, SuiteEncoder, embed_missing
from toolkit.generation.rescoring import rescore, wanted
from toolkit.generation.scoring import check, score, scorings
from toolkit.store import Batch, Cache, Parent, Row, now
from toolkit.suites.config import ModelConfig
from toolkit.suites.suite import Model, Question, Suite, child_key

logger = logging.getLogger("toolkit")

SPARED = 0.9
"""Share of what is left of an budget that a group of questions is to take, by the rate of the group before."""
PATIENCE = 5.0
"""Seconds that a finished batch waits for its turn before it is spooled."""
BLOCKED_PATIENCE = 0.2
"""The same, while earlier batches are spooled already."""


@dataclass
class GenerationReport:
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
class _Run:
    """What a run knows; enough to go on while others hold the file.

    Attributes:
        known: Nodes with an answer, by depth: what the next hop starts from.
        done: Nodes that need no generation.
        spooled: Answers of this run that the file does not hold yet.
        blocked: Whether others kept the file so long that the last batch was spooled.
        budget: What the run may spend; None for no limit.
        group: Questions that go through the hops now; None for all.
        tokens: Prompt and completion tokens newly generated, by model.
        largest: The most that a batch has taken of the budget.
        ahead: Batches that are worked on at a time.
    """

    suite: Suite
    cache: Cache
    progress: Progress
    shard: Shard
    questions: Mapping[UUID, Question]
    token_budget: TokenBudget
    known: list[dict[UUID, Parent]]
    done: set[UUID]
    spooled: dict[UUID, str] = field(default_factory=dict)
    blocked: bool = False
    report: GenerationReport = field(default_factory=GenerationReport)
    budget: Budget | None = None
    group: Collection[UUID] | None = None
    tokens: dict[str, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    largest: float = 0.0
    ahead: int = PREFETCH_BATCHES
    started: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> Spent:
        """What the run has spent."""
        seconds, engine = time.monotonic() - self.started, self.suite.config.engine
        usd = dollars(seconds / 3600, engine.usd_per_hour, self.tokens, engine.usd_per_million_tokens)
        return Spent(seconds, sum(map(sum, self.tokens.values())), usd)

    @property
    def left(self) -> float:
        """What is left of the budget."""
        return self.budget.amount - self.spent.of(self.budget.unit) if self.budget else float("inf")

    @property
    def reserve(self) -> float:
        """What the batches in flight may still take of the budget."""
        in_turn = PREFETCH_BATCHES if self.budget and self.budget.unit == "seconds" else self.ahead  # workers share the time
        return in_turn * self.largest

    def stopped(self) -> bool:
        """Tell whether no further batch is to begin: somebody said so, or with those in flight it might take what is left."""
        self.report.exhausted = self.report.exhausted or self.left <= self.reserve
        return self.progress.stopped() or self.report.exhausted

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
    workspace: Workspace,
    *,
    progress: Progress | None = None,
    retry: bool = False,
    shard: Shard | None = None,
    budget: Budget | None = None,
    engine: OpenEngine = open_engine,
    open_runner: OpenRunner = Guard,
    encode: Encode | None = None,
) -> GenerationReport:
    """Bring a cache to where it holds every node, score and embedding of a suite.

    Args:
        suite: The suite; it is recorded as the current one of its name.
        cache: The cache, created if it is not there.
        workspace: The suite file's folder, and the folder of downloads.
        progress: Who is told of the progress and may stop the run after a batch.
        retry: Whether generations that failed for good are tried again.
        shard: Which part of the questions to generate, while other processes do the others; default: all.
        budget: What to spend at most; whole questions are finished first, the same number of every benchmark.
        engine: Opens an engine for a model.
        open_runner: Has the batches of a hop and a model answered: by an engine in this process, or by many elsewhere.
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
    stage = _Run(
        suite,
        cache,
        progress or NoProgress(),
        shard or ALL,
        {question.key: question for question in suite.questions},
        TokenBudget(suite.config.engine.token_budget),
        [{parent.node: parent for parent in cache.parents(suite, depth)} for depth in range(suite.horizon)],
        cache.nodes_done(suite, retry),
        budget=budget,
        started=started,
    )
    encode = encode or SuiteEncoder(suite, workspace)
    for group in _groups(stage):
        stage.group = group
        for depth in range(1, suite.horizon + 1):
            for model, config in zip(suite.models, suite.config.models, strict=True):
                if not stage.stopped():
                    opened = partial(engine, suite.config.engine, config, workspace.absolute())
                    _hop(stage, depth, model, config, partial(open_runner, opened, config.max_tokens))
        cache.drain()
        cache.set_cost_unit(suite.key, suite.config.incomplete != "refuse")
        if not stage.progress.stopped():
            rescore(suite, cache, suite.key, wanted(suite))
            embed_missing(suite, cache, encode, stage.keep, stage.progress)
    stage.report.stopped = stage.progress.stopped()
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


def _groups(stage: _Run) -> Iterator[Collection[UUID] | None]:
    """Cut the questions into groups that go through all hops one after the other: one group where nothing limits the run.

    With an budget, benchmarks take turns. The first group is a question of each; a further one is at most twice as large as
    that before, since weights are loaded anew for each, and no larger than what is left affords at the last group's rate.
    """
    if stage.budget is None:
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
    stage.report.exhausted = (bool(waiting) and not stage.progress.stopped()) or stage.report.exhausted


def _hop(
    stage: _Run, depth: int, model: Model, config: ModelConfig, open_runner: Callable[[TokenBudget, float], BatchRunner]
) -> None:
    parents = stage.parents(depth - 1)
    if all(child_key(parent.node, model.key) in stage.done for parent in parents):
        return
    stage.progress.stage(f"hop {depth} of {stage.suite.horizon}, {model.name}")
    with closing(open_runner(stage.token_budget, stage.suite.config.engine.batch_timeout)) as runner:
        requests = render_requests(stage.suite, model, config, parents, runner.engine)
        ahead: list[_PendingBatch] = []
        for batch in cut_batches(requests, config.max_tokens, stage.token_budget):
            if stage.stopped() or runner.broken:
                break
            pending = [request for request in (request.without(model, stage.done) for request in batch) if request.parents]
            if pending:
                ahead.append(_ask(stage, pending, config, runner))
            stage.ahead = runner.ahead
            while len(ahead) >= stage.ahead:
                _finish(stage, model, depth, _next_finished(ahead))
        while ahead:
            _finish(stage, model, depth, _next_finished(ahead))
        if runner.broken:
            raise EngineError(
                f"The engine of model {model.name!r} failed on {runner.broken}. It is given up; all answers so far are kept. "
                f"Mend the engine, then repeat the command, with --retry for failures that are not transient "
                f"(toolkit status {stage.suite.name})."
            )


class _PendingBatch(NamedTuple):
    """A batch that is being answered.

    Attributes:
        requests: All of it.
        responses: What somebody has answered since, by generation.
        missing: What nobody has.
        refused: Why those of them that do not fit into the context have no answer.
        answered: The outcomes of the others, in order, once they are there.
    """

    requests: Sequence[Request]
    responses: dict[UUID, str]
    missing: Sequence[Request]
    refused: dict[UUID, Completion | Failure]
    answered: Future[BatchResult]


def _ask(stage: _Run, requests: Sequence[Request], config: ModelConfig, runner: BatchRunner) -> _PendingBatch:
    """Hand in what nobody has generated since; it is left untried if the run is stopped before its turn."""
    responses = stage.answered([request.key for request in requests])
    missing = [request for request in requests if request.key not in responses]
    room = runner.engine.context_length
    reason = f"overlength: the prompt and {config.max_tokens} answer tokens do not fit into {room} tokens"
    refused: dict[UUID, Completion | Failure] = {request.key: Failure(reason, False) for request in missing if not request.fits}
    answered = runner.submit([request.prompt for request in missing if request.fits], lambda: not stage.stopped())
    return _PendingBatch(requests, responses, missing, refused, answered)


def _next_finished(ahead: list[_PendingBatch]) -> _PendingBatch:
    """Take out the batch that is answered first; of several, the one that was asked first."""
    done = wait([asked.answered for asked in ahead], return_when=FIRST_COMPLETED).done
    return ahead.pop(next(place for place, asked in enumerate(ahead) if asked.answered in done))


def _finish(stage: _Run, model: Model, depth: int, asked: _PendingBatch) -> None:
    """Score and commit a batch, once it is answered."""
    requests, responses, missing, outcomes, _ = asked
    before = stage.left
    answered = asked.answered.result()
    seconds = answered.seconds / max(1, len(missing))
    fitting = [request.key for request in missing if request.fits]
    outcomes |= {key: outcome for key, outcome in zip(fitting, answered.outcomes, strict=True) if outcome}
    batch = Batch()
    for request in missing:
        outcome = outcomes.get(request.key)
        if outcome:
            batch.generations.append(_generation_row(model, request, outcome, seconds, answered.label))
        if isinstance(outcome, Completion):
            responses[request.key] = outcome.response
            prompt, completion = stage.tokens[model.name]
            stage.tokens[model.name] = prompt + request.prompt.tokens, completion + (outcome.completion_tokens or 0)
    for request in requests:
        for parent in request.parents if request.key in responses or request.key in outcomes else []:
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
                    "generation": request.key,
                    "dropped_answers": request.dropped_answers,
                }
            )
            if request.key in responses and depth < stage.suite.horizon:
                along = (*parent.answers, responses[request.key])
                stage.known[depth][node] = Parent(node, parent.root, parent.question, parent.sample, path, along)
    answers = {
        (p.question, responses[request.key]) for request in requests if request.key in responses for p in request.parents
    }
    todo = scorings([(stage.questions[question], response) for question, response in sorted(answers)], stage.suite.config)
    batch.scores = score(todo, stage.suite.config.code.sandbox)
    stage.keep(batch)
    if stage.budget:
        took = answered.seconds if stage.budget.unit == "seconds" else before - stage.left
        stage.largest = max(stage.largest, took)
    stage.report.generated += len(batch.generations)
    stage.report.failed += sum(isinstance(outcome, Failure) for outcome in outcomes.values())
    stage.report.shared += len(batch.nodes) - len(batch.generations)
    stage.progress.advance(len(batch.nodes))


def _generation_row(model: Model, request: Request, outcome: Completion | Failure, seconds: float, label: str) -> Row:
    row = {
        "generation": request.key,
        "model": model.key,
        "prompt": request.prompt.text,
        "sample": request.sample,
        "response": None,
        "text": None,
        "prompt_tokens": request.prompt.tokens,
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
