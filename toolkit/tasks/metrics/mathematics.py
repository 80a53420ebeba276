"""The metric that compares mathematical expressions by symbolic equivalence (the `math-verify` package)."""

import threading

from toolkit.tasks.metrics.base import Metric, Reference, Score

TIMEOUT_SECONDS = 30


def math_equal(response: str, reference: Reference) -> Score:
    """Score 1 if the answer is symbolically equal to an accepted one, as `math-verify` parses and compares them."""
    from math_verify import parse, verify

    is_main = threading.current_thread() is threading.main_thread()
    seconds = TIMEOUT_SECONDS if is_main else None  # math-verify's timeout is a signal
    prediction = parse(response, parsing_timeout=seconds)
    is_right = any(
        verify(parse(f"\\boxed{{{answer}}}", parsing_timeout=seconds), prediction, timeout_seconds=seconds)
        for answer in reference.answers
    )
    return Score(float(is_right), _text(prediction[-1]) if prediction else None)


def _text(expression: object) -> str:
    """Return an expression as text, which Python refuses to make of numbers of thousands of digits."""
    try:
        return str(expression)
    except ValueError:
        return "a number of thousands of digits"


MATH_EQUAL = Metric("math_equal", 1, math_equal)
