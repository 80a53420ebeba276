"""Which format recognizes which files, and what the formats of other projects share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.outcomes.wide import (
    DATA,
    FORMATS,
    SMALL,
    cached_result,
    read,
    recognized,
    write_csv,
    write_lines,
    write_routellm,
    write_routerarena,
)
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import find_files
from toolkit.outcomes.layouts import benchmark_in_name, plain_text, split_in_name, splits_in_names

FILES: dict[str, Callable[[Path], Path]] = {
    "routerbench": lambda _: DATA / "routerbench",
    "routellm": write_routellm,
    "routerarena": write_routerarena,
    "llmrouter": lambda _: DATA / "llmrouter",
    "llmrouterbench": lambda _: DATA / "llmrouterbench",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_recognizes_its_own_files_and_no_others(name: str, tmp_path: Path) -> None:
    assert recognized(FILES[name](tmp_path)) == [name]


def test_every_single_file_is_recognized_by_the_format_of_its_folder(tmp_path: Path) -> None:
    for name, files in FILES.items():
        for path in find_files([str(files(tmp_path / name))]).files:
            assert recognized(path) == [name], path


OTHER_FILES = {
    "long.csv": "benchmark,item,question,model,score,cost\nb,i,q,m,1,1\n",
    "renamed.csv": "prompt,model,score\nq,m,True\n",
    "prompts.csv": "prompt,topic,year\nq,maths,1999\n",
    "only.csv": "prompt\nq\n",
    "empty.csv": "",
    "long.jsonl": '{"benchmark": "b", "item": "i", "question": "q", "model": "m", "score": 1, "cost": 1}\n',
    "samples_arc_2026-01-01.jsonl": '{"doc_id": 0, "doc": {"question": "q"}, "target": "a", "resps": [["a"]], "acc": 1.0}\n',
    "results_2026-01-01.json": '{"results": {"arc": {"acc,none": 0.5}}, "configs": {}, "n-shot": {"arc": 0}}',
    "log.json": '{"version": 2, "status": "success", "eval": {"task": "t"}, "samples": [{"id": 1, "scores": {}}]}',
    "scores.json": '[{"question": "q", "scores": [1, 2]}]',
    "records.json": '{"records": [1, 2]}',
    "list.jsonl": "[1, 2]\n",
    "bad.jsonl": "{\n",
    "bad.json": "{",
    "questions.jsonl": '{"task_name": "t", "query": "q", "ground_truth": "a", "metric": "em"}\n',
    "notes.txt": "nothing",
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_are_recognized_by_none_and_refused_by_each(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(OTHER_FILES[name], "utf-8")
    assert recognized(path) == []
    for format_name, form in FORMATS.items():
        if (format_name, name) == ("routellm", "prompts.csv"):  # its layout; the scores are refused by their values
            continue
        with pytest.raises(BenchmarkError) as error:
            read(form, path)
        assert str(path) in str(error.value)


def test_files_of_other_kinds_are_left_out_of_a_folder_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_routerarena(tmp_path)
    (tmp_path / "README.md").write_text("# Results\n", "utf-8")
    with caplog.at_level("INFO", "toolkit"):
        assert len(read(FORMATS["routerarena"], tmp_path)) == 12
    assert caplog.messages == [f"Files of {tmp_path} that are no results of RouterArena, and are left out: 1"]


def test_a_single_file_of_another_layout_among_the_files_is_refused(tmp_path: Path) -> None:
    write_routerarena(tmp_path)
    (tmp_path / "zz.jsonl").write_text(json.dumps({"question": "q", "score": 1}) + "\n", "utf-8")
    with pytest.raises(BenchmarkError, match=r"zz\.jsonl, row 1 is not RouterArena: it has no global_index, generated_answer"):
        read(FORMATS["routerarena"], tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "benchmark"),
    [
        ("arc_challenge_test.csv", "test", "arc_challenge"),
        ("gsm8k-train.json", "train", "gsm8k"),
        ("default_routing_Train_data.jsonl.gz", "train", "default_routing_data"),
        ("valid.parquet", "valid", "folder"),
        ("train-00000-of-00001.parquet", "train", "00000-of-00001"),
        ("mmlu.v1.5_dev.csv.zst", "dev", "mmlu.v1.5"),
        ("latest_contest.csv", None, "latest_contest"),
        ("mbpp.json", None, "mbpp"),
    ],
)
def test_split_and_benchmark_are_in_the_name(name: str, split: str | None, benchmark: str) -> None:
    assert split_in_name(Path("test_results/folder") / name) == split
    assert benchmark_in_name(Path("test_results/folder") / name) == benchmark


def test_splits_are_in_all_names_or_in_none() -> None:
    files = [Path("a_train.csv"), Path("a_test.csv")]
    assert splits_in_names(files) == {files[0]: "train", files[1]: "test"}
    assert splits_in_names([Path("b.csv")]) == {Path("b.csv"): None}
    with pytest.raises(BenchmarkError, match=r"b\.csv has no split in its name, and a_train\.csv has: train.* b_test\.csv"):
        splits_in_names([*files, Path("b.csv")])


def test_values_that_are_no_text_become_json() -> None:
    assert [plain_text(value) for value in (None, float("nan"), "", "a", ["ä", 1], {"a": None}, 3, True)] == [
        None, None, "", "a", '["ä", 1]', '{"a": null}', "3", "true",
    ]  # fmt: skip


def test_many_files_are_recognized_by_the_first_few(tmp_path: Path) -> None:
    for number in range(7):
        write_lines(tmp_path / f"{number}.jsonl", [{"a": 1}] if number < 5 else [cached_result(0, SMALL)])
    assert recognized(tmp_path) == []
    write_lines(tmp_path / "4.jsonl", [cached_result(0, SMALL)])
    assert recognized(tmp_path) == ["routerarena"]


def test_a_csv_file_that_begins_with_truth_values_of_models_is_routellm(tmp_path: Path) -> None:
    assert recognized(write_csv(tmp_path / "a.csv", ["prompt", "m"], [["q", True], ["r", None]])) == ["routellm"]
    assert recognized(write_csv(tmp_path / "b.csv", ["prompt", "m"], [["q", 0.5]])) == []
