"""What a hop asks of a model: every context rendered, equal prompts once, and cut into batches in a fixed order.

The order does not depend on what is done already, so that a resumed run forms the same batches as an undisturbed one.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self
from uuid import UUID

from toolkit.engines import Engine, Prompt
from toolkit.engines.guard import TokenBudget
from toolkit.store import Parent
from toolkit.suites.config import ModelConfig
from toolkit.suites.prompts import Turn, fit, messages
from toolkit.suites.suite import Model, Suite, child_key, generation_key


class Request(NamedTuple):
    """One generation that a hop needs, and the nodes that share it."""

    key: UUID
    prompt: Prompt
    sample: int
    dropped_answers: int
    fits: bool
    parents: list[Parent]

    def without(self, model: Model, done: set[UUID]) -> Self:
        """Leave out the nodes that are done."""
        return self._replace(parents=[parent for parent in self.parents if child_key(parent.node, model.key) not in done])


def render_requests(
    suite: Suite, model: Model, config: ModelConfig, parents: Sequence[Parent], engine: Engine
) -> list[Request]:
    """Render every context of a hop, equal prompts once, longest first."""
    prompts = {question.key: question.prompt for question in suite.questions}
    few_shot = [Turn(example.user, example.assistant) for example in config.few_shot]
    protocol, drop = suite.config.prompts.protocol, suite.config.prompts.overlength == "drop_oldest"
    requests: dict[UUID, Request] = {}
    for parent in parents:

        def render(answers: Sequence[str], question: str = prompts[parent.question]) -> str:
            return engine.render(messages(protocol, config.system_prompt, few_shot, question, answers))

        fitted = fit(render, engine.count, parent.answers, engine.context_length - config.max_tokens, drop)
        sample = parent.sample if config.temperature > 0 else 0
        key = generation_key(model.key, fitted.text, sample)
        if key not in requests:
            prompt = Prompt(fitted.text, fitted.tokens, key.int % 2**63)
            requests[key] = Request(key, prompt, sample, fitted.dropped_answers, fitted.fits, [])
        requests[key].parents.append(parent)
    return sorted(requests.values(), key=lambda request: (-request.prompt.tokens, request.prompt.text, request.sample))


def cut_batches(requests: Sequence[Request], max_tokens: int, token_budget: TokenBudget) -> Iterator[list[Request]]:
    """Cut requests, longest first, into batches of at most the token_budget's tokens, padding and answers included."""
    start = 0
    while start < len(requests):
        rows = token_budget.rows(requests[start].prompt.tokens + max_tokens)
        yield list(requests[start : start + rows])
        start += rows
