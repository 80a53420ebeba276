"""Values of data files as text."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.text import is_well_formed
from toolkit.tasks.values import number_text, render_chat, text_of


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.integers(-(10**300), 10**300))
def test_numbers_have_no_exponent_and_keep_their_value(number: float) -> None:
    text = number_text(number)
    assert set(text) <= set("-.0123456789")
    assert type(number)(text) == number if isinstance(number, int) else float(text) == number
    assert not text.endswith(".0")
    assert text != "-0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.1e7, "51000000"),
        (1234567.5, "1234567.5"),
        (10**30, "1" + "0" * 30),
        (1e-7, "0.0000001"),
        (-0.0, "0"),
        (100, "100"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E+3"), "1000"),
        (True, "true"),
        ("007", "007"),
        ("1e3", "1e3"),
        ("a\0b\x1b[31m", "a\0b\x1b[31m"),
        (date(2024, 1, 5), "2024-01-05"),
        (datetime(2024, 1, 5), "2024-01-05"),  # as pandas writes a day to CSV
        (["é", 1, None], '["é", 1, null]'),
        ([{"role": "user", "content": "Hi"}], "Hi"),
    ],
)
def test_a_value_is_written_in_one_way(value: object, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    "value", [None, math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("1e999999"), 10**1001, b"x", "\ud83d", ["\udc00"]]
)
def test_what_is_no_text_is_refused_with_a_reason(value: object) -> None:
    with pytest.raises(ValueError, match=r"(is|has|written) "):
        text_of(value)


def test_a_chat_of_several_messages_names_the_roles() -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Add"}, {"type": "text", "text": "2 and 2"}], "id": "x"},
    ]
    assert render_chat(chat) == "system: Be brief.\n\nuser: Add\n2 and 2"


@pytest.mark.parametrize(
    "chat",
    [
        [],
        "text",
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}],
    ],
)
def test_a_chat_without_text_is_refused(chat: object) -> None:
    with pytest.raises(ValueError, match="chat"):
        render_chat(chat)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_any_value_becomes_text_that_can_be_stored_or_is_refused(value: object) -> None:
    try:
        text = text_of(value)
    except ValueError:
        return
    assert is_well_formed(text)
    if isinstance(value, str):
        assert text == value
    elif isinstance(value, list | dict):
        assert json.loads(text) == value
