"""RouteLLM's CSV files: truth values by model, a benchmark per file, no costs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.outcomes.wide import MODELS, QUESTIONS, RESPONSES, SCORES, read, recognized, write_csv, write_routellm
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.routellm import FORMAT


def test_rows_of_a_folder_with_a_file_per_benchmark(tmp_path: Path) -> None:
    rows = read(FORMAT, write_routellm(tmp_path))
    expected = {}
    for number, (_, question) in enumerate(QUESTIONS):
        benchmark, item = ("gsm8k", number + 1) if number < 3 else ("mmlu_anatomy", number - 2)
        for model in MODELS:
            response = RESPONSES[model][number] if number < 3 else None
            expected[benchmark, str(item), model] = (question, str(SCORES[model][number] == 1), response)
    assert {
        (row["benchmark"], row["item"], row["model"]): (row["question"], row["score"], row.get("response")) for row in rows
    } == expected
    assert len(rows) == len(expected)
    assert not {"cost", "prompt_tokens", "completion_tokens", "split"} & {name for row in rows for name in row}


def test_items_are_numbers_of_rows_across_parts_of_a_large_file(tmp_path: Path) -> None:
    count = 20_001
    questions = [f"question {number}" for number in range(1, count + 1)]
    frame = pl.DataFrame({"prompt": questions, "m": [number % 3 == 0 for number in range(count)]})
    frame.write_parquet(tmp_path / "big.parquet")
    assert recognized(tmp_path) == ["routellm"]
    rows = read(FORMAT, tmp_path)
    assert [(row["item"], row["question"]) for row in rows] == [
        (str(number), question) for number, question in enumerate(questions, 1)
    ]
    assert sum(row["score"] for row in rows) == len(range(0, count, 3))


def test_odd_names_and_missing_scores_stay_as_they_are(tmp_path: Path) -> None:
    models = ["a/b c", "x_response", "模型", "y", "y_response_response"]
    header = ["", "prompt", *models, "y_response"]
    path = write_csv(
        tmp_path / "t.csv", header, [[0, "q\n?", True, False, True, None, False, "text"], [1, "é", *[True] * 5, None]]
    )
    rows = read(FORMAT, path)
    assert list(dict.fromkeys(row["model"] for row in rows)) == ["a/b c", "x_response", "模型", "y"]
    assert [(row["score"], row.get("response")) for row in rows if row["model"] == "y"] == [(None, "text"), ("True", None)]
    assert rows[1]["place"] == "row 2 (line 4)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("question,m\nq,True\n", r"t\.csv is not RouteLLM: it has no prompt"),
        ("prompt\nq\n", "beside prompt it has the columns none"),
        ("prompt,model,score\nq,m,True\n", "beside prompt it has the columns"),
        ("prompt,m|x,y\nq,m,True\n", "beside prompt it has the columns"),
        ("prompt,m\nq,True\nr\n", r"row 2 \(line 3\) has 1 fields"),
        ("", "it has no prompt"),
    ],
)
def test_malformed_tables_are_refused_with_file_and_place(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(BenchmarkError, match=message) as error:
        read(FORMAT, path)
    assert str(path) in str(error.value)
