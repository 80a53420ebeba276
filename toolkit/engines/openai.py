"""Any server that speaks OpenAI's API, through the official client: vLLM, SGLang, llama.cpp, TGI, transformers serve, hosted.

A checkpoint whose weights the suite names is asked for completions of prompts that we render ourselves, so that its answers
have the keys that they would have here. A model known only by the name of its server (`served:NAME`) is sent the chat itself.
Time-outs and retries with backoff, which honour Retry-After, are the client's.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, Prompt, before_stop
from toolkit.suites.config import EngineConfig, ModelConfig
from toolkit.suites.prompts import Message
from toolkit.suites.weights import fetch

try:
    import openai
except ImportError:
    raise EngineError(
        "The engine openai needs the official client, which is not there. Install it: pip install 'hierrouter-toolkit[openai]'"
    ) from None

UNLIMITED = 2**31
"""Context length of a served model that the suite gives none for: the server refuses what does not fit."""


class OpenAIEngine:
    """One model at a server.

    Args:
        config: Of the engine; `server` says where and how.
        model: The model.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: The tokenizer cannot be had.
        EngineError: There is no API key, or the server does not know the model.
    """

    def __init__(self, config: EngineConfig, model: ModelConfig, workspace: Workspace) -> None:
        self.config = model
        self.server = config.server
        self.name = model.served or model.checkpoint.removeprefix("served:")
        url = model.url or self.server.url
        self.label = f"openai {openai.__version__} at {urlsplit(url).hostname}"
        self.client: Any = openai.OpenAI(
            base_url=url,
            api_key=_api_key(url, self.server.api_key),
            timeout=self.server.timeout,
            max_retries=self.server.retries,
        )
        self.chat: Any = None
        if not model.is_served:
            from toolkit.engines.tokenizer import ChatTokenizer

            self.chat = ChatTokenizer(model, fetch(model, workspace, tokenizer_only=True))
        self.context_length = self.chat.context_length if self.chat else model.context_length or UNLIMITED

    def render(self, messages: Sequence[Message]) -> str:
        """Render a chat with the model's chat template; for a served model, as the JSON that the server gets."""
        return str(self.chat.render(messages)) if self.chat else json.dumps(messages, ensure_ascii=False)

    def count(self, text: str) -> int:
        """Return the length of a text in tokens; 0 for a served model, whose server counts."""
        return int(self.chat.count(text)) if self.chat else 0

    def generate(self, prompts: Sequence[Prompt]) -> list[Completion | Failure]:
        """Ask for all answers, so many at a time; a prompt that fails is the only one that does.

        Raises:
            EngineError: The server refuses to work with us at all: a wrong key, an unknown model, not the suite's model.
        """
        with ThreadPoolExecutor(self.server.concurrency) as pool:
            return list(pool.map(self._answer, prompts))

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _answer(self, prompt: Prompt) -> Completion | Failure:
        try:
            return self._completion(self._ask(prompt))
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise EngineError(
                f"{self.client.base_url} refuses model {self.name!r}: {self._said(error)}. "
                f"Check url, served and the key in ${self.server.api_key}."
            ) from None
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            return Failure(self._said(error), True)
        except openai.APIStatusError as error:
            return Failure(self._said(error), error.status_code in (408, 409))
        except (openai.APIResponseValidationError, json.JSONDecodeError, _UnusableError) as error:
            return Failure(f"the server's reply is no completion: {error}", True)

    def _ask(self, prompt: Prompt) -> "_Reply":
        model = self.config
        settings: dict[str, Any] = {"model": self.name, "temperature": model.temperature, "extra_body": self.server.extra}
        if model.stop:
            settings["stop"] = list(model.stop)
        if model.temperature > 0:
            settings |= {"top_p": model.top_p, "seed": prompt.seed}
        if self.chat:
            asked = self.chat.tokens(prompt.text) if self.server.tokens else prompt.text
            completion = self.client.completions.create(prompt=asked, max_tokens=model.max_tokens, **settings)
            (choice,) = _usable(completion)
            text = choice.text
        else:
            settings[self.server.limit] = model.max_tokens
            completion = self.client.chat.completions.create(messages=json.loads(prompt.text), **settings)
            (choice,) = _usable(completion)
            text = choice.message.content or ""
        if not isinstance(text, str) or choice.finish_reason not in ("stop", "length"):
            raise _UnusableError(f"finish_reason {choice.finish_reason!r}")
        self._check_identity(completion, prompt)
        text, stopped = before_stop(text, model.stop)  # some servers leave the text that ends an answer in it
        return _Reply(text, "stop" if stopped else choice.finish_reason, completion.usage)

    def _check_identity(self, completion: Any, prompt: Prompt) -> None:
        """Refuse answers of another model than the suite's, or to another prompt than ours.

        Raises:
            EngineError: The server reports another model, another fingerprint than the suite pins, or another length.
        """
        if completion.model.partition("@")[0] != self.name:  # transformers serve appends @revision
            raise EngineError(
                f"{self.client.base_url} was asked for {self.name!r} and answers as {completion.model!r}. "
                f"An alias may move: name what it answers as, by served (checkpoint stays) or as served:{completion.model}."
            )
        wanted, found = self.config.fingerprint, completion.system_fingerprint
        if wanted and found != wanted:
            raise EngineError(
                f"{self.client.base_url} reports fingerprint {found!r} for {self.name!r}; the suite pins {wanted!r}. "
                "Its software or weights have changed: pin the new one, which generates anew, or go back to the old server."
            )

        if self.chat and completion.usage and completion.usage.prompt_tokens != prompt.tokens:
            raise EngineError(
                f"{self.client.base_url} read {completion.usage.prompt_tokens} tokens where the tokenizer of "
                f"{self.config.checkpoint} counts {prompt.tokens}: it has another tokenizer, adds marks of its own, or cuts "
                "what it has no room for (context_length = N under the model says how much it has). Under [engine.server], "
                "extra = { add_special_tokens = false } keeps vLLM from adding any, and tokens = true sends the tokenizer's "
                "numbers in place of text, to servers that take them (llama.cpp, vLLM)."
            )

    def _said(self, error: openai.APIError) -> str:
        """Say what went wrong in a line, in the server's words where it has any; it may repeat the key."""
        said = error.response.text if isinstance(error, openai.APIStatusError) else error.message
        message = " ".join(said.split())[:300].replace(self.client.api_key, "...")
        return f"{type(error).__name__}: {message}"

    def _completion(self, reply: "_Reply") -> Completion:
        """Count tokens by the tokenizer where there is one, else by what the server says.

        Raises:
            EngineError: Nobody counts.
        """
        if self.chat:
            return Completion(reply.text, self.chat.count(reply.text), reply.finish_reason)
        if reply.usage is None:
            raise EngineError(
                f"{self.client.base_url} does not say how many tokens {self.name!r} read and wrote, and costs need that. "
                "Use a server that reports usage, or name the checkpoint in place of served:, whose tokenizer counts."
            )
        return Completion(reply.text, reply.usage.completion_tokens, reply.finish_reason, reply.usage.prompt_tokens)


class _Reply(NamedTuple):
    text: str
    finish_reason: Literal["stop", "length"]
    usage: Any


class _UnusableError(Exception):
    """A reply that parses and yet is no answer."""


def _usable(completion: Any) -> list[Any]:
    choices = getattr(completion, "choices", None)
    if not choices or len(choices) != 1:
        raise _UnusableError(f"{len(choices or [])} choices")
    return list(choices)


def _api_key(url: str, variable: str) -> str:
    """Return the API key from the environment; servers on this machine or network often want none.

    Raises:
        EngineError: A hosted API without a key.
    """
    key = os.environ.get(variable, "")
    if not key and urlsplit(url).scheme == "https":
        raise EngineError(f"There is no key for {url}. Put it into the environment variable {variable}; it is never written.")
    return key or "none"
