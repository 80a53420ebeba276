"""Finds the question in a prompt: the text of one document, without the few-shot examples and the chat template around it.

A router has to tell questions apart. Few-shot examples are alike for many questions and push the question itself out of what an
encoder reads; chat templates differ between models, so that one question would have several texts.
"""

import json
from collections.abc import Iterator
from typing import Any

MIN_TEXT = 12
"""Characters from which on the place of a text in a prompt is trusted; shorter ones also occur by chance."""


def document_text(prompt: str, document: Any) -> str:
    """Return the part of a prompt from the first to the last of a document's own texts, else the whole prompt.

    The last occurrence of each text counts, because examples come first. Short texts, such as choices, only extend the part to
    the right. What the prompt does not have, such as the reference answer, is never in the result.

    Args:
        prompt: What was sent to a model.
        document: The document of the data set: an object of texts, lists and other values.
    """
    texts = {text for text in map(str.strip, _texts(document)) if len(text) > 1}
    long = [(prompt.rindex(text), text) for text in texts if len(text) >= MIN_TEXT and text in prompt]
    if not long:
        return prompt.strip()
    start = min(position for position, _ in long)
    end = max(position + len(text) for position, text in long)
    return prompt[start : max([end, *(_end_of_last(text, prompt, start) for text in texts)])]


def _end_of_last(text: str, prompt: str, start: int) -> int:
    """Return where the last occurrence of a text as whole words ends, behind some position; -1 if there is none."""
    position = prompt.rfind(text, start)
    while position >= 0:
        end = position + len(text)
        if not prompt[position - 1 : position].isalnum() and not prompt[end : end + 1].isalnum():
            return end
        position = prompt.rfind(text, start, end - 1)
    return -1


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)


def last_user_message(prompt: Any) -> str:
    """Return the last message of the user if a prompt is a chat in JSON, as servers are sent it, else the prompt.

    Raises:
        TypeError: It is neither.
    """
    text = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if not isinstance(text, str):
        raise TypeError("a prompt is not a text")
    if not text.startswith("[{"):
        return text
    try:
        messages = [message["content"] for message in json.loads(text) if message["role"] == "user"]
    except (ValueError, KeyError, TypeError):
        return text
    return messages[-1] if messages and isinstance(messages[-1], str) else text
