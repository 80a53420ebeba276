"""An engine without a model, for tests and examples: answers follow from the prompt by a fixed rule."""

import hashlib
from collections.abc import Callable, Sequence

from toolkit import __version__
from toolkit.engines import Completion, Prompt, before_stop
from toolkit.suites.config import ModelConfig
from toolkit.suites.prompts import Message

Script = Callable[[str, Prompt], str]
"""Model name and prompt to response."""


def any_number(model: str, prompt: Prompt) -> str:
    """Answer with a digit that depends on model, prompt and seed, and on nothing else."""
    digest = hashlib.sha256(f"{model}\n{prompt.seed}\n{prompt.text}".encode()).digest()
    return f"Answer: {digest[0] % 10}"


class ScriptedEngine:
    """Answers by a script; a token is a word."""

    label = f"scripted {__version__}"

    def __init__(self, model: ModelConfig, script: Script = any_number) -> None:
        self.model = model
        self.script = script
        self.context_length = model.context_length or 8192

    def render(self, messages: Sequence[Message]) -> str:
        """Write the chat as lines of `role: content`."""
        return "\n".join(f"{message['role']}: {message['content']}" for message in messages) + "\nassistant:"

    def count(self, text: str) -> int:
        """Count words."""
        return len(text.split())

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Ask the script for every prompt, and cut at `max_tokens` words and at the texts that end an answer."""
        completions = []
        for prompt in prompts:
            words = self.script(self.model.name, prompt).split(" ")
            cut = len(words) > self.model.max_tokens
            response, stopped = before_stop(" ".join(words[: self.model.max_tokens]), self.model.stop)
            completions.append(Completion(response, self.count(response), "length" if cut and not stopped else "stop"))
        return completions

    def close(self) -> None:
        """Nothing to free."""
