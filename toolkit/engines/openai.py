"""Any server that speaks OpenAI's API, through the official client: vLLM, SGLang, llama.cpp, TGI, transformers serve, hosted.

If the suite names a model's checkpoint, the server completes prompts that are rendered here, so that its responses have the
keys that they would have with another engine. A model known only by its server's name (`served:NAME`) is sent the chat itself.
Timeouts and retries with backoff, which honour Retry-After, are the client's.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines.base import Completion, Failure, Outcome, Prompt, library_required, truncate_at_stop
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import Message
from toolkit.suites.section import Section
from toolkit.suites.weights import fetch

if TYPE_CHECKING:
    import openai

    from toolkit.engines.tokenizer import ChatTokenizer

REQUIREMENT = "openai>=1.98"

UNKNOWN_CONTEXT_LENGTH = 2**31
"""Context length of a served model whose suite sets none: the server refuses prompts that do not fit."""
MAX_QUOTED = 300
"""Longest quotation of a server's error message, in characters."""


class ServerSettings(Section):
    """The server that the engine openai uses. The API key is read from the environment and written nowhere."""

    url: str = Field("http://localhost:8000/v1", description="Base address of the server.")
    api_key: str = Field("OPENAI_API_KEY", description="Environment variable that holds the API key.")
    concurrency: int = Field(16, ge=1, description="Number of requests at a time.")
    timeout: float = Field(120.0, gt=0, description="Longest time that a request may take, in seconds.")
    retries: int = Field(
        5, ge=0, description="How often a request is repeated, with backoff, while the server is overloaded or unreachable."
    )
    extra: dict[str, str | int | float | bool] = Field(
        {}, description="Further fields of every request, as the server defines them."
    )
    tokens: bool = Field(
        False,
        description="Send prompts as token ids instead of text, to a server whose tokenizer splits text differently "
        "(llama.cpp, vLLM).",
    )
    limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="Name of the request field that limits the response of a served model."
    )


