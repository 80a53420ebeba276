"""Reads RouterArena's cached results: JSON lines, one file per model, with nested `evaluation_result` and `token_usage`.

The layout is that of github.com/RouteWorks/RouterArena (llm_inference/pipeline.py and llm_evaluation/evaluate_models.py). As
there, the benchmark of a question is its global_index up to the first underscore: `MMLUPro_law_806` is of MMLUPro.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.layouts import base_name, check_files, check_keys, files_of, plain_text, refusal, rows_from, some_match
from toolkit.outcomes.reading import first_object, read_objects

KINDS = (".jsonl", ".ndjson")
KEYS = ("global_index", "question", "generated_answer", "evaluation_result")
NO_SCORE = "error"
"""The metric of a response whose evaluation failed."""


class RouterArena:
    """Cached results of RouterArena."""

    title = "RouterArena"
    layout = f"JSON lines with {', '.join(KEYS)} and token_usage, one file per model"

    def recognizes(self, source: Source) -> bool:
        """Return whether the first object of a file is a cached result."""
        return some_match(files_of(source, KINDS), lambda file: set(KEYS) <= set(first_object(file)))

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield the rows, file by file."""
        files = files_of(source, KINDS)
        check_files(files, source, self)
        for file in files:
            yield from rows_from(file, ((place, self._row(file, place, entry)) for place, entry in read_objects(file)))

    def _row(self, file: Path, place: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        check_keys(file, place, self, entry, KEYS)
        index = plain_text(entry["global_index"]) or ""
        evaluation = self._nested(file, place, entry, "evaluation_result")
        tokens = self._nested(file, place, entry, "token_usage")
        has_score = entry.get("success", True) and evaluation.get("metric") != NO_SCORE
        return {
            "benchmark": index.partition("_")[0],
            "item": index,
            "question": entry["question"],
            "model": entry.get("llm_selected") or base_name(file),
            "score": evaluation.get("score") if has_score else None,
            "cost": evaluation.get("inference_cost"),
            "prompt_tokens": tokens.get("input_tokens"),
            "completion_tokens": tokens.get("output_tokens"),
            "response": entry["generated_answer"],
            "reference": plain_text(evaluation.get("ground_truth")),
        }

    def _nested(self, file: Path, place: str, entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        """Return a nested object, empty if it is null or not there.

        Raises:
            BenchmarkError: It is something else.
        """
        value = entry.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise refusal(file, place, self, f"its {name} is no object")
        return value


FORMAT = RouterArena()
