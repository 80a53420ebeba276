"""OpenAI's chat format: from a request to a question, from a route to a completion or its chunks, and errors (pure)."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from toolkit.core.errors import NoResponseError, ToolkitError
from toolkit.core.text import well_formed
from toolkit.routing.route import Hop, Route

ROLES = {"user": "User", "assistant": "Assistant"}
"""Roles whose messages become part of a question, as a question of several turns names them."""
INSTRUCTIONS = ("system", "developer")
"""Roles whose messages are ignored, because each model of a pool has its own system prompt."""
IGNORED = (
    "frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "presence_penalty", "reasoning_effort", "seed",
    "stop", "temperature", "top_p",
)  # fmt: skip
"""Parameters that are ignored, because decoding is part of a model's key."""
UNSUPPORTED = ("audio", "function_call", "functions", "logprobs", "modalities", "tools", "top_logprobs", "web_search_options")
"""Parameters that are refused, unless they are absent, empty or false."""
PIECE = re.compile(r"\s*\S+\s*")
"""What a chunk of a streamed response holds."""
OPENING = {"role": "assistant", "content": ""}
"""How the first chunk of a streamed response begins."""
BAD_REQUEST = 400
"""Status of a request that is not understood."""


class ChatError(Exception):
    """A request that gets no completion, with the status and the fields of the error.

    Attributes:
        status: Status of the HTTP response.
        param: The parameter that is wrong, if one is.
        code: What went wrong, for programs.
        retry_after: Seconds after which to try again, if that may help.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def to_json(self) -> dict[str, Any]:
        """Return the error in OpenAI's format."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class ChatRequest(NamedTuple):
    """What a request asks for.

    Attributes:
        question: The question.
        stream: Whether the completion is streamed.
        include_usage: Whether the stream ends with the numbers of tokens.
        ignored: Parameters and roles that have no effect.
    """

    question: str
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]


def parse(body: Any, models: tuple[str, ...]) -> ChatRequest:
    """Read the JSON of a request.

    Args:
        body: The JSON.
        models: Names under which the router is served.

    Raises:
        ChatError: It is no request for a chat completion, or for one that a router cannot give.
    """
    if not isinstance(body, dict):
        raise ChatError(BAD_REQUEST, "The body is not a JSON object.")
    model = body.get("model")
    if not isinstance(model, str):
        raise ChatError(BAD_REQUEST, "model is missing; it is the name of the router: see /v1/models.", param="model")
    if model not in models:
        message = f"The model {model!r:.200} does not exist; this server has {', '.join(models)}."
        raise ChatError(404, message, param="model", code="model_not_found")
    _check_supported(body)
    stream, options = body.get("stream") or False, body.get("stream_options") or {}
    if not isinstance(stream, bool) or not isinstance(options, dict):
        raise ChatError(BAD_REQUEST, "stream is true or false, and stream_options an object.", param="stream")
    messages = body.get("messages")
    ignored = [name for name in IGNORED if body.get(name) is not None]
    question, roles = _question(messages)
    ignored += [f"messages of the role {role}" for role in INSTRUCTIONS if role in roles]
    return ChatRequest(question, stream, bool(options.get("include_usage")), tuple(ignored))


def _check_supported(body: Mapping[str, Any]) -> None:
    """Refuse what would change the response in a way that a router cannot.

    Raises:
        ChatError: The request has such a parameter.
    """
    response_format = body.get("response_format") or {}
    unsupported = [name for name in UNSUPPORTED if body.get(name) and body.get(name) != ["text"]]
    if body.get("n") not in (None, 1):
        unsupported.append("n")
    if not isinstance(response_format, dict) or response_format.get("type", "text") != "text":
        unsupported.append("response_format")
    for name in unsupported:
        message = f"{name} is not supported: a router returns one text, as its models write it. Leave {name} out."
        raise ChatError(BAD_REQUEST, message, param=name, code="unsupported_parameter")


