"""How a value of a data file becomes text: the same text from CSV, JSON and Parquet, or a reason why it is none (pure).

Benchmark files and tables of results share these rules, so that one question has one key whichever file it comes from.
"""

import json
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from toolkit.core.text import is_well_formed

MAX_DIGITS = 1000
"""Longest number that is written out; no answer has more digits, and `1e999999` must not fill the memory."""


def text_of(value: object) -> str:
    """Write a value as text: numbers without exponent and without a trailing `.0`, chats and other nested values as below.

    Text stays as it is. `true` and `false` are written as in JSON, dates as in ISO 8601, a chat as `render_chat` does, and any
    other list or table as JSON.

    Raises:
        ValueError: The value is null, NaN, infinite, binary, or text that UTF-8 cannot express.
    """
    match value:
        case str():
            text = value
        case None:
            raise ValueError('is null; write "" for no text')
        case bool():
            text = "true" if value else "false"
        case int() | float() | Decimal():
            text = number_text(value)
        case datetime():
            text = str(value).removesuffix(" 00:00:00")
        case date() | time():
            text = value.isoformat()
        case list() | tuple() | dict():
            text = render_chat(value) if is_chat(value) else _json_text(value)
        case _:
            raise ValueError(f"is {type(value).__name__}, which is not text")
    if not is_well_formed(text):
        raise ValueError("has half of a surrogate pair (such as \\ud83d), which is not a character; correct the text")
    return text


def number_text(value: float | Decimal) -> str:
    """Write a number in plain decimal notation, integers without a fraction: `51000000` for 5.1e7, `0.5` for 0.5.

    Raises:
        ValueError: The number is NaN or infinite, or has more than `MAX_DIGITS` digits.
    """
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ValueError(f"is {value}, which is not a finite number")
    if abs(number.adjusted()) > MAX_DIGITS or len(number.as_tuple().digits) > MAX_DIGITS:
        raise ValueError(f"is a number of more than {MAX_DIGITS} digits; write it as text")
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def is_chat(value: object) -> bool:
    """Return whether a value is a chat: a list of messages, each with `role` and `content`."""
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(message, dict) and {"role", "content"} <= set(message) for message in value)
    )


def render_chat(value: object) -> str:
    r"""Write a chat as one text: a single user message as its content, others as `role: content`, a blank line between.

    A content may be a text or a list of parts `{"type": "text", "text": ...}`, which are joined by newlines.

    Raises:
        ValueError: The value is not a chat, or a message has something else than a role and text: a picture, a call of a tool.
    """
    if not is_chat(value):
        raise ValueError("is not a chat: a list of messages with role and content")
    messages: Any = value
    contents = [_message_text(message) for message in messages]
    if [message["role"] for message in messages] == ["user"]:
        return contents[0]
    return "\n\n".join(f"{message['role']}: {content}" for message, content in zip(messages, contents, strict=True))


def _message_text(message: dict[str, Any]) -> str:
    content = message["content"]
    if not isinstance(message["role"], str):
        raise ValueError(f"is a chat in which a role is {message['role']!r}, not a text")
    others = [name for name, value in message.items() if name not in ("role", "content", "id") and value]
    if others:
        raise ValueError(f"is a chat in which a message has {others[0]!r}, which has no place in a text; leave it out")
    if isinstance(content, str):
        return content
    if isinstance(content, list | tuple) and content:
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return "\n".join(texts)
    raise ValueError(f"is a chat in which a message of {message['role']!r} is not text")


def _json_text(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=text_of)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be written as text ({error})") from None
