"""The requests of a hop: renders every context, merges equal prompts, and cuts batches in a fixed order.

Prompts of a question stand side by side, in the order of their texts, so that an engine meets those with a common prefix
together. The order does not depend on what is cached already: a resumed run forms the same batches as an undisturbed one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Self, TypeVar
from uuid import UUID

from toolkit.engines import Engine, Prompt
from toolkit.engines.guard import TokenBudget
from toolkit.store import Parent
from toolkit.suites.keys import child_key, generation_key
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import fit, messages
from toolkit.suites.suite import Model, Suite

T = TypeVar("T")


class Request(NamedTuple):
    """One generation that a hop needs, and the nodes that share it.

    Attributes:
        key: Key of the generation.
        prompt: The rendered prompt.
        sample: Number of the sample; 0 for a greedy model.
        dropped_responses: How many of the oldest responses were left out of the prompt.
        fits: Whether the prompt and the longest response fit into the context length.
        parents: The nodes whose next generation this is.
    """

    key: UUID
    prompt: Prompt
    sample: int
    dropped_responses: int
    fits: bool
    parents: list[Parent]

    def without(self, done: set[UUID], model: Model) -> Self:
        """Return a copy without the parents whose child by `model` is done."""
        return self._replace(parents=[parent for parent in self.parents if child_key(parent.node, model.key) not in done])


def prompt_tokens(request: Request) -> int:
    """Return the length of a request's prompt."""
    return request.prompt.tokens


def render_requests(
    suite: Suite, model: Model, config: ModelConfig, parents: Sequence[Parent], engine: Engine
) -> list[Request]:
    """Render every context of a hop, equal prompts once; returns requests in the order of `in_order`."""
    questions = {question.key: question.prompt for question in suite.questions}
    protocol, drop = suite.config.prompts.protocol, suite.config.prompts.overlength == "drop_oldest"
    requests: dict[UUID, Request] = {}
    for parent in parents:

        def render(responses: Sequence[str], question: str = questions[parent.question]) -> str:
            return engine.render(messages(protocol, config.system_prompt, config.few_shot, question, responses))

        fitted = fit(render, engine.count, parent.responses, engine.context_length - config.max_tokens, drop)
        sample = parent.sample if config.temperature > 0 else 0
        key = generation_key(model.key, fitted.text, sample)
        if key not in requests:
            requests[key] = Request(
                key=key,
                prompt=Prompt(text=fitted.text, tokens=fitted.tokens, seed=sampling_seed(key)),
                sample=sample,
                dropped_responses=fitted.dropped_responses,
                fits=fitted.fits,
                parents=[],
            )
        requests[key].parents.append(parent)
    return in_order(requests.values())


def in_order(requests: Iterable[Request]) -> list[Request]:
    """Order requests by question, those of the longest prompts first, and the prompts of a question by their texts.

    `SuiteGenerations` of the cache are in the same order (`generations_of_suite`).
    """
    by_question: dict[UUID, list[Request]] = defaultdict(list)
    for request in requests:
        by_question[min(parent.question for parent in request.parents)].append(request)
    questions = sorted(by_question, key=lambda question: (-max(r.prompt.tokens for r in by_question[question]), question))
    return [
        request
        for question in questions
        for request in sorted(by_question[question], key=lambda request: (request.prompt.text, request.sample))
    ]


def sampling_seed(generation: UUID) -> int:
    """Return the seed of a generation's sampling noise, which its key determines."""
    return generation.int % 2**63


def cut_batches(
    requests: Iterable[T], tokens: Callable[[T], int], max_tokens: int, token_budget: TokenBudget, rounds: int
) -> Iterator[list[T]]:
    """Cut requests, in order, into batches within the token budget, padding and the longest responses included.

    Args:
        requests: What is to be cut.
        tokens: Returns the length of a request's prompt.
        max_tokens: Longest response, in tokens.
        token_budget: Tokens of a batch.
        rounds: Batches that the engine takes in one call, as one.
    """
    batch: list[T] = []
    longest = 0
    for request in requests:
        longest = max(longest, tokens(request))
        if batch and len(batch) + 1 > rounds * token_budget.rows(longest + max_tokens):
            yield batch
            batch, longest = [], tokens(request)
        batch.append(request)
    if batch:
        yield batch
