from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.core.calls import call_each
from toolkit.tasks.metrics import METRICS, Metric, Reference, Score, checked_score
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


HALF = Checks("assert half(4) == 2", ("half",), 'import math\n\ndef half(x):\n    """Halve x."""\n')
PURE = [metric for metric in METRICS.values() if not metric.runs_code]


NUMBERS = st.text(st.sampled_from("0123456789.,eE+-/ \u00d7x*^{}\\$\u2212\uff11\u0663\u0301\u202e\x00\ud800\n"), max_size=30)
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=())),
    NUMBERS,
    NUMBERS.map("\\boxed{{{}}}".format),
    NUMBERS.map("Answer: {}".format),
)


@pytest.mark.parametrize("metric", PURE, ids=lambda metric: metric.name)
@settings(deadline=None)
@given(response=TEXTS, answer=TEXTS)
def test_every_metric_takes_any_text(metric: Metric, response: str, answer: str) -> None:
    assert 0 <= checked_score(metric.score, response, Reference((answer, "Paris"), ("Lyon", "Paris", answer))).value <= 1


HOSTILE_UNITS = (
    " ",
    "\n",
    "1",
    "a",
    "1,",
    "5 ",
    "-",
    "(",
    "\\boxed{",
    "answer ",
    "answer is ",
    "\\frac{1}",
    "1e",
    "3 x 10 ",
    "`",
    "#### ",
)
LONG = 100_000


@pytest.mark.parametrize("name", [*(metric.name for metric in PURE if metric.name != "math_equal"), "program"])
def test_the_work_for_a_long_response_grows_no_faster_than_its_length(name: str) -> None:
    """Each text takes milliseconds; with one quadratic pattern, it takes minutes, and the limit ends it."""
    function = program if name == "program" else METRICS[name].score
    reference = HALF if name == "program" else Reference(("5",), ("5", "5 and 6", "-5", "1"))
    texts = {
        (start, unit, end): start + unit * (LONG // len(unit)) + end
        for unit in HOSTILE_UNITS
        for start, end in (("", ""), ("answer", "x"), ("def f():\n", "A"))
    }
    outcomes = call_each(((function, (text, reference)) for text in texts.values()), cpu=20)
    assert {text: outcome for text, outcome in zip(texts, outcomes, strict=True) if outcome.kind != "returned"} == {}


@pytest.mark.parametrize(
    ("response", "answer", "value"),
    [
        ("It is 5.1e+07.", "51000000", 1),
        ("51,000,000", "5.1e+07", 1),
        ("7", "5.1e+07", 0),
        ("5.1E7", "5.1e+07", 1),
        ("2.5e-3", "0.0025", 1),
        ("-1e2", "-100", 1),
        ("1e0", "0", 0),
        ("about 5.1 \\times 10^{7} people", "51000000", 1),
        ("5.1 \u00d7 10^7", "51000000", 1),
        ("2*10**3", "2000", 1),
        ("3 x 10", "10", 1),
        ("1e5b", "5", 1),
        ("1.5/2", "0.75", 1),
        (".5/2", "0.25", 1),
        ("3e2/4", "75", 1),
        ("1" * 5000, "1" * 5000, 1),
        ("1" * 5000, "1" * 4999 + "2", 0),
        ("1" + "0" * 5000, "1e5000", 1),
        ("1e999999999", "1e999999999", 1),
        ("1e999999999", "1e999999998", 0),
        ("1e-999999999", "0", 0),
        ("0e" + "9" * 9, "0", 1),
        ("1e" + "9" * 5000, "1", 0),
        ("1" * 5000 + "/" + "3" * 5000, "1/3", 0),
        ("1 " + "2" * 5000 + "/" + "3" * 5000, "1", 0),
        ("inf", "1", 0),
        ("nan", "nan", 0),
        ("\uff15.\uff11", "5.1", 1),
        ("1/" + "0" * 99, "0", 0),
    ],
)
def test_numbers_in_every_notation_and_of_any_length(response: str, answer: str, value: float) -> None:
    assert checked_score(numeric_match, response, Reference((answer,))).value == value


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -0.1, 1.1, 10**400, None, "1", "one", [1.0]], ids=lambda value: repr(value)[:9]
)
def test_what_is_no_score_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        checked_score(lambda response, reference: Score(value, None), "", PARIS)
    with pytest.raises(TypeError, match="not a Score"):
        checked_score(lambda response, reference: value, "", PARIS)


def test_a_score_becomes_plain_values() -> None:
    score = checked_score(lambda response, reference: Score(True, 5, {"tries": 2}), "", PARIS)  # type: ignore[arg-type, dict-item]
    assert score == Score(1.0, "5", {"tries": "2"})
    assert type(score.value) is float


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
