from __future__ import annotations

from toolkit.suites.models import Example
from toolkit.suites.prompts import fit, messages


def test_the_first_hop_is_system_examples_and_question() -> None:
    assert messages("refine-v1", "Be brief.", [Example(user="1+1?", assistant="2")], "2+2?", []) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
    ]


def test_later_hops_name_earlier_answers_but_no_models() -> None:
    (message,) = messages("refine-v1", None, [], "2+2?", ["5 ", "4"])
    assert message["content"] == (
        "Earlier answers to the question below:\n1. 5\n2. 4\n\n"
        "Keep what is right in them, mend what is wrong, and answer in the same format.\n\n2+2?"
    )


def test_the_oldest_answers_are_left_out_until_the_context_fits() -> None:
    def render(answers: object) -> str:
        return " ".join(["q", *answers])  # type: ignore[misc]

    def count(text: str) -> int:
        return len(text.split())

    answers = ["a b", "c d", "e"]
    assert fit(render, count, answers, 6, drop=True) == ("q a b c d e", 6, 0, True)
    assert fit(render, count, answers, 5, drop=True) == ("q c d e", 4, 1, True)
    assert fit(render, count, answers, 1, drop=True) == ("q", 1, 3, True)
    assert fit(render, count, answers, 0, drop=True).fits is False
    assert fit(render, count, answers, 5, drop=False) == ("q a b c d e", 6, 0, False)
