"""What a server says to a completion request: a response, or why there is none.

Nothing in a reply is trusted to be there or to have the right type: servers differ, and proxies reply in their place. Whatever
is wrong with the server as a whole is an `EngineError`; what is wrong with one reply is a `NoResponseError`. Sends nothing.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Never

from toolkit.core.errors import EngineError
from toolkit.core.text import printable
from toolkit.engines.base import MAX_TOKENS

if TYPE_CHECKING:
    import openai

MAX_QUOTED = 300
"""Longest quotation of a server's words, in characters."""

TRANSIENT_STATUS = (408, 409, 425, 429)
"""HTTP errors below 500 that say nothing about the request."""
FILTER_CODES = {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}
"""What servers call an error by which a content filter refuses a prompt."""
CREDIT_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
"""What servers call an error that lasts until somebody pays."""
SETTING_CODES = {"unsupported_parameter", "unsupported_value", "unknown_parameter", "invalid_parameter"}
"""What servers call an error about a field that every request has."""


class NoResponseError(Exception):
    """A prompt has no response.

    Attributes:
        transient: Whether the server may respond to the same prompt later.
        filtered: Whether the server withheld the response because of what prompt or response say.
        usage: The counts of tokens that it reports, if any.
    """

    def __init__(self, reason: str, *, transient: bool, filtered: bool = False, usage: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.transient = transient
        self.filtered = filtered
        self.usage = usage or {}


class Reply(NamedTuple):
    """A reply with a response.

    Attributes:
        text: The response.
        finish_reason: Why it ended.
        model: The name under which the server responds, as it reports it.
        fingerprint: Its `system_fingerprint`, as it reports it.
        usage: Its counts of tokens, as it reports them.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    model: object
    fingerprint: object
    usage: Mapping[str, object]

    @property
    def cached_tokens(self) -> int | None:
        """Tokens of the prompt that the server had read before; None if it does not say so credibly."""
        details = self.usage.get("prompt_tokens_details")
        count = details.get("cached_tokens") if isinstance(details, dict) else None
        prompt_tokens = self.usage.get("prompt_tokens")
        credible = type(count) is int and isinstance(prompt_tokens, int) and 0 <= count <= prompt_tokens
        return count if credible else None


class Server(NamedTuple):
    """A server as messages name it.

    Attributes:
        url: Its base address.
        model: The name of the model that it is asked for.
        variable: Environment variable of the API key.
        key: The key, which is never quoted; empty if the variable is not set.
        timeout: Longest time that a request may take, in seconds.
    """

    url: str
    model: str
    variable: str
    key: str
    timeout: float

    def read(self, body: bytes) -> Reply:
        """Read the body of a reply to either endpoint.

        Raises:
            NoResponseError: It has no response.
        """
        text = body.decode("utf-8", "replace")
        try:
            reply = json.loads(text, strict=False, parse_int=_parse_int)
        except (ValueError, RecursionError):
            self._fail(
                f"replied with what is not JSON: {self.quote(text)!r}. The reply was cut off, or url leads to a web page or a "
                "proxy instead of the API"
            )
        choices = reply.get("choices") if isinstance(reply, dict) else None
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            number = f"{len(choices)} choices" if isinstance(choices, list) else "no choices"
            self._fail(
                f"replied with {number} where one response was requested: {self.quote(text)!r}. It does not speak OpenAI's "
                "API, or reports an error in its own way"
            )
        choice, usage = choices[0], reply.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return Reply(
            text=self._text(choice, usage),
            finish_reason=choice["finish_reason"],
            model=reply.get("model"),
            fingerprint=reply.get("system_fingerprint"),
            usage=usage,
        )

    def tokens(self, usage: Mapping[str, object], name: str, least: int) -> int:
        """Return a count of tokens that a server reports.

        Raises:
            EngineError: It is missing, not a whole number, or impossible.
        """
        count = usage.get(name)
        if isinstance(count, int) and not isinstance(count, bool) and least <= count <= MAX_TOKENS:
            return count
        reported = f"{name} = {self.quote(repr(count))}" if name in usage else f"no {name}"
        raise EngineError(
            f"{self.url} reports {reported} for {self.model!r}, and costs depend on how many tokens it read and wrote (here at "
            f"least {least}). Use a server that reports usage, or name a checkpoint instead of served:, whose tokenizer counts."
        )

    def explain(self, error: "openai.APIError") -> NoResponseError | EngineError:
        """Explain an error of the client: of one prompt, or of the server as a whole."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            return NoResponseError(
                f"{self.url} did not reply within {self.timeout:g} s. It is overloaded or hangs: set a longer timeout or less "
                "concurrency under [engine.server]",
                transient=True,
            )
        if isinstance(error, openai.APIStatusError):
            return self._explain_status(error)
        cause = error.__cause__ or error
        return NoResponseError(
            f"{self.url} cannot be reached: {self.quote(str(cause) or type(cause).__name__)}. Start the server, or correct url "
            "(under [engine.server], or of the model)",
            transient=True,
        )

    def quote(self, words: str) -> str:
        """Quote a server in one line, without the key, which it may repeat."""
        line = " ".join(words.split())
        return printable((line.replace(self.key, "...") if self.key else line)[:MAX_QUOTED])

    def _text(self, choice: dict[str, Any], usage: Mapping[str, object]) -> str:
        """Return the text of a choice.

        Raises:
            NoResponseError: It has none.
        """
        reason = choice.get("finish_reason")
        message = choice.get("message", choice)
        if not isinstance(message, dict):
            self._fail("replied without a message. It does not speak OpenAI's API")
        text = message.get("text" if message is choice else "content")
        if reason == "content_filter" or (not text and message.get("refusal")):
            words = self.quote(str(message.get("refusal") or "content filter"))
            raise self._withheld(repr(words), usage)
        if message.get("tool_calls") or message.get("function_call"):
            self._fail("replied with a call of a tool. Do not offer tools in extra under [engine.server]", transient=False)
        if not isinstance(text, str):
            self._fail(
                f"replied with {'null' if text is None else type(text).__name__} in place of a text (finish_reason "
                f"{self.quote(str(reason))!r}). A model that thinks first may have used up max_tokens: raise it, or turn "
                "thinking off (extra under [engine.server])",
                transient=False,
            )
        if reason not in ("stop", "length"):
            self._fail(f"ended the response with finish_reason {self.quote(str(reason))!r} instead of 'stop' or 'length'")
        return text

    def _fail(self, what: str, transient: bool = True) -> Never:
        raise NoResponseError(f"{self.url} {what}", transient=transient)

    def _withheld(self, words: str, usage: Mapping[str, object] | None = None) -> NoResponseError:
        reason = (
            f"{self.url} withheld the response ({words}). To count such prompts as responses of quality 0, set "
            'filtered = "zero" under [engine.server] and generate once with --retry'
        )
        return NoResponseError(reason, transient=False, filtered=True, usage=usage)

    def _explain_status(self, error: "openai.APIStatusError") -> NoResponseError | EngineError:
        status, text = error.status_code, error.response.text
        codes = _codes(error.body)
        words = f"HTTP {status}: {self.quote(_message(error.body) or text)!r}"
        if codes & FILTER_CODES:
            return self._withheld(words)
        if status == 402 or codes & CREDIT_CODES:
            return EngineError(f"{self.url} wants to be paid first ({words}). Add credit, then repeat the command.")
        if status in TRANSIENT_STATUS or status >= 500:
            return NoResponseError(f"{self.url} is overloaded or out of order ({words})", transient=True)
        if status in (401, 403):
            return EngineError(self._explain_refusal(words))
        if status < 400:
            address = self.quote(error.response.headers.get("location", ""))
            return EngineError(
                f"{self.url} redirects to {address!r} (HTTP {status}), and prompts are sent only where the suite says. "
                "Set url (under [engine.server], or of the model) to the new address."
            )
        if status in (404, 405):
            return EngineError(
                f"{self.url} has no model {self.model!r}, or no API at this address ({words}). Check served and url: most "
                "servers have the API under /v1, as in http://localhost:8000/v1."
            )
        if codes & SETTING_CODES:
            return EngineError(
                f"{self.url} does not accept a field of every request ({words}). Change it: extra and limit under "
                "[engine.server], or temperature, top_p and stop of the model."
            )
        return NoResponseError(f"{self.url} rejects the prompt ({words})", transient=False)

    def _explain_refusal(self, words: str) -> str:
        if not self.key:
            return (
                f"{self.url} wants an API key ({words}), and the environment variable {self.variable} is not set. "
                f"Set it (export {self.variable}=...); api_key under [engine.server] names another variable."
            )
        return (
            f"{self.url} refuses the API key in {self.variable} for model {self.model!r} ({words}). Set the right key (export "
            f"{self.variable}=...); api_key under [engine.server] names another variable."
        )


def _parse_int(digits: str) -> int | float:
    """Parse a number of any length; Python refuses integers of thousands of digits."""
    return int(digits) if len(digits) < 20 else float(digits)


def _error(body: object) -> object:
    """Return the error that a reply describes; OpenAI's client may have unpacked it already."""
    return body.get("error", body) if isinstance(body, dict) else body


def _message(body: object) -> str:
    error = _error(body)
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _codes(body: object) -> set[str]:
    """Return what a server calls an error, by its fields `code` and `type`, and those of the inner error."""
    error = _error(body)
    levels = [error, error.get("innererror")] if isinstance(error, dict) else []
    return {
        level[name]
        for level in levels
        if isinstance(level, dict)
        for name in ("code", "type")
        if isinstance(level.get(name), str)
    }
