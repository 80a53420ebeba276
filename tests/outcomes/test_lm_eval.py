"""Logs that lm-evaluation-harness wrote (tests/outcomes/data/lm_eval), and the layouts of its other versions."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.outcomes.tables import table
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Rows, find_files
from toolkit.outcomes.lm_eval import FORMAT

DATA = Path(__file__).parent / "data/lm_eval"
MODEL_LOGS = DATA / "models"
MODELS = ("example/large-7b", "example/small-1b")


def read(*paths: Path) -> list[Rows]:
    return list(FORMAT.read(find_files([str(path) for path in paths])))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def log(task: str, model: str = "example/small-1b", folder: Path = MODEL_LOGS) -> Path:
    [path] = (folder / model.replace("/", "__")).glob(f"samples_{task}_*.jsonl")
    return path


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_scores_of_several_filters_are_recomputed_from_the_responses() -> None:
    rows = table(read(MODEL_LOGS))
    for model in MODELS:
        logged = {row["doc_id"]: row["resps"][0][0] for row in lines(log("sums", model))}
        for item, document in enumerate(lines(DATA / "tasks/sums.jsonl")):
            row = rows[model, "sums", str(item), 0]
            text, answer = logged[item], document["answer"]
            strict = re.findall(r"#### (-?[0-9]+)", text)[:1]
            flexible = re.findall(r"-?[0-9]+", text)[-1]
            assert row["score"] == row["score:exact_match,strict-match"] == float(strict == [answer])
            assert row["score:exact_match,flexible-extract"] == float(flexible == answer)
            assert (row["question"], row["response"], row["reference"]) == (document["question"], text, answer)
    assert {row["score"] for row in rows.values()} == {0.0, 1.0}
    assert len(rows) == len(MODELS) * (4 + 3 + 4)


def test_a_multiple_choice_response_is_the_most_likely_choice() -> None:
    rows = table(read(MODEL_LOGS))
    for model in MODELS:
        for logged, document in zip(lines(log("capitals", model)), lines(DATA / "tasks/capitals.jsonl"), strict=True):
            row = rows[model, "capitals", str(logged["doc_id"]), 0]
            likelihoods = [float(response[0][0]) for response in logged["resps"]]
            by_length = [value / len(choice) for value, choice in zip(likelihoods, document["choices"], strict=True)]
            best = likelihoods.index(max(likelihoods))
            assert row["response"] == document["choices"][best]
            assert row["score"] == row["score:acc,none"] == float(best == document["gold"])
            assert row["score:acc_norm,none"] == float(by_length.index(max(by_length)) == document["gold"])
            assert row["reference"] == document["choices"][document["gold"]]
            assert row["question"] == document["query"]


def test_the_response_of_repeats_is_what_the_filter_made_of_them() -> None:
    rows = table(read(MODEL_LOGS))
    for model in MODELS:
        for logged in lines(log("votes", model)):
            numbers = [re.findall(r"-?[0-9]+", text)[-1] for text in logged["resps"][0]]
            row = rows[model, "votes", str(logged["doc_id"]), 0]
            assert len(numbers) == 3
            assert row["response"] == Counter(numbers).most_common(1)[0][0]
            assert row["score"] == row["score:exact_match,maj@3"] == float(row["response"] == logged["doc"]["answer"])


def test_a_metric_with_a_value_per_repeat_gives_samples(tmp_path: Path) -> None:
    logged = [row | {"exact_match": [1.0, 0.0, 0.5]} for row in lines(log("votes"))]
    rows = table(read(write(tmp_path / "m/samples_votes.jsonl", logged)))
    assert len(rows) == 3 * 4
    for row in logged:
        for sample, score in enumerate((1.0, 0.0, 0.5)):
            cell = rows["m", "votes", str(row["doc_id"]), sample]
            assert (cell["response"], cell["score"]) == (row["resps"][0][sample], score)


def test_scores_of_a_whole_corpus_are_left_out_and_named(tmp_path: Path) -> None:
    assert read(MODEL_LOGS)[-1].ignored == ("capitals: mcc (a score of the whole corpus: matthews_corrcoef)",)
    with pytest.raises(BenchmarkError, match=r"perplexity has no score of single documents: wording: word_perplexity \(lower"):
        read(DATA / "perplexity")
    with pytest.raises(BenchmarkError, match=r"wording: word_perplexity \(not a number for each document\)"):
        read(write(tmp_path / "m/samples_wording.jsonl", lines(log("wording", folder=DATA / "perplexity"))))


def older(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as versions before 0.4.3 log them: lists of arguments, numbers, and neither filters nor names of metrics."""
    changed = []
    for row in rows:
        kept = {key: value for key, value in row.items() if key not in ("filter", "metrics") and not key.endswith("_hash")}
        kept["arguments"] = [list(request.values()) for request in row["arguments"].values()]
        changed.append(kept)
    return changed


