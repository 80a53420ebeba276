"""Live routing: a router decides hop by hop, and a pool of models responds.

Several questions are routed side by side, one hop of each at a time, so that the prompts that a model gets form a batch. Where
responses come from is the pool's business: `toolkit.live` has the one with a cache and engines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from toolkit.core.errors import ToolkitError
from toolkit.core.text import well_formed
from toolkit.routing.texts import Context, Decision, Mask, Response, TableRouter, decide
from toolkit.suites.config import SuiteConfig


class NextHop(NamedTuple):
    """What a model of the pool is to respond to: the question and the responses so far."""

    model: str
    context: Context


class Pool(Protocol):
    """The models that a router chooses from."""

    @property
    def config(self) -> SuiteConfig:
        """The suite."""
        ...

    def available(self, question: str) -> Mask | None:
        """Return which nodes of a question's tree may be chosen, `(N,)`; None for all."""
        ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts with the suite's encoder, `(texts, dimensions)`."""
        ...

    def respond(self, hops: Sequence[NextHop]) -> "Sequence[Response | ToolkitError]":
        """Return the response to each, or why there is none."""
        ...


class Hop(NamedTuple):
    """A decision and what came of it.

    Attributes:
        decision: What the router decided: a model, and the probability of each action.
        response: What that model returned.
    """

    decision: Decision
    response: Response

    def to_json(self) -> dict[str, Any]:
        """Return the hop for programs."""
        return self.response._asdict() | {"probabilities": dict(self.decision.probabilities)}


class Route(NamedTuple):
    """A question with the hops of its path.

    Attributes:
        question: The question.
        hops: The hops, in order; none if the router abstained.
        stop: The decision to stop; None if the route has all hops.
    """

    question: str
    hops: tuple[Hop, ...]
    stop: Decision | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """Names of the models, in order."""
        return tuple(hop.response.model for hop in self.hops)

    @property
    def response(self) -> str:
        """The final response; empty if the router abstained."""
        return self.hops[-1].response.text if self.hops else ""

    @property
    def cost(self) -> float:
        """Cost C of the path, in cost units."""
        return sum(hop.response.cost for hop in self.hops)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of all hops."""
        return sum(hop.response.prompt_tokens or 0 for hop in self.hops)

    @property
    def completion_tokens(self) -> int:
        """Completion tokens of all hops."""
        return sum(hop.response.completion_tokens or 0 for hop in self.hops)

    @property
    def is_cached(self) -> bool:
        """Whether no model had to respond."""
        return all(hop.response.cached for hop in self.hops)

    def to_json(self) -> dict[str, Any]:
        """Return the route for programs, without the question and the final response."""
        return {
            "path": list(self.path),
            "cost": self.cost,
            "cached": self.is_cached,
            "stop": dict(self.stop.probabilities) if self.stop else None,
            "hops": [hop.to_json() for hop in self.hops],
        }


@dataclass
class Ongoing:
    """A question on its way.

    Attributes:
        question: The question.
        report: Is told of every hop.
        available: The nodes that may be chosen, once they are known.
        hops: The hops so far.
        result: The route once it is complete, or why it cannot be completed; None before that.
    """

    question: str
    report: Callable[[Hop], object] = lambda _: None
    available: Mask | None = None
    hops: list[Hop] = field(default_factory=list)
    result: Route | Exception | None = None

    def __post_init__(self) -> None:
        self.question = well_formed(self.question)

    @property
    def context(self) -> Context:
        """What the router decides on next."""
        return Context(self.question, tuple(hop.response for hop in self.hops), self.available)

    def add(self, hop: Hop, horizon: int) -> None:
        """Add a hop; the last one completes the route."""
        self.hops.append(hop)
        self.report(hop)
        if len(self.hops) == horizon:
            self.end()

    def end(self, stop: Decision | None = None) -> None:
        """Complete the route."""
        self.result = Route(self.question, tuple(self.hops), stop)


def advance(router: TableRouter, ongoing: Sequence[Ongoing], pool: Pool, alpha: float | None = None) -> None:
    """Take one hop of every question.

    A question that fails has its error as `result`; the others go on.

    Raises:
        ToolkitError: No question can go on: the router does not fit the pool, or the cache or the encoder is not available.
    """
    for question in ongoing:
        if not question.hops:
            question.available = pool.available(question.question)
    decisions = decide(router, [question.context for question in ongoing], pool.config, pool.encode, alpha)
    going = [(question, decision) for question, decision in zip(ongoing, decisions, strict=True) if not decision.stops]
    for question, decision in zip(ongoing, decisions, strict=True):
        if decision.stops:
            question.end(decision)
    responses = pool.respond([NextHop(decision.action, question.context) for question, decision in going])
    for (question, decision), response in zip(going, responses, strict=True):
        if isinstance(response, ToolkitError):
            question.result = response
        else:
            question.add(Hop(decision, response), pool.config.horizon)


def run(
    router: TableRouter,
    questions: Sequence[str],
    pool: Pool,
    alpha: float | None = None,
    report: Callable[[int, Hop], object] = lambda number, hop: None,
) -> list[Route | Exception]:
    """Route questions side by side.

    Args:
        router: The router.
        questions: The questions.
        pool: The models.
        alpha: The alpha that a conditioned router observes; None for its run's.
        report: Is told of every hop, with the number of its question.

    Returns:
        The route of each question, or why it has none.

    Raises:
        ToolkitError: No question can be routed.
    """
    ongoing = [Ongoing(text, partial(report, number)) for number, text in enumerate(questions)]
    while unfinished := [question for question in ongoing if question.result is None]:
        advance(router, unfinished, pool, alpha)
    return [question.result for question in ongoing if question.result is not None]
