"""Text from outside, as it is stored and as it is printed."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from toolkit.core.text import is_well_formed, printable, well_formed

ANY_TEXT = st.text(st.characters(codec=None))
"""All of Unicode, lone surrogates included."""


@given(ANY_TEXT)
def test_well_formed_text_can_be_stored_and_stays_as_it_is(text: str) -> None:
    stored = well_formed(text)
    assert stored.encode().decode() == stored
    assert len(stored) == len(text)
    assert is_well_formed(stored)
    assert (stored == text) == is_well_formed(text)


@given(ANY_TEXT)
def test_printed_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in shown if char not in "\t\n")
    assert not any(
        unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"} for char in shown
    )


def test_escapes_are_legible() -> None:
    assert printable("a\x1b[31mred\r\x00\u202e\ud83d") == r"a\x1b[31mred\r\x00\u202e\ud83d"
    assert printable("naïve 千问\n\tx") == "naïve 千问\n\tx"
