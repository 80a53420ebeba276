"""RouterArena's cached results: one file per model, with nested scores, costs and tokens."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.outcomes.wide import (
    LARGE,
    MODELS,
    QUESTIONS,
    RESPONSES,
    SCORES,
    SMALL,
    cached_result,
    read,
    recognized,
    write_lines,
    write_routerarena,
)
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.routerarena import FORMAT


def test_rows_of_a_folder_with_a_file_per_model(tmp_path: Path) -> None:
    rows = read(FORMAT, write_routerarena(tmp_path))
    assert len(rows) == len(MODELS) * len(QUESTIONS)
    for row in rows:
        number = int(row["item"].rpartition("_")[2])
        assert (row["benchmark"], row["question"]) == QUESTIONS[number]
        assert row["item"] == f"{row['benchmark']}_sub ject_{number}"
        assert row["score"] == SCORES[row["model"]][number]
        assert row["response"] == RESPONSES[row["model"]][number]
        assert row["cost"] == pytest.approx((number + 1) / 1e6)
        assert (row["prompt_tokens"], row["completion_tokens"]) == (len(QUESTIONS[number][1]), number + 1)
        assert row["reference"] == str(number)
    assert {row["model"] for row in rows} == set(MODELS)


def test_the_name_of_the_file_is_the_model_if_rows_do_not_say(tmp_path: Path) -> None:
    rows = [cached_result(0, SMALL, llm_selected=None), cached_result(1, LARGE)]
    path = write_lines(tmp_path / "gpt-4.1 mini.jsonl", rows)
    compressed = tmp_path / "o1.v2.ndjson.gz"
    del rows[0]["llm_selected"]
    compressed.write_bytes(gzip.compress(write_lines(tmp_path / "copy.jsonl", rows[:1]).read_bytes()))
    assert [row["model"] for row in read(FORMAT, path, compressed)] == ["gpt-4.1 mini", LARGE, "o1.v2"]
    assert recognized(compressed) == ["routerarena"]


UNSCORED: list[dict[str, Any]] = [
    {"evaluation_result": None},
    {"evaluation_result": {"score": None, "metric": "x", "inference_cost": 0.1}},
    {"evaluation_result": {"score": 0.0, "metric": "error", "inference_cost": 0.0}},
    {"evaluation_result": {}, "token_usage": None},
    {"success": False, "generated_answer": "", "error": "timeout"},
]


@pytest.mark.parametrize("changes", UNSCORED)
def test_what_was_not_evaluated_has_no_score(changes: dict[str, Any], tmp_path: Path) -> None:
    [row] = read(FORMAT, write_lines(tmp_path / "m.jsonl", [cached_result(0, SMALL, **changes)]))
    assert row["score"] is None
    assert (row["model"], row["question"]) == (SMALL, QUESTIONS[0][1])


def test_scores_outside_and_references_that_are_lists_are_passed_on(tmp_path: Path) -> None:
    evaluation = {"score": -0.033, "metric": "meteor_score", "inference_cost": 0.0, "ground_truth": ["ä", 2]}
    rows = [cached_result(0, SMALL, global_index="GSM8K", evaluation_result=evaluation)]
    [row] = read(FORMAT, write_lines(tmp_path / "m.jsonl", rows))
    assert (row["benchmark"], row["item"]) == ("GSM8K", "GSM8K")
    assert (row["score"], row["cost"], row["reference"]) == (-0.033, 0.0, '["ä", 2]')


@pytest.mark.parametrize(
    ("changes", "missing", "message"),
    [
        ({}, "evaluation_result", r"row 2 is not RouterArena: it has no evaluation_result\."),
        ({}, "global_index", "it has no global_index"),
        ({"evaluation_result": 0.5}, "", "row 2 is not RouterArena: its evaluation_result is no object"),
        ({"token_usage": [1, 2]}, "", "row 2 is not RouterArena: its token_usage is no object"),
    ],
)
def test_other_nesting_is_refused_with_file_and_place(
    changes: dict[str, Any], missing: str, message: str, tmp_path: Path
) -> None:
    rows = [cached_result(0, SMALL), cached_result(1, SMALL, **changes)]
    rows[1].pop(missing, None)
    path = write_lines(tmp_path / "m.jsonl", rows)
    with pytest.raises(BenchmarkError, match=message) as error:
        read(FORMAT, path)
    assert str(path) in str(error.value)


def test_a_line_that_is_no_json_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", [cached_result(0, SMALL)])
    path.write_text(path.read_text("utf-8") + '{"global_index": \n', "utf-8")
    with pytest.raises(BenchmarkError, match=r"m\.jsonl, row 2 is not JSON"):
        read(FORMAT, path)
