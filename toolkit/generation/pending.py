"""A batch on its way through an engine, and the rows that it becomes in the cache."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import NamedTuple
from uuid import UUID

from toolkit.core.hashing import text_key
from toolkit.core.text import well_formed
from toolkit.engines import Failure, Outcome
from toolkit.engines.guard import BatchResult
from toolkit.generation.batching import Request
from toolkit.store import Parent, Row, now
from toolkit.suites.keys import child_key
from toolkit.suites.suite import Model


class PendingBatch(NamedTuple):
    """A batch that an engine works on.

    Attributes:
        requests: All requests of the batch.
        responses: Responses that are cached by now, by generation.
        missing: The requests without one.
        refused: Failures of those of them that do not fit into the context length, by generation.
        result: The outcomes of the others, in order, once they are there.
    """

    requests: Sequence[Request]
    responses: Mapping[UUID, str]
    missing: Sequence[Request]
    refused: Mapping[UUID, Outcome]
    result: Future[BatchResult]

    def is_missing(self, requests: Iterable[Request]) -> bool:
        """Return whether the engine works on any of the requests."""
        return not {request.key for request in self.missing}.isdisjoint(request.key for request in requests)

    def outcomes(self) -> dict[UUID, Outcome]:
        """Wait for the result; return the outcomes of the missing generations that were tried, by key."""
        submitted = [request.key for request in self.missing if request.fits]
        outcomes = zip(submitted, self.result.result().outcomes, strict=True)
        return dict(self.refused) | {key: outcome for key, outcome in outcomes if outcome}


def pop_finished(batches: list[PendingBatch]) -> PendingBatch:
    """Wait until a batch is finished and remove it from the list; of several, the one that was submitted first."""
    finished = wait([batch.result for batch in batches], return_when=FIRST_COMPLETED).done
    return batches.pop(next(index for index, batch in enumerate(batches) if batch.result in finished))


def node_row(model: Model, request: Request, parent: Parent) -> Row:
    """Return the row of the node that `model` leads to from `parent`."""
    return {
        "node": child_key(parent.node, model.key),
        "root": parent.root,
        "question": parent.question,
        "parent": parent.node,
        "path": [*parent.path, model.key],
        "depth": len(parent.path) + 1,
        "generation": request.key,
        "dropped_responses": request.dropped_responses,
    }


def generation_row(model: Model, request: Request, outcome: Outcome, seconds: float, engine: str) -> Row:
    """Return the row of a generation.

    Args:
        model: The model.
        request: What was requested of it.
        outcome: Its response or failure.
        seconds: Its share of the batch's time.
        engine: Label of the engine.
    """
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
        "engine": well_formed(engine),
        "created": now(),
    }
    if isinstance(outcome, Failure):
        return row | {"status": "error", "error": outcome.reason, "transient": outcome.transient}
    measured = {name: value for name, value in outcome._asdict().items() if name in row and value is not None}
    return row | measured | {"text": text_key(outcome.response)}