def _question(messages: Any) -> tuple[str, set[str]]:
    """Return the question that a chat asks, and the roles in it.

    A single message of the user is the question, word for word. Earlier turns are written before the last message, one
    paragraph each, and named by their roles.

    Raises:
        ChatError: The messages are no chat, or do not end with one of the user.
    """
    if not isinstance(messages, list) or not messages:
        raise ChatError(BAD_REQUEST, "messages is missing, or not a list of at least one message.", param="messages")
    turns: list[tuple[str, str]] = []
    roles = set()
    for number, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in (*ROLES, *INSTRUCTIONS):
            allowed = ", ".join((*ROLES, *INSTRUCTIONS))
            message_text = f"messages[{number}] has the role {role!r:.200}; allowed: {allowed}."
            raise ChatError(BAD_REQUEST, message_text, param="messages")
        roles.add(role)
        text = _text(message.get("content"), number)
        if role in ROLES:
            turns.append((role, text))
    if not turns or turns[-1][0] != "user" or not turns[-1][1].strip():
        raise ChatError(BAD_REQUEST, "The last message is not a text of the user, which is the question.", param="messages")
    if len(turns) == 1:
        return turns[0][1], roles
    return "\n\n".join(f"{ROLES[role]}: {text}" for role, text in turns), roles


def _text(content: Any, number: int) -> str:
    """Return the text of a message's content: a text, or a list of parts that are texts.

    Raises:
        ChatError: It is something else.
    """
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise ChatError(BAD_REQUEST, f"messages[{number}] has no text as its content.", param="messages")
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ChatError(BAD_REQUEST, f"messages[{number}] has a part that is not text.", param="messages")
    return well_formed("\n".join(part["text"] for part in parts))


class Completion:
    """Writes the completion of one request, whole or in chunks.

    Args:
        model: Name of the router.
        request: The request.
    """

    def __init__(self, model: str, request: ChatRequest) -> None:
        self._request = request
        self._head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, route: Route) -> dict[str, Any]:
        """Return a route as a completion, with the path, the hops and the cost under `routing`."""
        message = {"role": "assistant", "content": route.response, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(route)}
        return self._head | {
            "object": "chat.completion",
            "choices": [choice],
            "usage": _usage(route),
            "routing": self._routing(route),
        }

    def hop_chunk(self, number: int, hop: Hop) -> dict[str, Any]:
        """Return a hop, from 1, as a chunk without content."""
        return self._chunk(OPENING if number == 1 else {}) | {"routing": {"hop": number} | hop.to_json()}

    def final_chunks(self, route: Route) -> Iterator[dict[str, Any]]:
        """Yield the final response in pieces, then how it ended with the whole route, then the tokens if they are wanted."""
        if not route.hops:
            yield self._chunk(OPENING)
        for piece in PIECE.findall(route.response) or [route.response]:
            yield self._chunk({"content": piece})
        yield self._chunk({}, _finish_reason(route)) | {"routing": self._routing(route)}
        if self._request.include_usage:
            yield self._chunk({}) | {"choices": [], "usage": _usage(route)}

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._head | {"object": "chat.completion.chunk", "choices": [choice]}

    def _routing(self, route: Route) -> dict[str, Any]:
        return route.to_json() | {"ignored": list(self._request.ignored)}


def _finish_reason(route: Route) -> str:
    return (route.hops[-1].response.finish_reason if route.hops else None) or "stop"


def _usage(route: Route) -> dict[str, int]:
    """Return the tokens of all hops."""
    tokens = route.prompt_tokens, route.completion_tokens
    return {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}


def error_of(error: Exception) -> ChatError:
    """Return the error of a request whose route failed."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, NoResponseError):
        if error.overlength:
            return ChatError(BAD_REQUEST, str(error), param="messages", code="context_length_exceeded")
        if error.transient:
            return ChatError(503, str(error), code="engine_unavailable", retry_after=1)
        return ChatError(502, str(error), code="no_response")
    if isinstance(error, ToolkitError):
        return ChatError(502, str(error), code=type(error).__name__)
    return ChatError(500, "The server failed on this request; its log says why.", code="internal_error")
