"""The engine protocol: all that the rest of the toolkit knows about an engine.

An engine has one model resident, knows its tokenizer, and generates one batch at a time. Nothing about it is part of a key:
the same weights respond under the same key whatever runs them.
"""

import operator
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol, get_args

from toolkit.core.errors import EngineError
from toolkit.core.text import well_formed
from toolkit.core.workspace import Workspace
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import Message

MAX_RESPONSE_CHARACTERS = 2**22
"""Longest response that is stored; a longer one is a fault of its engine and becomes a failure."""
MAX_REASON_CHARACTERS = 2000
"""Longest reason of a failure that is stored."""
MAX_TOKENS = 2**31 - 1
"""Largest count of tokens that the cache's columns hold."""


class Prompt(NamedTuple):
    """A prompt of a batch.

    Attributes:
        text: The rendered prompt.
        tokens: Its length in tokens.
        seed: Seed of its sampling noise, which follows from the key of its generation.
    """

    text: str
    tokens: int
    seed: int


FinishReason = Literal["stop", "length", "content_filter"]


class Completion(NamedTuple):
    """A model's response to one prompt.

    Attributes:
        response: The text, without stop strings and end-of-turn marks.
        completion_tokens: Length of `response` in tokens of the model's tokenizer.
        finish_reason: `stop` if the model ended its response, `length` if the response was cut off, `content_filter` if a
            server withheld it and the suite counts that as a response of quality 0 (`response` is `FILTERED`).
        prompt_tokens: Length of the prompt, if only the engine knows it.
        cached_tokens: Tokens of the prompt that the engine had read before, as the prefix of another prompt, if it counts them.
            Depends on what else is in the batch, and is stored nowhere.
    """

    response: str
    completion_tokens: int
    finish_reason: FinishReason
    prompt_tokens: int | None = None
    cached_tokens: int | None = None


class Failure(NamedTuple):
    """Why a prompt has no response.

    Attributes:
        reason: What happened, the likely cause and the remedy.
        transient: Whether the next run tries again without being asked to.
        prompt_only: Whether the cause is this prompt alone, so that the engine counts as working.
    """

    reason: str
    transient: bool
    prompt_only: bool = False


Outcome = Completion | Failure


def storable(outcome: Outcome) -> Outcome:
    """Return what a cache can store of an engine's outcome, so that no outcome can keep a batch from being committed.

    Lone surrogates become U+FFFD; all other text is kept. What is not a response with its tokens becomes a failure.
    """
    if isinstance(outcome, Failure):
        return outcome._replace(reason=well_formed(outcome.reason)[:MAX_REASON_CHARACTERS])
    if not isinstance(outcome, Completion) or not isinstance(outcome.response, str):
        return Failure("the engine returned something that is not a text with its tokens", False)
    if len(outcome.response) > MAX_RESPONSE_CHARACTERS:
        length = len(outcome.response)
        return Failure(f"the response has {length} characters; at most {MAX_RESPONSE_CHARACTERS} are stored", False)
    if outcome.finish_reason not in get_args(FinishReason):
        return storable(Failure(f"the engine ended the response with {str(outcome.finish_reason)[:99]!r}", False))
    try:
        completion_tokens = operator.index(outcome.completion_tokens)
        prompt_tokens = None if outcome.prompt_tokens is None else operator.index(outcome.prompt_tokens)
        cached_tokens = None if outcome.cached_tokens is None else operator.index(outcome.cached_tokens)
    except TypeError:
        completion_tokens = prompt_tokens = cached_tokens = -1
    if not all(0 <= count <= MAX_TOKENS for count in (completion_tokens, prompt_tokens or 0, cached_tokens or 0)):
        return Failure(f"the engine's counts of tokens are not whole numbers from 0 to {MAX_TOKENS}", False)
    return Completion(well_formed(outcome.response), completion_tokens, outcome.finish_reason, prompt_tokens, cached_tokens)


class BatchTooLargeError(Exception):
    """A batch does not fit into memory; a smaller one may."""


class TransientError(Exception):
    """An engine cannot respond now but may later, e.g. because its server is down or overloaded."""


class WorkerLostError(Exception):
    """The process that ran an engine is gone, and its batch with it; another process may take over."""


class Engine(Protocol):
    """One resident model.

    An engine may have a method `load()` that prepares its weights before the first batch, while another engine still works.
    `render` and `count` are called while a batch is generated, from another thread.
    """

    label: str
    """Engine and version, stored with every generation."""
    context_length: int
    """Longest prompt and response together, in tokens."""

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template, up to where the response begins."""
        ...

    def count(self, text: str) -> int:
        """Return the length of a rendered prompt or a response in tokens."""
        ...

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Outcome]:
        """Generate a response to every prompt of a batch, in order.

        An engine that knows which of its prompts failed returns a `Failure` in their place.

        Raises:
            BatchTooLargeError: The batch does not fit into memory.
            TransientError: There is no response now; the next run tries again.
        """
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...


class EngineClass(Protocol):
    """What `toolkit.core.registry.ENGINES` holds: a class of engines.

    The first line of its docstring is its help. Importing its module needs none of its third-party libraries; its constructor
    loads the tokenizer, and its first batch the weights.
    """

    default_batch_tokens: int
    """Tokens of a batch in suites that do not set `batch_tokens`."""
    needs_weights: bool
    """Whether the engine loads checkpoints itself, and therefore refuses models known only to a server (`served:NAME`)."""
    in_process: bool
    """Whether the weights lie in this process, so that its peak memory is theirs."""
    rounds: int
    """Batches that are handed over in one call, by default 1: more for an engine that starts waiting prompts as others end. Its
    engines have an attribute `batch_tokens`, the tokens to hold at a time, which is lowered when memory runs out; optional."""

    def machine(self, config: EngineConfig, model: ModelConfig) -> str:
        """Return where a model runs: a server's host, or this machine and its device (`this_machine`)."""
        ...

    def check_model(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        """Check what can be known of a model before anything is generated, and without a download; optional.

        Raises:
            ToolkitError: The engine cannot run the model.
        """
        ...

    def __call__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> Engine:
        """Open an engine for a model.

        Args:
            config: The suite's `[engine]` table; `config.settings(TYPE)` returns the table of the engine's own settings.
            model: The model.
            workspace: The suite file's folder, and the folder of downloads.
        """
        ...


OpenEngine = Callable[[EngineConfig, ModelConfig, Workspace], Engine]
"""The type of `toolkit.engines.open_engine`, in whose place tests pass their own."""


def this_machine(config: EngineConfig, model: ModelConfig) -> str:
    """Return the name of this machine, with its GPU or number of threads once PyTorch is in use."""
    torch = sys.modules.get("torch")
    if torch is None:
        return platform.node()
    if torch.cuda.is_available() and config.device != "cpu":
        return f"{platform.node()}, {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"{platform.node()}, {threads} thread{'s' * (threads > 1)}"


def truncate_at_stop(response: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Return a response up to the first stop string, and whether there was one."""
    positions = [position for position in map(response.find, stop) if position >= 0]
    return (response[: min(positions)], True) if positions else (response, False)


@contextmanager
def library_required(by: str, requirement: str) -> Iterator[None]:
    """Replace an `ImportError` by advice to install a library.

    Args:
        by: What needs the library, e.g. `The engine vllm`.
        requirement: The library and its lower bound, as pip takes it.

    Raises:
        EngineError: The library cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise EngineError(
            f"{by} needs a library that cannot be imported ({error}). Install it: pip install '{requirement}'"
        ) from None