def test_older_versions_are_read_alike(tmp_path: Path) -> None:
    expected = table(read(MODEL_LOGS))
    for model in MODELS:
        [results] = (MODEL_LOGS / model.replace("/", "__")).glob("results_*.json")
        document = json.loads(results.read_text("utf-8"))
        older_document = {name: document[name] for name in ("results", "configs", "config", "higher_is_better")}
        folder = tmp_path / model
        for task in ("sums", "capitals", "votes"):
            write(folder / f"pretrained__{model.replace('/', '__')}_{task}.jsonl", older(lines(log(task, model))))
        (folder / "results.json").write_text(json.dumps(older_document), "utf-8")
    assert table(read(tmp_path)) == expected


def test_a_single_file_without_results_has_the_name_of_its_folder(tmp_path: Path) -> None:
    content = log("sums").read_bytes()
    (tmp_path / "my-model").mkdir()
    path = tmp_path / "my-model/samples_sums_2026-01-01T00-00-01.jsonl.gz"
    path.write_bytes(gzip.compress(content))
    rows = table(read(path))
    assert {(row["model"], row["benchmark"]) for row in rows.values()} == {("my-model", "sums")}
    assert [row["score"] for row in rows.values()] == [row["exact_match"] for row in lines(log("sums"))[:4]]
    unnamed = write(tmp_path / "other/output.jsonl", lines(log("sums")))
    with pytest.raises(BenchmarkError, match=r"output\.jsonl does not name its task"):
        read(unnamed)


def test_the_newest_log_of_a_document_counts(tmp_path: Path) -> None:
    shutil.copytree(MODEL_LOGS, tmp_path / "runs")
    path = log("capitals", folder=tmp_path / "runs")
    newer = [row | {"acc": 0.25} for row in lines(path)[1:2]]
    write(path.with_name("samples_capitals_2026-02-01T00-00-00.jsonl"), newer)
    parts = read(tmp_path / "runs")
    rows = table(parts)
    scores = [rows[MODELS[1], "capitals", str(item), 0]["score"] for item in range(3)]
    assert scores == [lines(path)[0]["acc"], 0.25, lines(path)[2]["acc"]]
    assert f"1 documents of {path.name}, which a newer log has" in parts[-1].ignored


def test_a_question_is_the_same_in_every_chat_template_and_as_a_chat(tmp_path: Path) -> None:
    def templated(row: dict[str, Any], before: str, after: str) -> dict[str, Any]:
        prompt = row["arguments"]["gen_args_0"]["arg_0"]
        return row | {"arguments": {"gen_args_0": {"arg_0": f"{before}{prompt}{after}", "arg_1": {}}}}

    def as_chat(row: dict[str, Any]) -> dict[str, Any]:
        *examples, last = row["arguments"]["gen_args_0"]["arg_0"].split("\n\n")
        messages = [{"role": "user", "content": text} for text in (*examples, last)]
        return row | {"arguments": {"gen_args_0": {"arg_0": [json.dumps(messages)], "arg_1": {}}}}

    logged = lines(log("sums"))
    write(tmp_path / "a/samples_sums.jsonl", (templated(row, "<|im_start|>user\n", "<|im_end|>") for row in logged))
    write(tmp_path / "b/samples_sums.jsonl", (templated(row, "[INST] ", " [/INST]") for row in logged))
    write(tmp_path / "c/samples_sums.jsonl", map(as_chat, logged))
    questions = [document["question"] for document in lines(DATA / "tasks/sums.jsonl")]
    rows = table(read(tmp_path))
    for model in "abc":
        assert [row["question"] for (name, *_), row in rows.items() if name == model] == questions


