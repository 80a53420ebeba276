"""From a context to chat messages (pure).

The wording of later hops is a *protocol*: named, versioned, and part of every node's key. A changed wording is a new
protocol, never an edit of an old one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict

from toolkit.core.text import well_formed
from toolkit.suites.models import Example


class Message(TypedDict):
    """One chat message."""

    role: str
    content: str


Protocol = Callable[[str, Sequence[str]], str]
"""Writes the user message of a hop from the benchmark's prompt and the earlier responses, oldest first.

The models that gave the responses are never named.
"""


def _refine(prompt: str, responses: Sequence[str]) -> str:
    """Write earlier responses and a request, then the prompt: for models that know nothing of chains.

    The prompt comes last because a small model keeps to the format of its few-shot examples only if the last thing it reads
    looks like them (docs/design/prompt-protocol.md has the figures).
    """
    if not responses:
        return prompt
    listed = "\n".join(f"{number}. {response.strip()}" for number, response in enumerate(responses, 1))
    request = "Keep what is right in them, mend what is wrong, and answer in the same format."
    return f"Earlier answers to the question below:\n{listed}\n\n{request}\n\n{prompt}"


def _append(prompt: str, responses: Sequence[str]) -> str:
    """Write the prompt, then a line for each response: for models that are trained to continue from earlier responses."""
    return "\n".join([prompt, *(f"Earlier answer: {response.strip()}" for response in responses)])


PROTOCOLS: dict[str, Protocol] = {"refine-v1": _refine, "append-v1": _append}


def messages(
    protocol: str, system_prompt: str | None, few_shot: Sequence[Example], prompt: str, responses: Sequence[str]
) -> list[Message]:
    """Build the chat of one hop; lone surrogates, which no tokenizer and no server takes, become U+FFFD.

    Args:
        protocol: Name of a prompt protocol.
        system_prompt: System message of the model, if any.
        few_shot: Examples shown as earlier turns.
        prompt: The benchmark's prompt.
        responses: Responses along the path, oldest first.
    """
    chat: list[Message] = []
    if system_prompt is not None:
        chat.append({"role": "system", "content": system_prompt})
    for example in few_shot:
        chat.append({"role": "user", "content": example.user})
        chat.append({"role": "assistant", "content": example.assistant})
    chat.append({"role": "user", "content": PROTOCOLS[protocol](prompt, responses)})
    return [{"role": message["role"], "content": well_formed(message["content"])} for message in chat]


class FittedPrompt(NamedTuple):
    """A rendered prompt.

    Attributes:
        text: The prompt.
        tokens: Its length in tokens.
        dropped_responses: How many of the oldest responses were left out of it.
        fits: Whether it is short enough.
    """

    text: str
    tokens: int
    dropped_responses: int
    fits: bool


def fit(
    render: Callable[[Sequence[str]], str], count: Callable[[str], int], responses: Sequence[str], max_tokens: int, drop: bool
) -> FittedPrompt:
    """Render a context, leaving out the oldest responses until the prompt has at most `max_tokens` tokens.

    Args:
        render: Renders the prompt, given the responses to show.
        count: Returns the length of a rendered prompt in tokens.
        responses: Responses along the path, oldest first.
        max_tokens: Longest prompt: the context length less the longest response.
        drop: Whether responses may be left out at all.
    """
    for dropped in range(len(responses) + 1):
        text = render(responses[dropped:])
        tokens = count(text)
        if tokens <= max_tokens or not drop:
            break
    return FittedPrompt(text, tokens, dropped, tokens <= max_tokens)
