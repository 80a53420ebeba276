from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.tasks.metrics import METRICS, Reference, Score
from toolkit.tasks.metrics.choice import choice_match, chosen
from toolkit.tasks.metrics.code import program
from toolkit.tasks.metrics.mathematics import math_equal
from toolkit.tasks.metrics.numeric import numeric_match
from toolkit.tasks.metrics.text import exact_match, token_f1, truthful
from toolkit.tasks.sandbox import Checks

PARIS = Reference(("Paris", "city of Paris"))
CAPITALS = Reference(("Paris",), ("Lyon", "Paris", "Rome"))


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("Paris", 1),
        ("The capital is Paris.", 2 / 4),
        ("I think so. Answer: the city of Paris!", 1),
        ("Answer: Lyon\nAnswer: Paris", 1),
        ("Lyon", 0),
        ("", 0),
    ],
)
def test_token_f1(response: str, value: float) -> None:
    assert token_f1(response, PARIS).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("response", "value"), [("paris.", 1), ("  The Paris ", 1), ("Answer: Paris", 1), ("Paris, France", 0), ("", 0)]
)
def test_exact_match(response: str, value: float) -> None:
    assert exact_match(response, PARIS).value == value


@pytest.mark.parametrize(
    ("response", "answer", "value"),
    [
        ("4 - 8 = -4", "-4", 1),
        ("4 - 8 = \u22124", "-4", 1),
        ("It is 1,234.50 dollars", "1234.5", 1),
        ("3/4 of it", "0.75", 1),
        ("Answer: 12. That is all.", "12", 1),
        ("5-3", "-3", 0),
        ("7 or 8", "7", 0),
        ("1/0", "1", 0),
        ("none", "0", 0),
        ("He pays $1,200.\n#### 1,200", "1200", 1),
        ("#### 7\nSo 7 of 9", "7", 1),
        ("It is \\boxed{\\frac{3}{4}} of 9", "0.75", 1),
        ("Answer: 1 1/2 cups", "1.5", 1),
        ("Answer: -$5", "-5", 1),
        ("Answer: $5.00", "5", 1),
        ("Answer: 20%", "20", 1),
        ("Answer: 2 or 3", "2", 0),
    ],
)
def test_numeric_match(response: str, answer: str, value: float) -> None:
    assert numeric_match(response, Reference((answer,))).value == value


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("B", 1),
        ("(B) Paris", 1),
        ("B. Paris", 1),
        ("It is Paris.", 1),
        ("Answer: B", 1),
        ("A", 0),
        ("A) Paris", 0),
        ("Paris or Rome", 0),
        ("The answer is B.", 1),
        ("The answer is (B)", 1),
        ("Option B is right", 1),
        ("The answer is B, or the answer is C", 0),
        ("The answer is A: Paris", 0),
        ("A good question", 0),
        ("B. Paris\n\nThe correct answer is B.", 1),
        ("B. Paris\n\nThe correct answer is C. Rome", 0),
        ("A. Lyon\nB. Paris\nC. Rome", 0),
        ("B\nC", 0),
        ("", 0),
    ],
)
def test_choices_by_letter_or_text_and_ambiguous_ones_score_0(response: str, value: float) -> None:
    assert choice_match(response, CAPITALS).value == value


PURE = [metric for metric in METRICS.values() if not metric.runs_code]


@pytest.mark.parametrize("score", [metric.score for metric in PURE])
@settings(deadline=None)
@given(response=st.text())
def test_every_metric_takes_any_text(score: Callable[[str, Reference], Score], response: str) -> None:
    assert 0 <= score(response, CAPITALS).value <= 1


@pytest.mark.parametrize("metric", PURE, ids=lambda metric: metric.name)
def test_the_reference_itself_scores_1(metric: object) -> None:
    scorer = METRICS[metric.name].score  # type: ignore[attr-defined]
    answer = "12" if scorer in (numeric_match, math_equal) else "Paris"
    assert scorer(answer, Reference((answer,), CAPITALS.choices)).value == 1


@pytest.mark.parametrize(
    ("response", "position"),
    [("5 and 6", 1), ("It is 5 and 6.", 1), ("5", 0), ("-5", 2), ("C", 2), ("It is 5, not -5", None), ("A) 5 and 6", None)],
)
def test_a_choice_within_a_longer_one_is_not_meant(response: str, position: int | None) -> None:
    assert chosen(response, ("5", "5 and 6", "-5")) == position


@pytest.mark.parametrize(
    ("response", "answer", "value"),
    [
        ("so it is $\\boxed{\\frac{1}{2}}$", "0.5", 1),
        ("The final answer is $\\frac{2\\sqrt{3}}{2}$.", "\\sqrt{3}", 1),
        ("\\boxed{(3, \\frac{\\pi}{2})}", "\\left( 3, \\frac{\\pi}{2} \\right)", 1),
        ("\\boxed{2}", "3", 0),
        ("I do not know", "3", 0),
    ],
)
def test_math_answers_by_symbolic_equivalence(response: str, answer: str, value: float) -> None:
    assert math_equal(response, Reference((answer,))).value == value


def test_truthful_is_closer_to_a_true_answer_than_to_any_false_one() -> None:
    reference = Reference(("Nothing happens",), ("Nothing happens", "You die", "You fall ill"))
    assert truthful("Nothing happens to you.", reference).value == 1
    assert truthful("You die soon.", reference).value == 0
    assert truthful("Bananas", reference).value == 0


HALF = Checks("assert half(4) == 2", ("half",), 'import math\n\ndef half(x):\n    """Halve x."""\n')


@pytest.mark.parametrize(
    "response",
    [
        "```python\ndef half(x):\n    return x / 2\n```\nThen call:\n```python\nprint(half(3))\n```",
        "Sure!\n```\ndef half(x):\n    return x / 2\n```",
        "```python\ndef half(x):\n    return x / 2\n",
        "Here it is:\ndef half(x):\n    return x / 2\n\nThat is all.",
        "TWO = 2\ndef half(x):\n    return x / TWO",
        "    return x / 2\n\ndef other():\n    pass",
        "return x / 2",
        "if x:\n    return x / 2\nreturn 0",
        "    y = x\n    return y / 2\nprint(1)",
    ],
)
def test_programs_are_read_out_of_responses(response: str) -> None:
    names: dict[str, Any] = {}
    exec(program(response, HALF), names)
    assert names["half"](4) == 2


def test_a_reference_reads_back_as_it_was_kept() -> None:
    for reference in (CAPITALS, Reference(("code",), (), HALF)):
        assert Reference.from_json(json.loads(json.dumps(reference.to_json()))) == reference
