"""Routing data of LLMRouter and xRouteBench, scores by model of RouterDC, and prices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.outcomes.wide import DATA, LARGE, MODELS, QUESTIONS, RESPONSES, SCORES, SMALL, read, recognized, write_lines
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.llmrouter import FORMAT

PRICES: dict[str, tuple[float, float]] = {SMALL: (0.2, 0.4), LARGE: (2, 6.0)}
MODEL_DATA = {
    model: {"size": "7B", "feature": "chats", "input_price": price_in, "output_price": price_out, "model": "x", "service": "y"}
    for model, (price_in, price_out) in PRICES.items()
}


def routing_row(**changes: Any) -> dict[str, Any]:
    """Return a row of routing data."""
    return {
        "task_name": "t", "query": "q?", "ground_truth": "a", "metric": "em", "choices": None, "task_id": None,
        "model_name": "m", "response": "r", "token_num": 5, "input_tokens": 3, "output_tokens": 2, "performance": 0.5,
        "embedding_id": 7, "user_id": None, "fig_id": None,
    } | changes  # fmt: skip


def check_rows(rows: list[dict[str, Any]]) -> None:
    """Compare rows with what LLMRouter's own code was given; the last call of each split failed."""
    assert len(rows) == len(MODELS) * len(QUESTIONS)
    for row in rows:
        split, _, number = row["item"].partition("-")
        benchmark, question = QUESTIONS[int(number)]
        has_failed = row["model"] == LARGE and number in "35"
        assert (row["benchmark"], row["question"], row["split"]) == (benchmark, question, split)
        assert split == ("train" if int(number) < 4 else "test")
        assert row["score"] == (None if has_failed else SCORES[row["model"]][int(number)])
        if not has_failed:
            response = RESPONSES[row["model"]][int(number)]
            assert row["response"] == response
            assert (row["prompt_tokens"], row["completion_tokens"]) == (20 + len(question), len(response))


def test_rows_of_routing_data_that_llmrouter_wrote() -> None:
    rows = read(FORMAT, DATA / "llmrouter")
    check_rows(rows)
    assert {row["reference"] for row in rows if row["item"] in ("train-0", "test-5")} == {"56", '["alpha", "Alpha"]'}
    assert not any("cost" in row for row in rows)


def test_rows_of_parquet_files_as_xroutebench_has_them(tmp_path: Path) -> None:
    for split in ("train", "test"):
        rows = [json.loads(line) for line in (DATA / f"llmrouter/routing_data_{split}.jsonl").read_text("utf-8").splitlines()]
        for row in rows:
            row["ground_truth"] = (
                json.dumps(row["ground_truth"]) if isinstance(row["ground_truth"], list) else row["ground_truth"]
            )
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    assert recognized(tmp_path) == ["llmrouter"]
    check_rows(read(FORMAT, tmp_path))


def test_files_without_responses_and_the_copies_that_llmrouter_writes_are_left_out(tmp_path: Path) -> None:
    folder = shutil.copytree(DATA / "llmrouter", tmp_path / "data")
    write_lines(folder / "query_data_train.jsonl", [{"task_name": "t", "query": "q", "ground_truth": "a", "metric": "em"}])
    (folder / "default_llm_embeddings.json").write_text(json.dumps({"m": {"feature": "f", "embedding": [0.5]}}), "utf-8")
    (folder / "routing_data_train.csv").write_text("task_name,query,model_name,performance\nt,q,m,1\n", "utf-8")
    (folder / "query_embeddings.pt").write_bytes(b"PK")
    assert recognized(folder) == ["llmrouter"]
    check_rows(read(FORMAT, folder))
    (folder / "notes.json").write_text('{"author": "me"}', "utf-8")
    with pytest.raises(BenchmarkError, match=r"notes\.json, row 1 is not LLMRouter, xRouteBench or RouterDC: it has no query"):
        read(FORMAT, folder)


def test_costs_are_tokens_times_the_prices_among_the_files(tmp_path: Path) -> None:
    path = tmp_path / "default_llm.json"
    path.write_text(json.dumps(MODEL_DATA), "utf-8")
    rows = read(FORMAT, DATA / "llmrouter", path)
    for row in rows:
        price_in, price_out = PRICES[row["model"]]
        assert row["cost"] == pytest.approx((row["prompt_tokens"] * price_in + row["completion_tokens"] * price_out) / 1e6)
    assert {row["cost"] > 0 for row in rows} == {True, False}  # failed calls have no tokens


