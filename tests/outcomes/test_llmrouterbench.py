"""Result files of LLMRouterBench: records by data set, split and model, the newest of several."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.outcomes.wide import DATA, LARGE, MODELS, QUESTIONS, RESPONSES, SCORES, SMALL, read, recognized
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.llmrouterbench import FORMAT

BENCH = DATA / "llmrouterbench/bench"


def record(**changes: Any) -> dict[str, Any]:
    """Return a record with all keys that LLMRouterBench writes."""
    return {
        "index": 1, "origin_query": "q", "prompt": "q\nAnswer:", "prompt_tokens": 3, "completion_tokens": 2, "cost": 0.1,
        "score": 1.0, "prediction": "p", "ground_truth": "a", "raw_output": "raw", "extra_fields": {},
    } | changes  # fmt: skip


def write(path: Path, records: list[Any], **changes: Any) -> Path:
    """Write a result file."""
    document = {"performance": 1.0, "counts": 1, "model_name": "m", "dataset_name": "d", "split": "test", "demo": False}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(document | changes | {"records": records}).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_rows_of_a_folder_that_llmrouterbench_wrote(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "toolkit"):
        rows = read(FORMAT, BENCH)
    assert len(rows) == len(MODELS) * len(QUESTIONS)
    for row in rows:
        split, _, index = row["item"].partition("-")
        number = int(index) - 1 + (3 if row["benchmark"] == "words" else 0)
        benchmark, question = QUESTIONS[number]
        assert (split, row["benchmark"], row["question"]) == ("test", benchmark, f"{question}\nAnswer:")
        is_unscored = (row["model"], number) == (SMALL, 4)  # null in the newest file
        assert row["score"] == (None if is_unscored else SCORES[row["model"]][number])
        assert row["response"] == RESPONSES[row["model"]][number]
        assert row["cost"] == pytest.approx((10 + len(question)) * 1e-6)
        assert (row["prompt_tokens"], row["completion_tokens"]) == (10 + len(question), len(row["response"]))
        assert row["reference"] == ("56", "35", "-2", "ice", "hat", "alpha")[number]
        assert row["place"] == f"record {index}"
        assert "split" not in row
    assert sorted(message.partition(" is ")[2] for message in caplog.messages) == [
        "of a trial run, and is left out",
        "the newest of its results; older files that are left out: 1",
        "the newest of its results; older files that are left out: 1",
    ]
    newest = {row["file"] for row in rows if (row["benchmark"], row["model"]) == ("arith", LARGE)}
    assert newest == {"arith-test-large-v1-20260101_120000.json"}


def test_folders_are_the_names_if_a_file_does_not_say(tmp_path: Path) -> None:
    path = write(tmp_path / "bench/mmlu pro/valid/org_m/20260101_000000.json.gz", [record()])
    document = json.loads(gzip.decompress(path.read_bytes()))
    for key in ("model_name", "dataset_name", "split"):
        del document[key]
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    assert recognized(path) == ["llmrouterbench"]
    [row] = read(FORMAT, path)
    assert (row["benchmark"], row["item"], row["model"]) == ("mmlu pro", "valid-1", "org_m")


def test_files_of_a_flat_folder_are_told_apart_by_their_names(tmp_path: Path) -> None:
    write(tmp_path / "d-test-m-20260101_000000.json", [record(score=0.0)])
    write(tmp_path / "d-test-m-20260301_000000.json", [record(score=0.25)])
    write(tmp_path / "d-test-m-20260201_000000.json", [record(score=0.5)])
    write(tmp_path / "d-test-m2-20250101_000000.json", [record(score=0.75)], model_name="org/m|2")
    write(tmp_path / "e-test-m-20260401_000000.json", [record()], dataset_name="e", demo=True)
    assert {(row["model"], row["score"]) for row in read(FORMAT, tmp_path)} == {("m", 0.25), ("org/m|2", 0.75)}


ODD = [
    ({"score": None, "prompt": "", "raw_output": "Processing failed"}, {"score": None, "question": "q"}),
    ({"prompt": [{"role": "user", "content": "ü"}]}, {"question": [{"role": "user", "content": "ü"}]}),
    ({"raw_output": None}, {"response": "p"}),
    ({"raw_output": ["a"], "prediction": ["b"]}, {"response": '["b"]'}),
    ({"ground_truth": {"x": [1]}}, {"reference": '{"x": [1]}'}),
    ({"ground_truth": None, "score": 1.5, "cost": None}, {"reference": None, "score": 1.5, "cost": None}),
    ({"index": "a/7"}, {"item": "test-a/7"}),
]


@pytest.mark.parametrize(("changes", "expected"), ODD)
def test_odd_values(changes: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    [row] = read(FORMAT, write(tmp_path / "a.json", [record(**changes)]))
    assert {name: row[name] for name in expected} == expected


def test_no_records_are_no_rows(tmp_path: Path) -> None:
    assert read(FORMAT, write(tmp_path / "a.json", [])) == []


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([record(), 3], r"a\.json, record 2 is not LLMRouterBench: it is no object"),
        ([record(), {key: value for key, value in record().items() if key != "score"}], "record 2 .* it has no score"),
        ([{"index": 1}], "it is no object with a list of records"),
        ({"1": record()}, "it is no object with a list of records"),
    ],
)
def test_malformed_records_are_refused_with_file_and_place(records: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", records)
    with pytest.raises(BenchmarkError, match=message) as error:
        read(FORMAT, path)
    assert str(path) in str(error.value)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(BENCH, tmp_path / "bench")
    path = sorted(folder.rglob("*.json"))[-1]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BenchmarkError, match="is not JSON") as error:
        read(FORMAT, folder)
    assert str(path) in str(error.value)
