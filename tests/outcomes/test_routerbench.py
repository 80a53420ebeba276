"""RouterBench's wide tables, in every kind of file and with every kind of prompt; pickles are not read."""

from __future__ import annotations

import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.outcomes.wide import (
    DATA,
    LARGE,
    MODELS,
    QUESTIONS,
    RESPONSES,
    SCORES,
    SMALL,
    read,
    recognized,
    write_csv,
    write_lines,
)
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.routerbench import FORMAT

WIDE = DATA / "routerbench/input_wide.csv"
COLUMNS = ["sample_id", "prompt", "eval_name", *MODELS, *(f"{m}|{c}" for m in MODELS for c in ("model_response", "total_cost"))]


def expected_cost(question: str, model: str, number: int) -> float:
    """The stand-in for the tokens and prices of the file: characters of the written prompt and response."""
    prompt = [question, question] if number == 3 and model == LARGE else [question]
    if number == 4:
        prompt = ["You are terse.", question]
    return (len(str(prompt)) + 4 * len(str([RESPONSES[model][number]]))) * (1e-7 if model == SMALL else 3e-6)


def converted(tmp_path: Path, suffix: str) -> Path:
    """The table of RouterBench's own code, in another kind of file."""
    frame = pl.read_csv(WIDE)
    path = tmp_path / f"wide{suffix}"
    writers: dict[str, Any] = {
        ".csv": frame.write_csv,
        ".jsonl": frame.write_ndjson,
        ".parquet": frame.write_parquet,
        ".feather": frame.write_ipc,
    }
    writers[suffix](path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".feather"])
def test_rows_of_a_table_that_routerbench_wrote(suffix: str, tmp_path: Path) -> None:
    path = converted(tmp_path, suffix)
    assert recognized(path) == ["routerbench"]
    rows = [row for row in read(FORMAT, path) if row["score"] is not None]
    assert len(rows) == len(QUESTIONS) * len(MODELS)
    for row in rows:
        number = int(row["item"].rpartition(".")[2])
        benchmark, question = QUESTIONS[number]
        assert row["benchmark"] == benchmark
        assert row["question"] == (f"You are terse.\n\n{question}" if number == 4 else question)
        assert float(row["score"]) == SCORES[row["model"]][number]
        assert row["response"] == RESPONSES[row["model"]][number]
        assert float(row["cost"]) == pytest.approx(expected_cost(question, row["model"], number))
        assert "split" not in row
    assert len({(row["item"], row["model"]) for row in rows}) == len(rows)


def test_the_two_rows_of_a_prompt_that_was_logged_twice_are_one_question() -> None:
    rows = [row for row in read(FORMAT, WIDE) if row["item"] == "words.dev.3"]
    assert len(rows) == 4
    assert {row["question"] for row in rows} == {QUESTIONS[3][1]}
    assert {row["model"]: float(row["score"]) for row in rows if row["score"] is not None} == {SMALL: 1.0, LARGE: 1.0}


