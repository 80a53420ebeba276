"""Logs that Inspect wrote (tests/outcomes/data/inspect); without inspect-ai, its .json logs stand for what it reads."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.outcomes.tables import table
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes import inspect_log
from toolkit.outcomes.formats import Rows, find_files
from toolkit.outcomes.inspect_log import FORMAT, Log

DATA = Path(__file__).parent / "data/inspect"
SUMS = DATA / "2026-01-01T00-01-00+00-00_sums_large.json"
CAPITALS = DATA / "2026-01-01T00-02-00+00-00_capitals_small.json"
NEWER = DATA / "newer/2026-01-02T00-00-00+00-00_capitals_small.json"
FAILED = DATA / "errors/2026-01-01T00-05-00+00-00_sums_failed.json"
LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
needs_inspect = pytest.mark.skipif(importlib.util.find_spec("inspect_ai") is None, reason="needs the extra `inspect`")


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


def read_document(path: Path) -> Log:
    document = load(path)
    return Log(path, document, document["samples"])


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read .json logs as the documents that they are, which inspect-ai is not needed for."""
    monkeypatch.setattr(inspect_log, "read_log", read_document)


def read(*paths: Path) -> list[Rows]:
    return list(FORMAT.read(find_files([str(path) for path in paths])))


def changed(path: Path, target: Path, **fields: Any) -> Path:
    """Write a log with other fields of `eval`."""
    document = load(path)
    document["eval"] |= fields
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document), "utf-8")
    return target


@pytest.mark.usefixtures("documents")
def test_epochs_are_samples_and_scorers_are_scores() -> None:
    rows = table(read(SUMS))
    samples = load(SUMS)["samples"]
    assert len(rows) == len(samples) == 6
    for sample in samples:
        row = rows["mockllm/large", "sums", sample["id"], sample["epoch"] - 1]
        values = {name: score["value"] for name, score in sample["scores"].items()}
        assert row["score"] == row["score:match"] == LETTERS[values["match"]]
        assert row["score:brief"] == LETTERS[values["brief"]]
        assert (row["score:style/polite"], row["score:style/length"]) == tuple(values["style"].values())
        assert row["response"] == sample["output"]["choices"][0]["message"]["content"]
        usage = sample["model_usage"]["mockllm/large"]
        assert (row["prompt_tokens"], row["completion_tokens"]) == (usage["input_tokens"], usage["output_tokens"])
    assert {row["score"] for row in rows.values()} == {0.0, 1.0}


@pytest.mark.usefixtures("documents")
def test_chats_stay_chats_choices_stand_below_the_question_and_targets_are_references() -> None:
    rows = table(read(SUMS, CAPITALS))
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 8 * 9?"}]
    assert rows["mockllm/large", "sums", "sum-2", 0]["question"] == chat
    assert rows["mockllm/large", "sums", "sum-2", 0]["reference"] == "72\nseventy-two"
    row = rows["mockllm/small", "capitals", "1", 0]
    assert (row["question"], row["reference"]) == ("What is the capital of France?\n\nA) Lyon\nB) Paris", "B")


@pytest.mark.usefixtures("documents")
def test_the_headline_is_the_main_score(tmp_path: Path) -> None:
    document = load(SUMS)
    document["results"]["headline"] = {"scorer": "style", "score": "length", "metric": "accuracy"}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(document), "utf-8")
    for row in table(read(path)).values():
        assert row["score"] == row["score:style/length"]


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize(
    ("value", "score"),
    [("P", 0.5), ("N", 0.0), ("yes", 1.0), ("FALSE", 0.0), ("0.25", 0.25), (True, 1.0), (float("nan"), None)],
)
def test_values_of_scores_are_numbers(value: object, score: float | None, tmp_path: Path) -> None:
    document = load(CAPITALS)
    document["samples"][0]["scores"]["choice"]["value"] = value
    path = tmp_path / "log.json"
    path.write_text(json.dumps(document), "utf-8")
    assert table(read(path))["mockllm/small", "capitals", "1", 0]["score"] == score


@pytest.mark.usefixtures("documents")
def test_scores_that_are_no_numbers_are_left_out_and_named(tmp_path: Path) -> None:
    document = load(CAPITALS)
    for sample, value in zip(document["samples"], ("fine", [1, 0]), strict=True):
        sample["scores"]["note"] = {"value": value}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(document), "utf-8")
    [rows] = read(path)
    assert [name for name in rows.columns if name.startswith("score:")] == ["score:choice"]
    assert set(rows.ignored) == {"capitals: note (not a number: fine)", "capitals: note (not a number: a list)"}


@pytest.mark.usefixtures("documents")
def test_samples_without_a_score_are_missing_and_counted(tmp_path: Path) -> None:
    [rows] = read(FAILED)
    assert [row["item"] for row in table([rows]).values()] == ["sum-1", "sum-2"]
    assert rows.ignored == (f"1 samples without a score in {FAILED.name} (error)",)
    document = load(FAILED) | {"samples": []}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(BenchmarkError, match=r"has no sample with a score: 3 samples without a score in log\.json \(error\)"):
        read(path)


