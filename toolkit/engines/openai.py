"""Any server that speaks OpenAI's API, through the official client: vLLM, SGLang, llama.cpp, TGI, transformers serve, hosted.

If the suite names a model's checkpoint, the server completes prompts that are rendered here, so that its responses have the
keys that they would have with another engine. A model known only by its server's name (`served:NAME`) is sent the chat itself.
Timeouts and retries with backoff, which honour Retry-After, are the client's.
"""

import json
import os
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines.base import (
    Completion,
    Failure,
    FinishReason,
    Outcome,
    Prompt,
    library_required,
    truncate_at_stop,
)
from toolkit.engines.lanes import map_in_lanes
from toolkit.engines.replies import NoResponseError, Reply, Server
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig, ServerUrl
from toolkit.suites.prompts import Message
from toolkit.suites.section import Section
from toolkit.suites.weights import fetch
from toolkit.tasks.metrics import FILTERED

if TYPE_CHECKING:
    from toolkit.engines.tokenizer import ChatTokenizer

REQUIREMENT = "openai>=1.98"

UNKNOWN_CONTEXT_LENGTH = 2**31
"""Context length of a served model whose suite sets none: the server refuses prompts that do not fit."""


class ServerSettings(Section):
    """The server that the engine openai uses. The API key is read from the environment and written nowhere."""

    url: ServerUrl = Field("http://localhost:8000/v1", description="Base address of the server.")
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
    filtered: Literal["error", "zero"] = Field(
        "error",
        description="A prompt whose response a content filter withholds: error fails for good; zero counts as a response of "
        "quality 0.",
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

    @staticmethod
    def check_model(config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        """Check the model's chat template, as far as that needs no download."""
        if not model.is_served:
            from toolkit.engines.tokenizer import check_template

            check_template(model, workspace)

    def __init__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        with library_required("The engine openai", REQUIREMENT):
            import openai
        self.model = model
        self.settings = config.settings(ServerSettings)
        self.name = model.served or model.checkpoint.removeprefix("served:")
        url = model.url or self.settings.url
        self.label = f"openai {openai.__version__} at {urlsplit(url).hostname}"
        key = _api_key(url, self.settings.api_key)
        self.server = Server(url, self.name, self.settings.api_key, key, self.settings.timeout)
        self.client: Any = openai.OpenAI(
            base_url=url,
            api_key=key or "none",
            timeout=self.settings.timeout,
            max_retries=self.settings.retries,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        weakref.finalize(self, self.client.close)  # a guard drops an engine that hangs
        self._headers = {} if key else {"Authorization": openai.Omit()}
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
            EngineError: No prompt has a response, and the server refuses them all: a wrong key, an unknown model, or another
                model than the suite's. If some have responses, these are kept and the others fail for the time being.
        """
        refusals: list[EngineError] = []

        def send(prompt: Prompt) -> Outcome:
            try:
                return Failure(str(refusals[0]), True) if refusals else self._outcome(prompt)
            except EngineError as error:
                refusals.append(error)
                return Failure(str(error), True)
            except Exception as error:  # or the guard would send all prompts again to find this one
                return Failure(f"{self.server.url}: {type(error).__name__}: {self.server.quote(str(error))}", False)

        outcomes = map_in_lanes(send, prompts, self.settings.concurrency)
        if refusals and not any(isinstance(outcome, Completion) for outcome in outcomes):
            raise refusals[0]
        return outcomes

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _outcome(self, prompt: Prompt) -> Outcome:
        """Send a prompt.

        Raises:
            EngineError: The server refuses all prompts, or cannot be trusted with any.
        """
        import openai

        try:
            reply = self.server.read(self._send(prompt))
        except openai.APIError as error:
            explained = self.server.explain(error)
            if isinstance(explained, EngineError):
                raise explained from None
            return self._failure(explained)
        except NoResponseError as error:
            return self._failure(error)
        self._check_identity(reply, prompt)
        text, stopped = truncate_at_stop(reply.text, self.model.stop)  # some servers include the stop string
        finish_reason: FinishReason = "stop" if stopped else reply.finish_reason
        if self.chat:
            return Completion(text, self.chat.count(text), finish_reason, cached_tokens=reply.cached_tokens)
        completion_tokens = self.server.tokens(reply.usage, "completion_tokens", least=1 if reply.text else 0)
        prompt_tokens = self.server.tokens(reply.usage, "prompt_tokens", least=1)
        return Completion(text, completion_tokens, finish_reason, prompt_tokens, reply.cached_tokens)

    def _send(self, prompt: Prompt) -> bytes:
        """Send a prompt; return the body of the reply."""
        model = self.model
        fields: dict[str, Any] = {"model": self.name, "temperature": model.temperature, "extra_body": self.settings.extra}
        fields["extra_headers"] = self._headers
        if model.stop:
            fields["stop"] = list(model.stop)
        if model.temperature > 0:
            fields |= {"top_p": model.top_p, "seed": prompt.seed}
        if self.chat:
            content = self.chat.encode(prompt.text) if self.settings.tokens else prompt.text
            completions, fields["max_tokens"] = self.client.completions, model.max_tokens
            return bytes(completions.with_raw_response.create(prompt=content, **fields).content)
        fields[self.settings.limit] = model.max_tokens
        messages = json.loads(prompt.text)
        return bytes(self.client.chat.completions.with_raw_response.create(messages=messages, **fields).content)

    def _failure(self, error: NoResponseError) -> Outcome:
        """Return what becomes of a prompt without a response."""
        if not error.filtered or self.settings.filtered == "error":
            return Failure(str(error), error.transient, prompt_only=error.filtered)
        if self.chat:
            return Completion(FILTERED, self.chat.count(FILTERED), "content_filter")
        completion_tokens, prompt_tokens = (error.usage.get(name) or 0 for name in ("completion_tokens", "prompt_tokens"))
        return Completion(FILTERED, completion_tokens, "content_filter", prompt_tokens)

    def _check_identity(self, reply: Reply, prompt: Prompt) -> None:
        """Refuse responses of another model than the suite's, or to another prompt than ours.

        Raises:
            EngineError: The server reports another model, another fingerprint than the suite pins, or another length.
        """
        url, model = self.server.url, self.server.quote(str(reply.model))
        if not isinstance(reply.model, str):
            raise EngineError(
                f"{url} was asked for {self.name!r} and does not say which model responded. An alias can change its meaning: "
                "use a server that reports the model."
            )
        if reply.model.partition("@")[0] != self.name:  # transformers serve appends @revision
            raise EngineError(
                f"{url} was asked for {self.name!r} and responds as {model!r}. An alias can change its "
                f"meaning: use the name that it responds as, with served (keep checkpoint) or as served:{model}."
            )
        pinned = self.model.fingerprint
        if pinned and reply.fingerprint != pinned:
            raise EngineError(
                f"{url} reports fingerprint {self.server.quote(repr(reply.fingerprint))} for {self.name!r}; the suite pins "
                f"{pinned!r}. Its software or weights have changed: pin the new one, which generates anew, or go back to the "
                "old server."
            )
        prompt_tokens = reply.usage.get("prompt_tokens")
        if self.chat and prompt_tokens is not None and prompt_tokens != prompt.tokens:
            raise EngineError(
                f"{url} read {self.server.quote(repr(prompt_tokens))} tokens where the tokenizer of "
                f"{self.model.checkpoint} counts {prompt.tokens}. It uses another tokenizer, adds special tokens, or cuts "
                "prompts that are too long for it (set context_length = N under the model to its limit). Under "
                "[engine.server], extra = { add_special_tokens = false } keeps vLLM from adding any, and tokens = true sends "
                "token ids instead of text, to servers that accept them (llama.cpp, vLLM)."
            )


def _tokenizer(model: ModelConfig, workspace: Workspace) -> "ChatTokenizer":
    from toolkit.engines.tokenizer import ChatTokenizer

    return ChatTokenizer(model, fetch(model, workspace, tokenizer_only=True))


def _api_key(url: str, variable: str) -> str:
    """Return the API key from the environment; empty if it is not set, which servers on this machine or network often allow.

    Raises:
        EngineError: A hosted API has no key, or the key cannot be sent.
    """
    key = os.environ.get(variable, "").strip()
    if not key and urlsplit(url).scheme == "https":
        raise EngineError(
            f"{url} wants an API key, and the environment variable {variable} is not set. Set it (export {variable}=...); "
            "api_key under [engine.server] names another variable. The key is never written. If the server needs none, set "
            "it to any word."
        )
    if not key.isascii() or not key.isprintable():
        raise EngineError(
            f"The API key in the environment variable {variable} has characters that no key has, so that {url} cannot be "
            f"called. Copy the key again, and set it (export {variable}=...)."
        )
    return key