def test_a_prompt_with_nothing_of_the_document_is_the_question(tmp_path: Path) -> None:
    logged = [row | {"doc": {"id": 3, "answer": "7"}} for row in lines(log("votes"))]
    rows = table(read(write(tmp_path / "m/samples_votes.jsonl", logged)))
    assert [row["question"] for row in rows.values()] == [row["arguments"]["gen_args_0"]["arg_0"] for row in logged]


def test_choices_in_the_prompt_belong_to_the_question_and_answers_do_not(tmp_path: Path) -> None:
    example = "Question: Which of these melts?\nA. Sand\nB. Ice\nAnswer: B"
    prompt = f"{example}\n\nQuestion: Which of these sinks?\nA. Oak\nB. Lead\nAnswer:"
    document = {"question": "Which of these sinks?", "choices": ["Oak", "Lead"], "answer": 1, "subject": "physics"}
    row = lines(log("votes"))[0] | {"doc": document, "arguments": [[prompt, {}]]}
    [cell] = table(read(write(tmp_path / "m/samples_votes.jsonl", [row]))).values()
    assert cell["question"] == "Which of these sinks?\nA. Oak\nB. Lead"


@pytest.mark.parametrize("name", ["doc_id", "resps", "metric"])
def test_rows_that_lack_something_are_refused_with_their_place(name: str, tmp_path: Path) -> None:
    logged = lines(log("sums"))
    logged[2].pop("exact_match" if name == "metric" else name)
    path = write(tmp_path / "m/samples_sums.jsonl", logged)
    with pytest.raises(BenchmarkError, match=r"samples_sums\.jsonl, row 3 is not a row of lm-evaluation-harness: KeyError"):
        read(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("doc_id", "x"),
        ("resps", []),
        ("resps", None),
        ("arguments", {}),
        ("arguments", [[3]]),
        ("arguments", "x"),
        ("metrics", ["y"]),
    ],
)
def test_malformed_rows_are_refused_with_their_place(name: str, value: object, tmp_path: Path) -> None:
    logged = lines(log("sums"))
    logged[1][name] = value
    with pytest.raises(BenchmarkError, match=r"samples_sums\.jsonl, row 2 is not a row of lm-evaluation-harness: ") as error:
        read(write(tmp_path / "m/samples_sums.jsonl", logged))
    assert "\n" not in str(error.value)


def test_truncated_files_are_refused_with_their_place(tmp_path: Path) -> None:
    shutil.copytree(MODEL_LOGS, tmp_path / "runs")
    path = log("sums", folder=tmp_path / "runs")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchmarkError, match=r"samples_sums_\S+, row \d is not JSON"):
        read(tmp_path / "runs")
    path.write_bytes(content[:50])
    with pytest.raises(BenchmarkError, match=r"samples_sums_\S+, row 1 is not JSON"):
        read(tmp_path / "runs")
    path.write_bytes(content)
    [results] = path.parent.glob("results_*.json")
    results.write_bytes(results.read_bytes()[:-20])
    with pytest.raises(BenchmarkError, match=r"results_\S+ is not JSON"):
        read(tmp_path / "runs")


def test_only_logs_are_recognized(tmp_path: Path) -> None:
    for path in (MODEL_LOGS, DATA / "perplexity", log("sums")):
        assert FORMAT.recognizes(find_files([str(path)]))
    (tmp_path / "wide.csv").write_text("sample_id,prompt,eval_name,gpt-4\nx.0,Q,x,1.0\n", "utf-8")
    (tmp_path / "empty.jsonl").write_text("", "utf-8")
    (tmp_path / "broken.jsonl").write_text('{"doc_id"', "utf-8")
    write(tmp_path / "long.jsonl", [{"benchmark": "b", "item": "i", "question": "Q", "model": "m", "score": 1, "cost": 1}])
    assert not FORMAT.recognizes(find_files([str(tmp_path)]))
    assert not FORMAT.recognizes(find_files([str(DATA.parent / "inspect")]))
