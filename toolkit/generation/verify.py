"""Verifies a cache: every key is derived again, every tree is complete, every score and embedding belongs to its text.

Reads the file and nothing else, and changes nothing. `toolkit.generation.verify_models` has the checks that need checkpoints.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from itertools import tee
from typing import Any, NamedTuple
from uuid import UUID

from toolkit.core.calls import call_each
from toolkit.store import Cache, check_rows, iterate_rows
from toolkit.suites.keys import generation_key, model_key, question_key, root_key
from toolkit.suites.loading import recorded_config
from toolkit.tasks.metrics import METRICS, Reference, checked_score

SCORE_TOLERANCE = 1e-9
"""Largest difference between a cached score and the metric's value."""

Record = dict[str, Any]
"""A row with its key under `key`."""
_recorded_config = lru_cache(maxsize=16)(recorded_config)


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        check: What was checked.
        rows: Number of rows checked.
        wrong: Number of rows that violate the check.
        example: Key of one that does, or None.
    """

    check: str
    rows: int
    wrong: int
    example: str | None


def verify(cache: Cache) -> list[Finding]:
    """Verify a whole cache.

    Raises:
        CacheError: The file cannot be opened as a cache.
    """
    findings = [Finding(check, *violations) for check, violations in check_rows(cache)]
    for check, query, derive in _DERIVED_KEYS:
        rows = ((record["key"], record["key"] == str(derive(record))) for record in iterate_rows(cache.query(query)))
        findings.append(count_violations(check, rows))
    return [
        *findings,
        count_violations("every score is what its metric gives", _scores(iterate_rows(cache.query("verified_scores")))),
    ]


def count_violations(check: str, rows: Iterable[tuple[str, bool]]) -> Finding:
    """Return the finding of a check from its rows: the key of each, and whether it is right."""
    checked, wrong = 0, []
    for row_key, is_right in rows:
        checked += 1
        if not is_right:
            wrong.append(row_key)
    return Finding(check=check, rows=checked, wrong=len(wrong), example=wrong[0] if wrong else None)


def _model_key(model: Record) -> UUID:
    return model_key(json.loads(model["identity"]))


def _question_key(question: Record) -> UUID:
    reference = _reference(question)
    return question_key(question["benchmark"], question["version"], question["item"], question["prompt"], reference)


def _generation_key(generation: Record) -> UUID:
    return generation_key(UUID(generation["model"]), generation["prompt"], generation["sample"])


def _root_key(tree: Record) -> UUID:
    return root_key(UUID(tree["question"]), _recorded_config(tree["config"]), tree["sample"])


_DERIVED_KEYS: list[tuple[str, str, Callable[[Record], UUID]]] = [
    ("every model's key is the hash of its identity", "verified_models", _model_key),
    ("every question's key is the hash of its content", "verified_questions", _question_key),
    ("every generation's key is the hash of model, prompt and sample", "verified_generations", _generation_key),
    ("every root's key is the hash of question, protocol, policy and sample", "verified_roots", _root_key),
]
"""Check, the query of its rows, and how their keys are derived."""


def _scores(scores: Iterable[Record]) -> Iterator[tuple[str, bool]]:
    """Compare scores with the metrics of this version of the toolkit; model-written code is not run."""
    metrics = {metric.label: metric for metric in METRICS.values() if not metric.runs_code}
    scorers = {label: partial(checked_score, metric.score) for label, metric in metrics.items()}
    known, again = tee(score for score in scores if score["metric"] in metrics)
    outcomes = call_each((scorers[score["metric"]], (score["response"], _reference(score))) for score in again)
    for score, outcome in zip(known, outcomes, strict=True):
        value = outcome.value.value if outcome.kind == "returned" else 0.0
        yield score["key"], outcome.kind != "raised" and abs(value - score["value"]) <= SCORE_TOLERANCE


def _reference(record: Record) -> Reference:
    return Reference.from_json(json.loads(record["reference"]))