PROMPTS = [
    ("plain [text", "plain [text"),
    ("['a']", "a"),
    ('["it\'s"]', "it's"),
    (r"['a\nb', 'c', 'a\nb']", "a\nb\n\nc"),
    ("[1, 2]", "[1, 2]"),
    ("['unfinished", "['unfinished"),
    (r"['\d']", r"\d"),
    ("[]", ""),
    ("[" * 10_000, "[" * 10_000),
    ("['é 漢字 \\u00e9']", "é 漢字 é"),
    (
        "[{'role': 'system', 'content': 's'}, {'role': 'user', 'content': 'u'}]",
        [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
    ),
    ("[__import__('os').getcwd()]", "[__import__('os').getcwd()]"),
    (["a", "a", "b"], "a\n\nb"),
    (None, None),
]


@pytest.mark.parametrize(("prompt", "question"), PROMPTS, ids=range(len(PROMPTS)))
def test_prompts_and_responses_are_lists_that_python_wrote_or_texts(prompt: Any, question: Any, tmp_path: Path) -> None:
    row = {
        "sample_id": "i",
        "eval_name": "b",
        "prompt": prompt,
        "m": 1.0,
        "m|total_cost": 0.1,
        "m|model_response": "['x', 'x']",
    }
    [result] = read(FORMAT, write_lines(tmp_path / "t.jsonl", [row]))
    assert result["question"] == question
    assert result["response"] == "x\n\nx"


def test_names_of_models_and_missing_values_stay_as_they_are(tmp_path: Path) -> None:
    names = ["org/a b", "a|b", "模型", "m"]
    header = ["", "sample_id", "prompt", "eval_name", *names, *(f"{name}|total_cost" for name in names), "cluster_id"]
    rows = [[0, "i", "q?", "b", 1, None, -0.5, 7, 1, 2, None, 4, 9], [1, "j", "r?", "b", 0, 1, 1, 0, 1, 2, 3, 4, 9]]
    results = read(FORMAT, write_csv(tmp_path / "t.csv", header, rows))
    assert [(row["item"], row["model"], row["score"], row["cost"]) for row in results] == [
        ("i", "org/a b", "1", "1"), ("j", "org/a b", "0", "1"), ("i", "a|b", None, "2"), ("j", "a|b", "1", "2"),
        ("i", "模型", "-0.5", None), ("j", "模型", "1", "3"), ("i", "m", "7", "4"), ("j", "m", "0", "4"),
    ]  # fmt: skip
    assert results[1]["place"] == "row 2 (line 3)"
    assert all("response" not in row for row in results)


def test_splits_are_those_of_the_names_of_several_files(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_csv(tmp_path / f"arc_{split}.csv", [*COLUMNS[:3], "m", "m|total_cost"], [[split, "q", "arc", 1, 1]])
    assert {row["item"]: row["split"] for row in read(FORMAT, tmp_path)} == {"train": "train", "test": "test"}
    assert not any("split" in row for row in read(FORMAT, tmp_path / "arc_test.csv"))
    write_csv(tmp_path / "mbpp.csv", [*COLUMNS[:3], "m", "m|total_cost"], [["a", "q", "mbpp", 1, 1]])
    with pytest.raises(BenchmarkError, match=r"mbpp\.csv has no split in its name"):
        read(FORMAT, tmp_path)


def test_a_question_whose_two_rows_are_in_different_splits_keeps_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header = [*COLUMNS[:3], "m", "n", "m|total_cost", "n|total_cost"]
    write_csv(tmp_path / "arc_test.csv", header, [["a", "['q', 'q']", "arc", 1, None, 1, 1], ["b", "r", "arc", 1, 1, 1, 1]])
    write_csv(tmp_path / "arc_train.csv", header, [["a", "['q']", "arc", None, 0, 1, 1], ["c", "s", "arc", 1, 1, 1, 1]])
    with caplog.at_level("INFO", "toolkit"):
        rows = [row for row in read(FORMAT, tmp_path) if row["score"] is not None]
    assert sorted((row["item"], row["model"], row["question"], row["split"]) for row in rows) == [
        ("a", "m", "q", "test"), ("a", "n", "q", "test"), ("b", "m", "r", "test"), ("b", "n", "r", "test"),
        ("c", "m", "s", "train"), ("c", "n", "s", "train"),
    ]  # fmt: skip
    assert caplog.messages == [f"Questions of {tmp_path / 'arc_train.csv'} that keep the split of an earlier file: 1"]


MALFORMED = [
    ("t.csv", "sample_id,prompt,eval_name,m|total_cost\ni,q,b,1\n", r"t\.csv is not RouterBench \(wide table\): it has no m\."),
    ("t.csv", "sample_id,prompt,m,m|total_cost\ni,q,1,1\n", "it has no eval_name"),
    ("t.csv", "sample_id,prompt,eval_name,m\ni,q,b,1\n", r"it has no column that ends in \|total_cost or \|model_response"),
    ("t.csv", "sample_id,prompt,eval_name,m,m|total_cost\ni,q,b,1\n", r"row 1 \(line 2\) has 4 fields"),
    (
        "t.jsonl",
        '{"sample_id": "i", "prompt": "q", "eval_name": "b", "m": 1, "m|total_cost": 1}\n[]\n',
        "row 2 is not a JSON object",
    ),
    ("t.jsonl", '{"sample_id": "i", "prompt": "q", "eval_name": "b", "m": 1, "m|total_cost": 1}\n{\n', "row 2 is not JSON"),
    ("t.parquet", "sample_id", "cannot be read|no column"),
]


@pytest.mark.parametrize(("name", "content", "message"), MALFORMED)
def test_malformed_tables_are_refused_with_file_and_place(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(BenchmarkError, match=message) as error:
        read(FORMAT, tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["routerbench_0shot.pkl", "wide table.pickle", "t.pkl.gz"])
def test_a_pickle_is_never_read_and_the_message_says_how_to_convert_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    assert recognized(path) == recognized(tmp_path) == ["routerbench"]
    with pytest.raises(BenchmarkError, match=r"is a pickle\. Reading one runs any code") as error:
        read(FORMAT, path)
    lines = str(error.value).splitlines()
    assert lines[-1].split()[:2] == ["toolkit", "import"]
    assert lines[-1].endswith("--suite routerbench")
    assert not (tmp_path / "executed").exists()


def test_the_printed_commands_convert_a_pickle_that_is_then_left_out(tmp_path: Path) -> None:
    path = tmp_path / "wide 0shot.pkl"
    pickled = f"import pandas; pandas.read_csv({str(WIDE)!r}).to_pickle({str(path)!r})"
    subprocess.run([sys.executable, "-c", pickled], check=True)
    with pytest.raises(BenchmarkError) as error:
        read(FORMAT, path)
    program, *arguments = shlex.split(str(error.value).splitlines()[-2])
    assert program == "pandas-venv/bin/python"
    subprocess.run([sys.executable, *arguments], check=True)
    parquet = Path(shlex.split(str(error.value).splitlines()[-1])[2])
    assert parquet == tmp_path / "wide 0shot.parquet"
    rows = read(FORMAT, tmp_path)
    assert {row["file"] for row in rows} == {parquet.name}
    assert sorted((row["item"], row["model"], row["score"]) for row in rows if row["score"] is not None) == sorted(
        (row["item"], row["model"], float(row["score"])) for row in read(FORMAT, WIDE) if row["score"] is not None
    )
