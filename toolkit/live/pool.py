"""The pool of a suite as live routing uses it: the cache responds where it can, and the suite's engines elsewhere.

Responses have the keys that `toolkit generate` gives them, so that each reuses what the other has generated. A question that
is in no benchmark of the suite has its tree in the cache as one of the benchmark `live`, without a reference answer.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self
from uuid import UUID

import numpy as np
import numpy.typing as npt

from toolkit.core.commands import command
from toolkit.core.errors import CacheBusyError, IncompleteCacheError, NoResponseError, ToolkitError
from toolkit.core.hashing import text_key
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, OpenEngine, Prompt, open_engine
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.generation.batching import Request, render_requests
from toolkit.generation.pending import generation_row, node_row
from toolkit.live.residents import Residents
from toolkit.replay.costs import hop_cost, in_cost_units
from toolkit.replay.table import existing_nodes, on_complete_paths, with_descendants
from toolkit.routing.route import NextHop
from toolkit.routing.texts import Mask, Response
from toolkit.store import Batch, Cache, CachedResponse, Parent, Row
from toolkit.suites.config import SuiteConfig
from toolkit.suites.keys import child_key, question_key, root_key
from toolkit.suites.suite import Question, Suite
from toolkit.tasks import Reference

LIVE = "live"
"""Benchmark of the questions that were routed live and are in no benchmark of the suite."""
LIVE_VERSION = "1"
"""Version of that benchmark."""
MAX_WAIT_SECONDS = 5.0
"""Longest time that new responses wait for others who hold the cache file before they are spooled."""
SAMPLE = 0
"""Number of the sampled tree that live routing walks."""

logger = logging.getLogger("toolkit")


class _Step(NamedTuple):
    """A hop to take: the question, the node that it starts from, the node that it leads to, and the model's position."""

    question: Question
    parent: Parent
    node: UUID
    position: int