class OpenAIEngine:
    """Sends prompts to a server that speaks OpenAI's API.

    Args:
        config: The suite's `[engine]` table; `[engine.server]` holds `ServerSettings`.
        model: The model.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: The tokenizer is not available.
        EngineError: The client is not installed, or there is no API key.
    """

    default_batch_tokens = 2**16  # the server forms its own batches from these
    needs_weights = False
    in_process = False

    @staticmethod
    def machine(config: EngineConfig, model: ModelConfig) -> str:
        """Return the host of a model's server."""
        return str(urlsplit(model.url or config.settings(ServerSettings).url).hostname)

    def __init__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        with library_required("The engine openai", REQUIREMENT):
            import openai
        self.model = model
        self.settings = config.settings(ServerSettings)
        self.name = model.served or model.checkpoint.removeprefix("served:")
        url = model.url or self.settings.url
        self.label = f"openai {openai.__version__} at {urlsplit(url).hostname}"
        self.client: Any = openai.OpenAI(
            base_url=url,
            api_key=_api_key(url, self.settings.api_key),
            timeout=self.settings.timeout,
            max_retries=self.settings.retries,
        )
        self.chat = None if model.is_served else _tokenizer(model, workspace)
        self.context_length = self.chat.context_length if self.chat else model.context_length or UNKNOWN_CONTEXT_LENGTH

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template; for a served model, as the JSON that its server receives."""
        return self.chat.render(messages) if self.chat else json.dumps(messages, ensure_ascii=False)

    def count(self, text: str) -> int:
        """Return the length of a text in tokens; 0 for a served model, whose server counts."""
        return self.chat.count(text) if self.chat else 0

    def generate(self, prompts: Sequence[Prompt]) -> list[Outcome]:
        """Send all prompts, `concurrency` at a time; a prompt that fails affects no other.

        Raises:
            EngineError: The server refuses every request: a wrong key, an unknown model, or another model than the suite's.
        """
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            return list(pool.map(self._generate_one, prompts))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _generate_one(self, prompt: Prompt) -> Outcome:
        import openai

        try:
            return self._completion(self._request(prompt))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise EngineError(
                f"{self.client.base_url} refuses model {self.name!r}: {self._describe(error)}. "
                f"Check url, served and the key in ${self.settings.api_key}."
            ) from None
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            return Failure(self._describe(error), True)
        except openai.APIStatusError as error:
            return Failure(self._describe(error), error.status_code in (408, 409))
        except (openai.APIResponseValidationError, json.JSONDecodeError, _UnusableReplyError) as error:
            return Failure(f"the server's reply is not a completion: {error}", True)

    def _request(self, prompt: Prompt) -> "_Reply":
        model = self.model
        fields: dict[str, Any] = {"model": self.name, "temperature": model.temperature, "extra_body": self.settings.extra}
        if model.stop:
            fields["stop"] = list(model.stop)
        if model.temperature > 0:
            fields |= {"top_p": model.top_p, "seed": prompt.seed}
        if self.chat:
            content = self.chat.encode(prompt.text) if self.settings.tokens else prompt.text
            reply = self.client.completions.create(prompt=content, max_tokens=model.max_tokens, **fields)
            choice = _only_choice(reply)
            text = choice.text
        else:
            fields[self.settings.limit] = model.max_tokens
            reply = self.client.chat.completions.create(messages=json.loads(prompt.text), **fields)
            choice = _only_choice(reply)
            text = choice.message.content or ""
        if not isinstance(text, str) or choice.finish_reason not in ("stop", "length"):
            raise _UnusableReplyError(f"finish_reason {choice.finish_reason!r}")
        self._check_identity(reply, prompt)
        text, stopped = truncate_at_stop(text, model.stop)  # some servers include the stop string
        return _Reply(text=text, finish_reason="stop" if stopped else choice.finish_reason, usage=reply.usage)

    def _check_identity(self, reply: Any, prompt: Prompt) -> None:
        """Refuse responses of another model than the suite's, or to another prompt than ours.

        Raises:
            EngineError: The server reports another model, another fingerprint than the suite pins, or another length.
        """
        if reply.model.partition("@")[0] != self.name:  # transformers serve appends @revision
            raise EngineError(
                f"{self.client.base_url} was asked for {self.name!r} and responds as {reply.model!r}. An alias can change its "
                f"meaning: use the name that it responds as, with served (keep checkpoint) or as served:{reply.model}."
            )
        pinned, reported = self.model.fingerprint, reply.system_fingerprint
        if pinned and reported != pinned:
            raise EngineError(
                f"{self.client.base_url} reports fingerprint {reported!r} for {self.name!r}; the suite pins {pinned!r}. "
                "Its software or weights have changed: pin the new one, which generates anew, or go back to the old server."
            )
        if self.chat and reply.usage and reply.usage.prompt_tokens != prompt.tokens:
            raise EngineError(
                f"{self.client.base_url} read {reply.usage.prompt_tokens} tokens where the tokenizer of "
                f"{self.model.checkpoint} counts {prompt.tokens}. It uses another tokenizer, adds special tokens, or cuts "
                "prompts that are too long for it (set context_length = N under the model to its limit). Under "
                "[engine.server], extra = { add_special_tokens = false } keeps vLLM from adding any, and tokens = true sends "
                "token ids instead of text, to servers that accept them (llama.cpp, vLLM)."
            )

    def _describe(self, error: "openai.APIError") -> str:
        """Describe an error in one line, in the server's words if possible, without the key, which a server may quote."""
        import openai

        text = error.response.text if isinstance(error, openai.APIStatusError) else error.message
        message = " ".join(text.split())[:MAX_QUOTED].replace(self.client.api_key, "...")
        return f"{type(error).__name__}: {message}"

    def _completion(self, reply: "_Reply") -> Completion:
        """Count tokens with the tokenizer if there is one, else take the server's count.

        Raises:
            EngineError: There is neither.
        """
        if self.chat:
            return Completion(reply.text, self.chat.count(reply.text), reply.finish_reason)
        if reply.usage is None:
            raise EngineError(
                f"{self.client.base_url} does not report how many tokens {self.name!r} read and wrote, which costs depend on. "
                "Use a server that reports usage, or name a checkpoint instead of served:, whose tokenizer counts."
            )
        return Completion(reply.text, reply.usage.completion_tokens, reply.finish_reason, reply.usage.prompt_tokens)


class _Reply(NamedTuple):
    text: str
    finish_reason: Literal["stop", "length"]
    usage: Any


class _UnusableReplyError(Exception):
    """A reply that parses and is no response."""


def _tokenizer(model: ModelConfig, workspace: Workspace) -> "ChatTokenizer":
    from toolkit.engines.tokenizer import ChatTokenizer

    return ChatTokenizer(model, fetch(model, workspace, tokenizer_only=True))


def _only_choice(reply: Any) -> Any:
    choices = getattr(reply, "choices", None) or []
    if len(choices) != 1:
        raise _UnusableReplyError(f"{len(choices)} choices")
    return choices[0]


def _api_key(url: str, variable: str) -> str:
    """Return the API key from the environment; servers on this machine or network often need none.

    Raises:
        EngineError: A hosted API has no key.
    """
    key = os.environ.get(variable, "")
    if not key and urlsplit(url).scheme == "https":
        raise EngineError(f"There is no key for {url}. Set the environment variable {variable}; the key is never written.")
    return key or "none"
