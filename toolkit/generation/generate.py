"""Generates what a cache is missing: an engine responds to a batch of prompts, which is then scored and committed.

Breadth-first by hop, with one model resident at a time. Batches are cut from the whole hop in a fixed order, whatever is done
already, so that a resumed run forms the same batches as an undisturbed one. With a budget, groups of questions pass through
all hops one after the other, so that the questions it has paid for can be trained on. The engine works on a batch while the
previous one is scored and committed. Knows no DuckDB and no particular engine.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from toolkit.core.errors import EngineError, SuiteError
from toolkit.core.progress import NoProgress, Progress
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, OpenEngine, check_models, open_engine
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.engines.guard import BatchRunner, GuardedEngine, OpenRunner, TokenBudget, rounds
from toolkit.generation.batching import Request, cut_batches, prompt_tokens, render_requests
from toolkit.generation.budget import Budget, Spending
from toolkit.generation.pending import PendingBatch, generation_row, node_row, pop_finished
from toolkit.generation.question_groups import question_groups
from toolkit.generation.rescoring import metrics_to_apply, rescore
from toolkit.generation.scoring import check_metrics, check_sandbox, score_each, score_rows, scorings
from toolkit.generation.state import GenerationReport, GenerationState, Shard
from toolkit.store import Batch, Cache, Parent, Row
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
    state = GenerationState(
        suite=suite,
        cache=cache,
        progress=progress or NoProgress(),
        shard=shard or Shard(number=1, parts=1),
        spending=spending,
        token_budget=TokenBudget(suite.config.engine.token_budget),
        parents=[{parent.node: parent for parent in cache.generations.parents(suite, depth)} for depth in range(suite.horizon)],
        done=cache.generations.done_nodes(suite, retry),
        works=cache.suites.count_nodes(suite).is_usable,
    )
    encode = encode or SuiteEncoder(suite, workspace)
    check = lru_cache(partial(check_models, suite.config.engine, suite.config.models, workspace.absolute()))
    for questions in question_groups(state):
        for depth in range(1, suite.horizon + 1):
            for model, config in zip(suite.models, suite.config.models, strict=True):
                if not state.should_stop():
                    open_model = partial(engine, suite.config.engine, config, workspace.absolute())
                    open_hop = partial(_check_and_open, check, open_runner, open_model, config.max_tokens)
                    _generate_hop(state, questions, depth, model, config, open_hop)
        _complete_rows(state, encode)
    return state.finish()


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


def _check_and_open(check: Callable[[], None], open_runner: OpenRunner, *arguments: Any) -> BatchRunner:
    """Open a batch runner; before the first, check all models, so that the last one does not fail after hours of work."""
    check()
    return open_runner(*arguments)


def _generate_hop(
    state: GenerationState,
    questions: Collection[UUID],
    depth: int,
    model: Model,
    config: ModelConfig,
    open_runner: Callable[[TokenBudget, float], BatchRunner],
) -> None:
    """Generate what a model is missing at one hop.

    Raises:
        EngineError: The engine is broken.
    """
    parents = [parent for parent in state.load_parents(depth - 1, questions) if state.suite.has_path((*parent.path, model.key))]
    if all(child_key(parent.node, model.key) in state.done for parent in parents):
        return
    state.progress.stage(f"hop {depth} of {state.suite.horizon}, {model.name}")
    with closing(open_runner(state.token_budget, state.suite.config.engine.batch_timeout)) as runner:
        requests = render_requests(state.suite, model, config, parents, runner.engine)
        pending: list[PendingBatch] = []
        for batch in cut_batches(requests, prompt_tokens, config.max_tokens, state.token_budget, rounds(runner.engine)):
            if state.should_stop() or runner.broken:
                break
            unfinished = [request for request in (request.without(state.done, model) for request in batch) if request.parents]
            if unfinished:
                pending.append(_submit(state, unfinished, config, runner))
            state.spending.prefetch = runner.prefetch
            while len(pending) >= state.spending.prefetch:
                _finish_batch(state, model, pop_finished(pending))
        while pending:
            _finish_batch(state, model, pop_finished(pending))
        if runner.broken:
            permanent = state.report.failed - state.report.transient
            retry = f" with --retry, since {permanent} failures count as permanent" if permanent else ""
            raise EngineError(
                f"The engine of model {model.name!r} failed on {runner.broken.reason}. It is not used any more; all responses "
                f"so far are kept. Fix the cause, then repeat the command{retry}."
            )


def _submit(state: GenerationState, requests: Sequence[Request], config: ModelConfig, runner: BatchRunner) -> PendingBatch:
    """Submit what is not cached by now; the engine skips it if the run is stopped before its turn."""
    responses = state.cached_responses([request.key for request in requests])
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
    state.works = state.works or bool(responses)
    state.commit(batch)
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
    for request in requests:
        for parent in request.parents if request.key in responses else ():
            depth = len(parent.path) + 1
            if depth < state.suite.horizon:
                child = Parent(
                    node=child_key(parent.node, model.key),
                    root=parent.root,
                    question=parent.question,
                    sample=parent.sample,
                    path=(*parent.path, model.key),
                    responses=(*parent.responses, responses[request.key]),
                )
                state.parents[depth][child.node] = child


def _complete_rows(state: GenerationState, encode: Encode) -> None:
    """Add what follows from the generations: scores by metrics that are new, embeddings, and the cost unit."""
    suite, cache = state.suite, state.cache
    cache.generations.drain()
    if not state.progress.stopped():
        cache.embeddings.fill(suite, encode, state.commit, state.progress)
    state.record_if_works()
    cache.suites.compute_cost_unit(suite.key)
    if not state.progress.stopped():
        rescore(suite, cache, suite.key, metrics_to_apply(suite))