def test_every_model_needs_a_price_if_there_are_prices(tmp_path: Path) -> None:
    path = tmp_path / "default_llm.json"
    path.write_text(json.dumps({LARGE: MODEL_DATA[LARGE], SMALL: {"feature": "small"}}), "utf-8")
    with pytest.raises(BenchmarkError, match=rf"routing_data_test\.jsonl, row 1: .*default_llm\.json has no price of {SMALL}"):
        read(FORMAT, DATA / "llmrouter", path)


def test_prices_need_tokens(tmp_path: Path) -> None:
    (tmp_path / "llm.json").write_text(json.dumps({"m": MODEL_DATA[LARGE]}), "utf-8")
    write_lines(tmp_path / "a.jsonl", [routing_row(input_tokens=None)])
    with pytest.raises(BenchmarkError, match=r"a\.jsonl, row 1 has no input_tokens and output_tokens"):
        read(FORMAT, tmp_path)


def test_scores_by_model_that_routerdc_is_trained_on(tmp_path: Path) -> None:
    folder = DATA / "routerdc"
    assert recognized(folder) == ["llmrouter"]
    rows = read(FORMAT, folder)
    assert len(rows) == 12
    for row in rows:
        split, _, position = row["item"].partition("-")
        number = int(position) - 1 + (4 if split == "test" else 0)
        has_failed = row["model"] == LARGE and number in (3, 5)  # a failed call counts as 0 there
        assert (row["benchmark"], row["question"], row["split"]) == ("routerdc", QUESTIONS[number][1], split)
        assert row["score"] == (0.0 if has_failed else SCORES[row["model"]][number])
    single = tmp_path / "mbpp.json"
    single.write_text(json.dumps([{"question": "q", "scores": {"a/b": None, "c d": 1.5}}]), "utf-8")
    assert [(row["benchmark"], row["item"], row["model"], row["score"]) for row in read(FORMAT, single)] == [
        ("mbpp", "1", "a/b", None),
        ("mbpp", "1", "c d", 1.5),
    ]


CHAT = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


@pytest.mark.parametrize(
    ("query", "question"),
    [
        ("plain", "plain"),
        (CHAT, CHAT),
        (json.dumps(CHAT), CHAT),
        ("[{not a chat", "[{not a chat"),
        ('[{"a": 1}]', '[{"a": 1}]'),
        (["a", "b"], '["a", "b"]'),
        (None, None),
    ],
)
def test_questions_are_texts_or_chats(query: Any, question: Any, tmp_path: Path) -> None:
    [row] = read(FORMAT, write_lines(tmp_path / "a.jsonl", [routing_row(query=query)]))
    assert row["question"] == question


def test_rows_with_few_columns_get_items_by_question_and_a_benchmark_by_file(tmp_path: Path) -> None:
    rows = [
        {"query": query, "model_name": model, "performance": score, "response": "ERROR: none"}
        for query in ("q", "r")
        for model, score in (("a|b", None), ("c d", float("nan")))
    ]
    results = read(FORMAT, write_lines(tmp_path / "tickets_dev.jsonl", rows))
    assert {(row["benchmark"], row["split"]) for row in results} == {("tickets", "dev")}
    items = {(row["question"], row["item"]) for row in results}
    assert len(items) == len({item for _, item in items}) == 2
    assert [row["model"] for row in results] == ["a|b", "c d"] * 2
    assert results[0]["score"] is None
    assert results[0]["response"] == "ERROR: none"
    assert not {"prompt_tokens", "cost"} & set(results[0])


def test_a_response_that_begins_like_an_error_counts_if_it_has_tokens(tmp_path: Path) -> None:
    rows = [routing_row(response="ERROR 404 means not found"), routing_row(response="API Error: 500", token_num=0)]
    assert [row["score"] for row in read(FORMAT, write_lines(tmp_path / "a.jsonl", rows))] == [0.5, None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", [routing_row(), {"query": "q", "model_name": "m"}], r"a\.jsonl, row 2 is not .*: it has no performance\."),
        ("a.jsonl", [{"model_1": "a", "model_2": "b", "judge": 1}], "is not LLMRouter, .*: it has no query, model_name"),
        ("a.jsonl", [{"question": "q", "scores": {}}, {"question": "q", "scores": [1]}], "row 2 .* its scores are no object"),
        ("a.jsonl", [{"question": "q", "scores": {}}, {"question": "q"}], "row 2 .* it has no scores"),
        ("a.jsonl", [routing_row(), 3], "row 2 is not a JSON object"),
    ],
)  # fmt: skip
def test_malformed_files_are_refused_with_file_and_place(name: str, content: list[Any], message: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / name, content)
    with pytest.raises(BenchmarkError, match=message) as error:
        read(FORMAT, path)
    assert str(path) in str(error.value)