class LivePool:
    """A suite's models, with its cache.

    Used by one thread at a time. Nothing is loaded before it is needed: a question whose responses and embeddings are cached
    needs neither weights nor tokenizers.

    Args:
        suite: The recorded suite.
        cache: Its cache.
        workspace: The suite file's folder, and the folder of downloads; default: the current folder, and `weights` beside the
            cache.
        engine: Opens an engine for a model.
        encode: Embeds texts; default: the suite's encoder.
        limit: Number of models in memory at a time; None for all.

    Raises:
        IncompleteCacheError: The suite has no cost unit yet.
    """

    def __init__(
        self,
        suite: Suite,
        cache: Cache,
        workspace: Workspace | None = None,
        *,
        engine: OpenEngine = open_engine,
        encode: Encode | None = None,
        limit: int | None = None,
    ) -> None:
        workspace = workspace or Workspace.beside(cache.path)
        self.suite = suite
        self.cache = cache
        self._cost_unit = cost_unit(cache, suite)
        self._encode = encode or SuiteEncoder(suite, workspace)
        self._residents = Residents(suite, workspace, engine, limit)
        self._positions = {model.name: position for position, model in enumerate(suite.models)}
        self._by_prompt = {question.prompt: question for question in reversed(suite.questions)}
        self._embeddings: list[Row] = []  # not committed yet
        self._spooled: dict[UUID, CachedResponse] = {}  # by node, while others hold the file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is not committed yet, and free the memory of the models."""
        try:
            self._commit(Batch(), [])
        finally:
            self._residents.close()

    @property
    def config(self) -> SuiteConfig:
        """The suite as written."""
        return self.suite.config

    def available(self, question: str) -> Mask | None:
        """Return which nodes of a question's tree may be chosen, `(N,)`; None for all.

        As in replay, only suites that mask what failed (or was not imported) leave nodes out, and only of their own questions.
        """
        if self.config.incomplete != "mask" or question not in self._by_prompt:
            return None
        exists, models = existing_nodes(self.config), self.suite.models
        nodes = {0: root_key(self._by_prompt[question].key, self.config, SAMPLE)}
        for number in np.flatnonzero(exists)[1:].tolist():  # a parent comes before its children
            above, action = divmod(number - 1, len(models))
            nodes[number] = child_key(nodes[above], models[action].key)
        cached = self.cache.live.responses_at(list(nodes.values()))
        lacking = np.zeros((1, len(exists)), dtype=np.bool_)
        for number, node in nodes.items():
            lacks = not cached[node].succeeded if node in cached else self.config.models[0].is_imported
            lacking[0, number] = lacks and number > 0
        responded = exists & ~with_descendants(lacking, len(models))
        mask: Mask = on_complete_paths(responded, len(models), self.suite.horizon)[0]
        return mask

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts, `(texts, dimensions)`: those that the cache has are looked up, the others are cached."""
        if self.config.features.encoder.is_none:
            return np.zeros((len(texts), 0), dtype=np.float32)
        vectors = self.cache.live.vectors(self.suite.encoder, texts)
        missing = [text for text in dict.fromkeys(texts) if text not in vectors]
        if missing:
            vectors |= zip(missing, self._encode(missing), strict=True)
            self._embeddings += [
                {"text": text_key(text), "encoder": self.suite.encoder, "vector": vectors[text].tolist()} for text in missing
            ]
        return np.stack([vectors[text] for text in texts])

    def respond(self, hops: Sequence[NextHop]) -> list[Response | ToolkitError]:
        """Return the response to each, or why there is none; new ones are committed to the cache.

        Raises:
            CacheError: The cache cannot be read.
        """
        steps = [self._step(hop) for hop in hops]
        cached = self.cache.live.responses_at([step.node for step in steps]) | self._spooled if steps else {}
        results: dict[UUID, Response | ToolkitError] = {}  # by node: two hops may be the same
        missing: dict[int, dict[UUID, _Step]] = {}
        for step in steps:
            if (known := cached.get(step.node)) and known.succeeded:
                results[step.node] = self._response(step, known, cached=True)
            else:
                missing.setdefault(step.position, {})[step.node] = step
        for position, steps_of_model in missing.items():
            results |= self._generate(position, list(steps_of_model.values()))
        return [results[step.node] for step in steps]

    def _step(self, hop: NextHop) -> _Step:
        question = self._by_prompt.get(hop.context.question) or live_question(hop.context.question)
        node = root = root_key(question.key, self.config, SAMPLE)
        path = [self.suite.models[self._positions[response.model]].key for response in hop.context.responses]
        for model in path:
            node = child_key(node, model)
        responses = tuple(response.text for response in hop.context.responses)
        parent = Parent(node=node, root=root, question=question.key, sample=SAMPLE, path=tuple(path), responses=responses)
        position = self._positions[hop.model]
        return _Step(question, parent, child_key(node, self.suite.models[position].key), position)

    def _generate(self, position: int, steps: Sequence[_Step]) -> dict[UUID, Response | ToolkitError]:
        """Let a model respond, by node: equal prompts once, and those that other nodes have cached not at all."""
        model, config = self.suite.models[position], self.config.models[position]
        suite = replace(self.suite, questions=tuple({step.question.key: step.question for step in steps}.values()))
        try:
            engine = self._residents.get(model, config)
            requests = render_requests(suite, model, config, [step.parent for step in steps], engine.engine)
            cached = self.cache.live.responses_to([request.key for request in requests])
            missing = [request for request in requests if request.key not in cached and request.fits]
            started = time.monotonic()
            outcomes = dict(zip((request.key for request in missing), engine.generate(_prompts(missing)), strict=True))
        except ToolkitError as error:
            self._residents.discard(model)
            return dict.fromkeys((step.node for step in steps), error)
        seconds, label = (time.monotonic() - started) / max(1, len(missing)), engine.engine.label
        if engine.broken:  # the next request opens it again
            self._residents.discard(model)
        rows = [
            generation_row(model, request, outcome, seconds, label)
            for request in missing
            if isinstance(outcome := outcomes[request.key], Completion)
        ]
        known = cached | {row["generation"]: _cached_response(row) for row in rows}
        nodes = [(request, parent) for request in requests if request.key in known for parent in request.parents]
        self._commit(Batch(generations=rows, nodes=[node_row(model, *node) for node in nodes]), suite.questions)
        results: dict[UUID, Response | ToolkitError] = {}
        steps_by_parent = {step.parent.node: step for step in steps}
        for request in requests:
            for step in (steps_by_parent[parent.node] for parent in request.parents):
                if request.key in known:
                    results[step.node] = self._response(step, known[request.key], cached=request.key in cached)
                else:
                    results[step.node] = _failure(model.name, request, outcomes.get(request.key))
        return results

    def _commit(self, batch: Batch, questions: Sequence[Question]) -> None:
        """Commit a batch of new responses, after the rows of those questions that are not the suite's.

        While others hold the file, responses are spooled beside it, and their nodes are added when they are needed next.
        """
        batch = replace(batch, embeddings=self._embeddings)
        if not any(vars(batch).values()):
            return
        new = tuple(question for question in questions if question.benchmark == LIVE)
        try:
            if new:
                self.cache.live.add_questions(replace(self.suite, questions=new), MAX_WAIT_SECONDS)
            self.cache.generations.commit(batch, MAX_WAIT_SECONDS)
            self._spooled.clear()
        except CacheBusyError as error:
            logger.warning("%s New responses are spooled beside it until then.", error)
            if batch.generations or batch.embeddings:
                self.cache.generations.spool.put(replace(batch, nodes=[]))
            responses = {row["generation"]: _cached_response(row) for row in batch.generations}
            self._spooled |= {
                row["node"]: responses[row["generation"]] for row in batch.nodes if row["generation"] in responses
            }
        self._embeddings = []

    def _response(self, step: _Step, known: CachedResponse, *, cached: bool) -> Response:
        model = self.suite.models[step.position]
        prompt_tokens, completion_tokens = float(known.prompt_tokens or 0), float(known.completion_tokens or 0)
        raw = hop_cost(prompt_tokens, completion_tokens, model.rate_in, model.rate_out) if known.cost is None else known.cost
        return Response(
            model=model.name,
            text=known.response or "",
            cost=in_cost_units(raw, self._cost_unit),
            prompt_tokens=known.prompt_tokens,
            completion_tokens=known.completion_tokens,
            finish_reason=known.finish_reason,
            cached=cached,
        )


def live_question(text: str) -> Question:
    """Return the question of a text that is in no benchmark of a suite."""
    item, reference = str(text_key(text)), Reference(())
    return Question(
        key=question_key(LIVE, LIVE_VERSION, item, text, reference),
        benchmark=LIVE,
        version=LIVE_VERSION,
        item=item,
        prompt=text,
        reference=reference,
        metric="",
        split="test",
    )


def cost_unit(cache: Cache, suite: Suite) -> float:
    """Return a suite's cost unit.

    Raises:
        IncompleteCacheError: It has none yet.
    """
    unit = cache.suites.cost_unit(suite.key)
    if unit is None:
        raise IncompleteCacheError(
            f"Suite {suite.name} has no cost unit yet, so that nothing has a cost: its first hop is not complete. Fill it with:"
            f" {command('generate', suite.name, cache=cache.path)}"
        )
    return unit


def _prompts(requests: Sequence[Request]) -> list[Prompt]:
    return [request.prompt for request in requests]


def _cached_response(row: Row) -> CachedResponse:
    tokens = {name: row[name] for name in ("response", "prompt_tokens", "completion_tokens", "finish_reason")}
    return CachedResponse(**tokens, cost=None, succeeded=True)


def _failure(model: str, request: Request, outcome: object) -> NoResponseError:
    """Return why a request has no response."""
    name = printable(model)
    if not request.fits:
        return NoResponseError(
            f"The prompt is too long for model {name}: {request.prompt.tokens} tokens and the longest response do not fit into "
            "its context length. Shorten the question.",
            overlength=True,
        )
    if isinstance(outcome, Failure):
        return NoResponseError(f"Model {name} did not respond: {printable(outcome.reason)}", transient=outcome.transient)
    return NoResponseError(
        f"Model {name} did not respond: its engine failed on other prompts before. Try again.", transient=True
    )
