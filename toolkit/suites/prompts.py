"""From a context to chat messages (pure).

The wording of later hops is a *protocol*: named, versioned, and part of every node's key. A changed wording is a new
protocol, never an edit of an old one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict


class Message(TypedDict):
    """One chat message."""

    role: str
    content: str


class Turn(NamedTuple):
    """One few-shot example."""

    user: str
    assistant: str


Protocol = Callable[[str, Sequence[str]], str]
"""Writes the user message of a hop from the benchmark's prompt and the earlier answers, oldest first.

The models that gave the answers are never named.
"""


def _refine(prompt: str, answers: Sequence[str]) -> str:
    """Earlier answers and the request, then the prompt: for models that know nothing of chains.

    The prompt comes last: a small model keeps to the format of its few-shot examples only if what it reads last looks like
    them (docs/design/prompt-protocol.md has the figures).
    """
    if not answers:
        return prompt
    listed = "\n".join(f"{number}. {answer.strip()}" for number, answer in enumerate(answers, 1))
    request = "Keep what is right in them, mend what is wrong, and answer in the same format."
    return f"Earlier answers to the question below:\n{listed}\n\n{request}\n\n{prompt}"


def _append(prompt: str, answers: Sequence[str]) -> str:
    """The prompt, then an answer a line: for models that are trained to go on from earlier answers."""
    return "\n".join([prompt, *(f"Earlier answer: {answer.strip()}" for answer in answers)])


PROTOCOLS: dict[str, Protocol] = {"refine-v1": _refine, "append-v1": _append}


def messages(
    protocol: str, system_prompt: str | None, few_shot: Sequence[Turn], prompt: str, answers: Sequence[str]
) -> list[Message]:
    """Build the chat of one hop.

    Args:
        protocol: Name of a prompt protocol.
        system_prompt: System message of the model, if any.
        few_shot: Examples shown as earlier turns.
        prompt: The benchmark's prompt.
        answers: Responses along the path, oldest first.
    """
    chat: list[Message] = []
    if system_prompt is not None:
        chat.append({"role": "system", "content": system_prompt})
    for turn in few_shot:
        chat.append({"role": "user", "content": turn.user})
        chat.append({"role": "assistant", "content": turn.assistant})
    chat.append({"role": "user", "content": PROTOCOLS[protocol](prompt, answers)})
    return chat


class Fitted(NamedTuple):
    """A rendered prompt, its length in tokens, and how many of the oldest answers were left out of it."""

    text: str
    tokens: int
    dropped_answers: int
    fits: bool


def fit(
    render: Callable[[Sequence[str]], str], count: Callable[[str], int], answers: Sequence[str], room: int, drop: bool
) -> Fitted:
    """Render a context, leaving out the oldest answers until the prompt takes at most `room` tokens.

    Args:
        render: Rendered prompt for the given answers.
        count: Length of a rendered prompt in tokens.
        answers: Responses along the path, oldest first.
        room: Tokens that a prompt may take: the context length less the longest answer.
        drop: Whether answers may be left out at all.
    """
    for dropped in range(len(answers) + 1):
        text = render(answers[dropped:])
        tokens = count(text)
        if tokens <= room or not drop:
            return Fitted(text, tokens, dropped, tokens <= room)
    return Fitted(text, tokens, len(answers), False)


def context_text(prompt: str, answers: Sequence[str]) -> str:
    """Write a context as one text for an encoder: the prompt and the answers, a blank line between them."""
    return "\n\n".join([prompt, *answers])
