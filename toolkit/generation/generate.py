"""Generates what a cache is missing: an engine responds to a batch of prompts, which is then scored and committed.

Breadth-first by hop, with one model at a time. Batches are cut from fixed blocks of a hop in a fixed order, whatever is done
already, so that a resumed run forms the same batches as an undisturbed one. With a budget, groups of questions pass through
all hops one after the other, so that the questions it has paid for can be trained on. The engine works on a batch while the
previous one is scored and committed, and the next block and the next model are prepared. Knows no DuckDB and no particular
engine.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache, partial
from uuid import UUID

from toolkit.core.errors import CacheError, EngineError, SuiteError
from toolkit.core.progress import NoProgress, Progress
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, OpenEngine, check_models, open_engine
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.engines.guard import BatchRunner, GuardedEngine, OpenRunner, TokenBudget, rounds
from toolkit.generation.batching import Request, cut_batches, prompt_tokens
from toolkit.generation.budget import Budget, Spending
from toolkit.generation.pending import PendingBatch, generation_row, node_row, pop_finished
from toolkit.generation.question_groups import question_groups
from toolkit.generation.rescoring import metrics_to_apply, rescore
from toolkit.generation.scoring import check_metrics, check_sandbox, score_each, score_rows, scorings
from toolkit.generation.state import GenerationReport, GenerationState, Shard
from toolkit.generation.steps import Block, OpenedStep, Step, StepAhead, missing_blocks, render_blocks
from toolkit.store import Batch, Cache, Frontier, Row, TriedNode
from toolkit.suites.keys import child_key
from toolkit.suites.models import ModelConfig
from toolkit.suites.suite import Model, Suite


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
    open_runner: OpenRunner = GuardedEngine,
    encode: Encode | None = None,
) -> GenerationReport:
    """Fill a cache until it holds every node, score and embedding of a suite.

    Args:
        suite: The suite. It becomes the current one of its name with its first response, or at the end if no node was missing:
            a run that fails before leaves the suite that was current as it is.
        cache: The cache; it is created if it does not exist.
        workspace: The suite file's folder, and the folder of downloads.
        progress: Is told of the progress, and may stop the run after a batch.
        retry: Whether to retry generations that failed for good.
        shard: The part of the questions to generate, while other processes generate the others; default: all.
        budget: What the run may spend. Questions are completed one group after the other, the same number of each benchmark.
        engine: Opens an engine for a model.
        open_runner: Opens what runs the batches of a hop and model: an engine in this process, or workers elsewhere.
        encode: Embeds texts; default: the suite's encoder, loaded when the first text is embedded.

    Raises:
        ToolkitError: Weights are not available, an engine is broken, a metric failed on some responses, or the cache cannot be
            written. Commits are kept.
        CacheBusyError: Others hold the file to the end; finished batches are spooled beside it.
    """
    spending = Spending(budget, suite.config.engine)
    _prepare(suite, cache)
    with closing(Frontier(suite)) as frontier:
        frontier.add(cache.generations.tried(suite, retry))
        state = GenerationState(
            suite=suite,
            cache=cache,
            progress=progress or NoProgress(),
            shard=shard or Shard(number=1, parts=1),
            spending=spending,
            token_budget=TokenBudget(suite.config.engine.token_budget),
            frontier=frontier,
            works=cache.suites.count_nodes(suite).is_usable,
        )
        open_step = _step_opener(state, workspace.absolute(), engine, open_runner)
        encode = encode or SuiteEncoder(suite, workspace)
        for questions in question_groups(state):
            try:
                _generate_steps(state, questions, open_step)
            except BaseException:
                with suppress(CacheError):  # the batches stay spooled, and the error is the one to report
                    state.flush()
                raise
            _complete_rows(state, encode)
    return state.finish()


OpenStep = Callable[[Step], BatchRunner]
"""Opens what runs the batches of a step."""


def _prepare(suite: Suite, cache: Cache) -> None:
    """Check what can be checked before long work, and add the suite to the cache, not yet as the current one of its name."""
    cache.migrate()
    if suite.config.features.encoder.is_own:
        raise SuiteError(
            f"The suite {suite.name} has embeddings of your own ({suite.encoder}), which new responses cannot have. Name an "
            'encoder under [features.encoder], or none: encoder = "none" under [features].'
        )
    if not cache.suites.count_nodes(suite).is_usable:
        check_sandbox(suite.config, suite.questions)
        check_metrics(suite.config, suite.questions)
    cache.create()
    cache.suites.add(suite)
    cache.generations.drain()


def _step_opener(state: GenerationState, workspace: Workspace, engine: OpenEngine, open_runner: OpenRunner) -> OpenStep:
    config = state.suite.config
    check = lru_cache(partial(check_models, config.engine, config.models, workspace))

    def open_step(step: Step) -> BatchRunner:
        check()  # all models before the first is opened, so that the last one does not fail after hours of work
        open_model = partial(engine, config.engine, step.config, workspace)
        return open_runner(open_model, step.config.max_tokens, state.token_budget, config.engine.batch_timeout)

    return open_step


def _generate_steps(state: GenerationState, questions: Collection[UUID], open_step: OpenStep) -> None:
    """Generate what questions are missing, hop by hop and model by model.

    Raises:
        EngineError: An engine is broken.
    """
    suite = state.suite
    positions = [
        position
        for position, (question, _, _) in enumerate(suite.trees())
        if question.key in questions and state.shard.contains(question.key)
    ]
    models = list(zip(suite.models, suite.config.models, strict=True))
    steps = [Step(depth, model, config) for depth in range(1, suite.horizon + 1) for model, config in models]
    with StepAhead() as ahead:
        for number, step in enumerate(steps, start=1):
            blocks = missing_blocks(suite, state.frontier, step, positions)
            if state.should_stop():
                return
            if not blocks:
                continue
            state.progress.stage(f"hop {step.depth} of {suite.horizon}, {step.model.name}")
            runner, rendered = ahead.take(step) or OpenedStep(open_step(step), None)
            with closing(runner):
                rendered = rendered or render_blocks(suite, state.frontier, step, blocks, runner.engine)
                begin_next = lru_cache(partial(_begin_next, state, ahead, step, steps[number:], positions, open_step))
                _generate_step(state, step, runner, zip(range(len(blocks) - 1, -1, -1), rendered, strict=True), begin_next)


def _begin_next(
    state: GenerationState,
    ahead: StepAhead,
    present: Step,
    following: Sequence[Step],
    positions: Sequence[int],
    open_step: OpenStep,
) -> None:
    """Begin to open the next step that has something to generate, as far as that is known by now."""
    for step in following:
        if blocks := missing_blocks(state.suite, state.frontier, step, positions):
            break
    else:
        return

    def open_ahead() -> OpenedStep:
        runner = open_step(step)
        with suppress(Exception):  # the first batch tries again, and reports what happened
            runner.load()
        if step.depth > present.depth:  # its contexts are not known yet
            return OpenedStep(runner, None)
        return OpenedStep(runner, render_blocks(state.suite, state.frontier, step, blocks, runner.engine))

    ahead.begin(step, open_ahead)


def _generate_step(
    state: GenerationState,
    step: Step,
    runner: BatchRunner,
    blocks: Iterable[tuple[int, Block]],
    begin_next: Callable[[], object],
) -> None:
    """Generate what a model is missing at one hop.

    Args:
        state: The state of the run.
        step: The hop and the model.
        runner: Runs the batches.
        blocks: The blocks, each with the number of those after it.
        begin_next: Prepares the next step; called in the last block once the model has responded, and so is loaded.

    Raises:
        EngineError: The engine is broken.
    """
    pending: list[PendingBatch] = []
    for blocks_left, block in blocks:
        keys = [request.key for request in block.requests]
        state.look_up(keys)
        size = rounds(runner.engine)
        for batch in cut_batches(block.requests, prompt_tokens, step.config.max_tokens, state.token_budget, size):
            if state.should_stop() or runner.broken:
                break
            unfinished = [
                request for request in (request.without(block.tried, step.model) for request in batch) if request.parents
            ]
            while any(waiting.is_missing(unfinished) for waiting in pending):  # equal prompts in two blocks
                _finish_batch(state, step.model, pop_finished(pending))
            if unfinished:
                pending.append(_submit(state, unfinished, keys, step.config, runner))
            state.spending.prefetch = runner.prefetch
            while len(pending) >= state.spending.prefetch:
                _finish_batch(state, step.model, pop_finished(pending))
                if not blocks_left:
                    begin_next()
    while pending:
        _finish_batch(state, step.model, pop_finished(pending))
    if runner.broken:
        permanent = state.report.failed - state.report.transient
        retry = f" with --retry, since {permanent} failures count as permanent" if permanent else ""
        raise EngineError(
            f"The engine of model {step.model.name!r} failed on {runner.broken.reason}. It is not used any more; all responses "
            f"so far are kept. Fix the cause, then repeat the command{retry}."
        )


def _submit(
    state: GenerationState, requests: Sequence[Request], block: Sequence[UUID], config: ModelConfig, runner: BatchRunner
) -> PendingBatch:
    """Submit what is not cached by now; the engine skips it if the run is stopped before its turn."""
    responses = state.cached_responses([request.key for request in requests], block)
    missing = [request for request in requests if request.key not in responses]
    reason = (
        f"overlength: the prompt and {config.max_tokens} response tokens do not fit into {runner.engine.context_length} tokens"
    )
    return PendingBatch(
        requests=requests,
        responses=responses,
        missing=missing,
        refused={request.key: Failure(reason, False) for request in missing if not request.fits},
        result=runner.submit([request.prompt for request in missing if request.fits], lambda: not state.should_stop()),
    )


def _finish_batch(state: GenerationState, model: Model, pending: PendingBatch) -> None:
    """Wait for a batch, score it, and commit it."""
    left_before = state.spending.left
    outcomes = pending.outcomes()
    result = pending.result.result()
    completions = {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, Completion)}
    responses = dict(pending.responses) | {key: completion.response for key, completion in completions.items()}
    for request in pending.missing:
        if completion := completions.get(request.key):
            prompt_tokens = completion.prompt_tokens or request.prompt.tokens
            state.spending.add(model.name, prompt_tokens, completion.completion_tokens)
            state.report.add_prompt(prompt_tokens, completion.cached_tokens)
    batch = Batch(
        generations=[
            generation_row(model, request, outcomes[request.key], result.seconds / len(pending.missing), result.label)
            for request in pending.missing
            if request.key in outcomes
        ],
        nodes=[
            node_row(model, request, parent)
            for request in pending.requests
            if request.key in responses or request.key in outcomes
            for parent in request.parents
        ],
        scores=_score(state, pending.requests, responses),
    )
    _add_parents(state, model, pending.requests, responses)
    state.known |= responses
    state.commit(batch, works=bool(responses))
    state.spending.finish_batch(result.seconds, left_before)
    state.report.generated += len(batch.generations)
    state.report.failures.update(outcome for outcome in outcomes.values() if isinstance(outcome, Failure))
    state.report.filtered += sum(completion.finish_reason == "content_filter" for completion in completions.values())
    state.report.shared += len(batch.nodes) - len(batch.generations)
    state.progress.advance(len(batch.nodes))


def _score(state: GenerationState, requests: Sequence[Request], responses: Mapping[UUID, str]) -> list[Row]:
    """Score the distinct responses to each question; those on which a metric fails are scored again at the end of the run."""
    pairs = {
        (parent.question, responses[request.key])
        for request in requests
        if request.key in responses
        for parent in request.parents
    }
    config = state.suite.config
    responses_to_score = [(state.questions[question], response) for question, response in sorted(pairs)]
    work = scorings(responses_to_score, config)
    return score_rows(work, score_each(work, config.code.sandbox))


def _add_parents(state: GenerationState, model: Model, requests: Sequence[Request], responses: Mapping[UUID, str]) -> None:
    """Add the new nodes with a response to those that the next hop starts from."""
    state.frontier.add(
        TriedNode(
            position=state.positions[parent.root],
            path=(*parent.path, model.key),
            node=child_key(parent.node, model.key),
            responses=(*parent.responses, responses[request.key]),
        )
        for request in requests
        if request.key in responses
        for parent in request.parents
        if len(parent.path) + 1 < state.suite.horizon
    )


def _complete_rows(state: GenerationState, encode: Encode) -> None:
    """Add what follows from the generations: scores by metrics that are new, embeddings, and the cost unit."""
    suite, cache = state.suite, state.cache
    cache.generations.drain()
    if not state.progress.stopped():
        cache.embeddings.fill(suite, encode, state.commit, state.progress)
    state.flush()
    cache.suites.compute_cost_unit(suite.key)
    if not state.progress.stopped():
        rescore(suite, cache, suite.key, metrics_to_apply(suite))