@pytest.mark.usefixtures("documents")
def test_the_newest_log_of_a_sample_counts() -> None:
    parts = read(CAPITALS, NEWER)
    rows = table(parts)
    assert [rows["mockllm/small", "capitals", item, 0]["response"] for item in "12"] == ["ANSWER: B", "ANSWER: A"]
    assert f"1 samples of {CAPITALS.name}, which a newer log has" in parts[-1].ignored


@pytest.mark.usefixtures("documents")
def test_tasks_with_other_arguments_are_other_benchmarks(tmp_path: Path) -> None:
    for subject, model in (("art", "a"), ("law", "a"), ("law", "b")):
        arguments = {"subject": subject, "shots": 0}
        changed(CAPITALS, tmp_path / f"{subject}-{model}.json", task_args=arguments, model=model)
    expected = {("a", "capitals (subject=art)"), ("a", "capitals (subject=law)"), ("b", "capitals (subject=law)")}
    assert {(model, benchmark) for model, benchmark, *_ in table(read(tmp_path))} == expected


@pytest.mark.usefixtures("documents")
def test_tokens_of_a_grader_are_not_counted_and_cached_ones_are(tmp_path: Path) -> None:
    document = load(CAPITALS)
    usage = {"input_tokens": 5, "input_tokens_cache_read": 7, "input_tokens_cache_write": 1, "output_tokens": 3}
    document["samples"][0]["model_usage"] = {"judge": {"input_tokens": 900, "output_tokens": 90}, "mockllm/small": usage}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(document), "utf-8")
    row = table(read(path))["mockllm/small", "capitals", "1", 0]
    assert (row["prompt_tokens"], row["completion_tokens"]) == (13, 3)


def test_without_inspect_ai_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'hierrouter-toolkit\[inspect\]'"):
        read(SUMS)


@needs_inspect
def test_inspects_reader_gives_what_the_documents_have(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = (SUMS, CAPITALS, NEWER, FAILED)
    parts = read(*paths)
    monkeypatch.setattr(inspect_log, "read_log", read_document)
    expected = read(*paths)
    assert table(parts) == table(expected)
    assert parts[-1].ignored == expected[-1].ignored


@needs_inspect
def test_archives_are_read_too() -> None:
    rows = table(
        read(DATA / "2026-01-01T00-00-00+00-00_sums_small.eval", DATA / "2026-01-01T00-03-00+00-00_capitals_large.eval")
    )
    responses = ["It is 7", "7", "It is 71", "please: 72", "It is 98", "99"]
    assert [row["response"] for row in rows.values() if row["benchmark"] == "sums"] == responses
    assert [row["score"] for row in rows.values() if row["benchmark"] == "capitals"] == [1.0, 1.0]
    assert rows["mockllm/small", "sums", "sum-1", 1]["score:brief"] == 0.5
    assert {row["score:brief"] for row in rows.values() if row["benchmark"] == "sums"} == {0.5, 1.0}


@needs_inspect
@pytest.mark.parametrize("name", ["2026-01-01T00-00-00+00-00_sums_small.eval", SUMS.name])
def test_truncated_logs_are_refused(name: str, tmp_path: Path) -> None:
    content = (DATA / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchmarkError, match=r"_sums_\w+\.\w+ is not a log that inspect-ai can read") as error:
        read(path)
    assert "\n" not in str(error.value)


@needs_inspect
def test_words_mean_what_inspect_says() -> None:
    from inspect_ai.scorer import value_to_float

    convert = value_to_float()
    for value in ("C", "I", "P", "N", "yes", "No", "TRUE", "false", "0.25", 1, 0.5, True):
        assert inspect_log._to_float(value) == convert(value)


def test_only_logs_are_recognized(tmp_path: Path) -> None:
    for path in (DATA, SUMS, DATA / "2026-01-01T00-00-00+00-00_sums_small.eval"):
        assert FORMAT.recognizes(find_files([str(path)]))
    (tmp_path / "wide.csv").write_text("sample_id,prompt,eval_name,gpt-4\nx.0,Q,x,1.0\n", "utf-8")
    (tmp_path / "broken.eval").write_bytes(b"PK\x03\x04")
    (tmp_path / "list.json").write_text('[{"benchmark": "b"}]', "utf-8")
    (tmp_path / "records.json").write_text('{"records": []}', "utf-8")
    shutil.make_archive(str(tmp_path / "other"), "zip", DATA / "newer")
    (tmp_path / "other.zip").rename(tmp_path / "other.eval")
    assert not FORMAT.recognizes(find_files([str(tmp_path)]))
    assert not FORMAT.recognizes(find_files([str(DATA.parent / "lm_eval")]))
