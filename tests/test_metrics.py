from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.metrics import METRICS, Reference, Score, choice_match, exact_match, numeric_match, token_f1

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
        ("A good question", 0),
        ("", 0),
    ],
)
def test_choices_by_letter_or_text_and_ambiguous_ones_score_0(response: str, value: float) -> None:
    assert choice_match(response, CAPITALS).value == value


@pytest.mark.parametrize("score", [metric.score for metric in METRICS.values()])
@given(response=st.text())
def test_every_metric_takes_any_text(score: Callable[[str, Reference], Score], response: str) -> None:
    assert 0 <= score(response, CAPITALS).value <= 1


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_the_reference_itself_scores_1(metric: object) -> None:
    scorer = METRICS[metric.name].score  # type: ignore[attr-defined]
    answer = "12" if scorer is numeric_match else "Paris"
    assert scorer(answer, Reference((answer,), CAPITALS.choices)).value == 1
