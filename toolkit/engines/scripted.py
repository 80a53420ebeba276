"""An engine without a model, for tests and examples: responses follow from the prompt by a fixed rule."""

import hashlib
from collections.abc import Callable, Sequence

from toolkit import __version__
from toolkit.core.workspace import Workspace
from toolkit.engines.base import Completion, Prompt, this_machine, truncate_at_stop
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import Message

CONTEXT_LENGTH = 8192
"""Context length of a model whose suite sets none, in words."""

Script = Callable[[str, Prompt], str]
"""From the name of a model and a prompt to the response."""


def random_digit(model: str, prompt: Prompt) -> str:
    """Respond with a digit that depends on model, prompt and seed, and on nothing else."""
    digest = hashlib.sha256(f"{model}\n{prompt.seed}\n{prompt.text}".encode()).digest()
    return f"Answer: {digest[0] % 10}"


class ScriptedEngine:
    """Returns responses that a fixed rule makes up, for tests; a token is a word.

    Args:
        config: The suite's `[engine]` table; nothing of it is used.
        model: The model.
        workspace: Not used.
        script: The rule.
    """

    label = f"scripted {__version__}"
    default_batch_tokens = 2**13
    needs_weights = False
    in_process = False
    machine = staticmethod(this_machine)

    def __init__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace, script: Script = random_digit) -> None:
        self.model = model
        self.script = script
        self.context_length = model.context_length or CONTEXT_LENGTH

    def render(self, messages: Sequence[Message]) -> str:
        """Write the chat as lines of `role: content`."""
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages) + "\nassistant:"

    def count(self, text: str) -> int:
        """Count words."""
        return len(text.split())

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Call the script for every prompt; cut its response at `max_tokens` words and at stop strings."""
        return [self._completion(self.script(self.model.name, prompt).split(" ")) for prompt in prompts]

    def close(self) -> None:
        """Do nothing."""

    def _completion(self, words: list[str]) -> Completion:
        limit = self.model.max_tokens
        response, stopped = truncate_at_stop(" ".join(words[:limit]), self.model.stop)
        return Completion(
            response=response,
            completion_tokens=self.count(response),
            finish_reason="length" if len(words) > limit and not stopped else "stop",
        )
