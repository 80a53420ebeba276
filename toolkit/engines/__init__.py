"""Engines: what turns rendered prompts into responses. Known to the rest only by the protocol below.

An engine has one model resident, knows its tokenizer, and generates one batch at a time. Nothing about it is part of a
key: the same model answers under the same key whatever runs it.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from toolkit.core.workspace import Workspace
from toolkit.suites.config import EngineConfig, ModelConfig
from toolkit.suites.prompts import Message


class Prompt(NamedTuple):
    """A rendered prompt, its length, and the seed of its sampling noise."""

    text: str
    tokens: int
    seed: int


class Completion(NamedTuple):
    """What a model answered to one prompt.

    Attributes:
        response: The text, stop strings and end-of-turn mark left out.
        completion_tokens: Length of `response` by the model's tokenizer.
        finish_reason: stop where the model ended its answer, length where it was cut.
        prompt_tokens: Length of the prompt, where only the engine knows it.
    """

    response: str
    completion_tokens: int
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int | None = None


class Failure(NamedTuple):
    """Why there is no answer, and whether another run may have more luck without being asked to."""

    reason: str
    transient: bool


def before_stop(response: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return a response up to the first of the texts that end it, and whether there was one."""
    cuts = [at for at in (response.find(text) for text in stop) if at >= 0]
    return (response[: min(cuts)], True) if cuts else (response, False)


class BatchTooLargeError(Exception):
    """A batch does not fit into memory; a smaller one may."""


class TransientError(Exception):
    """An engine cannot answer now, but may later: a server that is away or overloaded."""


class LostError(Exception):
    """What ran an engine is gone, and what was asked of it with it; another may answer."""


class Engine(Protocol):
    """One resident model."""

    label: str
    """Engine and version, kept with every generation."""
    context_length: int
    """Tokens of prompt and response together."""

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template, up to where the answer begins."""
        ...

    def count(self, text: str) -> int:
        """Return the length of a rendered prompt or a response in tokens."""
        ...

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Completion | Failure]:
        """Answer a batch, in order; an engine that knows which of its prompts failed says so in their place.

        Raises:
            BatchTooLargeError: The batch does not fit into memory.
            TransientError: There is no answer now; the next run asks again.
        """
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...


def open_engine(config: EngineConfig, model: ModelConfig, workspace: Workspace) -> Engine:
    """Make a model resident: its tokenizer at once, its weights with the first batch.

    Args:
        config: Which engine, on which device.
        model: The model.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: The weights cannot be had.
        EngineError: The device or the server is not there.
    """
    if config.name == "scripted":
        from toolkit.engines.scripted import ScriptedEngine

        return ScriptedEngine(model)
    if config.name == "openai":
        from toolkit.engines.openai import OpenAIEngine

        return OpenAIEngine(config, model, workspace)
    if config.name == "vllm":
        from toolkit.engines.vllm import VllmEngine

        return VllmEngine(config, model, workspace)
    from toolkit.engines.transformers import TransformersEngine

    return TransformersEngine(config, model, workspace)


OpenEngine = Callable[[EngineConfig, ModelConfig, Workspace], Engine]
"""What `open_engine` is; tests give others."""
