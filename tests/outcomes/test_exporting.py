"""What is exported is what the cache has, recomputed here from the public views; each format is read as others read it."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.outcomes.tables import options_of
from tests.scripted import encode
from toolkit.core.errors import IncompleteCacheError, SuiteError, ToolkitError
from toolkit.outcomes.export_llmrouterbench import file_names
from toolkit.outcomes.exporting import EXPORTS, default_output, export_results
from toolkit.outcomes.importing import import_results
from toolkit.outcomes.suite_results import read_suite_results
from toolkit.store import Cache
from toolkit.suites.suite import Suite

Rows = list[dict[str, Any]]
TEXTS = ("007", "1e3", "", ' "x", ', "a\r\nb", "null", "ü\u2028", "['x']", "\\", "\t")
"""Texts that a reader might take for something else."""


def imported(folder: Path, rows: Rows, name: str = "theirs", **options: Any) -> tuple[Cache, Suite]:
    path, cache = folder / f"{name}.jsonl", Cache(folder / f"{name}.duckdb")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return cache, import_results([str(path)], name, cache, folder / "weights", options_of(**options), encode=encode).suite


def given_rows(hops: int = 1, samples: int = 1, questions: int = 8) -> Rows:
    """Return results of two models, some of whose texts are awkward; path, sample, score and cost are known functions."""
    paths = [("a/b", "C d")[n : n + 1] for n in range(2)]
    paths += [(first, *path) for first in ("a/b", "C d") for path in paths] if hops > 1 else []
    return [
        {
            "benchmark": ("x", "y z")[n % 2],
            "item": TEXTS[n % len(TEXTS)] or "empty",
            "question": f"{TEXTS[n % len(TEXTS)]} {n}?",
            "model": path[-1],
            **({"path": " > ".join(path)} if hops > 1 else {}),
            **({"sample": sample} if samples > 1 else {}),
            "split": ("train", "test", "validation")[n % 3],
            "score": (n + 3 * len(path) + sample) % 7 / 6,
            "cost": 1e-5 * (n + 1) / (1 + len(path[-1])) + sample,
            "prompt_tokens": None,
            "completion_tokens": None,
            "response": f"{TEXTS[n % len(TEXTS)]}{path}{sample}{n}" if len(path[-1]) > 2 or n else "",
            "reference": TEXTS[-n - 1] if n % 4 else None,
            "score:judge": (n + len(path)) % 5 / 4 if n % 3 else None,
        }
        for n in range(questions)
        for sample in range(samples)
        for path in paths
    ]


def exported(cache: Cache, suite: Suite, name: str, path: Path) -> Path:
    export_results(read_suite_results(cache, suite), name, path)
    return path


def read(path: Path) -> Rows:
    """Read a table by readers that are not the toolkit's; in CSV an empty field without quotation marks is missing."""
    if path.suffix == ".parquet":
        rows: Rows = pq.read_table(path).to_pylist()
        return rows
    if ".csv" in path.name:
        return [{name: _number(name, value) for name, value in row.items()} for row in _read_csv(path).to_pylist()]
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.decode().split("\n") if line]


def _read_csv(path: Path) -> pa.Table:
    names = pacsv.open_csv(path).schema.names
    parsing = pacsv.ParseOptions(newlines_in_values=True)
    conversion = pacsv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return pacsv.read_csv(path, parse_options=parsing, convert_options=conversion)


def _number(name: str, value: Any) -> Any:
    kinds = {"score": float, "cost": float, "sample": int, "prompt_tokens": int, "completion_tokens": int}
    return value if value is None or name.partition(":")[0] not in kinds else kinds[name.partition(":")[0]](value)


def ordered(rows: Sequence[dict[str, Any]], without: Sequence[str] = ()) -> list[str]:
    kept = [{name: value for name, value in row.items() if name not in without and value is not None} for row in rows]
    return sorted(json.dumps(row, sort_keys=True) for row in kept)


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl.gz"])
def test_a_generated_suite_is_its_transitions(ending: str, cache: Cache, suite: Suite, tmp_path: Path) -> None:
    rows = read(exported(cache, suite, "long", tmp_path / f"t{ending}"))
    assert list(rows[0]) == [
        "benchmark", "item", "question", "model", "path", "split", "score", "prompt_tokens", "completion_tokens", "response",
        "reference", "score:token_f1@1",
    ]  # fmt: skip
    references = {(question.benchmark, question.item): question.reference.answers[0] for question in suite.questions}
    expected = [
        {
            **{name: row[name] for name in ("benchmark", "item", "model", "split", "prompt_tokens", "completion_tokens")},
            "question": row["question_prompt"],
            "path": " > ".join(row["path"]),
            "score": row["quality"],
            "response": row["response"],
            "reference": references[row["benchmark"], row["item"]],
        }
        for row in cache.arrow("FROM transitions").to_pylist()
    ]
    assert len(rows) == 24 * 6
    assert ordered(rows, without=["score:token_f1@1"]) == ordered(expected)


@pytest.mark.parametrize(("hops", "samples"), [(1, 1), (2, 1), (1, 3)])
def test_long_to_cache_to_long_is_the_identity(hops: int, samples: int, tmp_path: Path) -> None:
    rows = given_rows(hops, samples)
    rows = [row for n, row in enumerate(rows) if n % 9 != 4]  # missing cells have no row
    cache, suite = imported(tmp_path, rows)
    for ending in (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz"):
        assert ordered(read(exported(cache, suite, "long", tmp_path / f"t{ending}"))) == ordered(rows), ending


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_any_long_table_is_what_it_was(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    hops, samples = data.draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]))
    rows = given_rows(hops, samples, questions=data.draw(st.integers(1, 4)))
    rows = data.draw(st.lists(st.sampled_from(rows), unique_by=json.dumps, min_size=1))
    numbers = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 0.1, 1e-12])
    rows = [row | {"score": data.draw(numbers), "cost": data.draw(numbers), "response": data.draw(st.text())} for row in rows]
    hops = max(row.get("path", "").count(" > ") for row in rows) + 1
    samples = max(row.get("sample", 0) for row in rows) + 1
    dropped = [name for name, is_needed in (("path", hops > 1), ("sample", samples > 1)) if not is_needed]
    folder = tmp_path_factory.mktemp("any")
    cache, suite = imported(folder, rows)
    for ending in (".parquet", ".csv", ".jsonl"):
        assert ordered(read(exported(cache, suite, "long", folder / f"t{ending}"))) == ordered(rows, without=dropped)


def test_costs_of_some_models_and_tokens_of_others_become_costs(tmp_path: Path) -> None:
    rows = given_rows()
    by_tokens = [row | {"cost": None, "prompt_tokens": 10, "completion_tokens": 3} for row in rows if row["model"] == "C d"]
    imported(tmp_path, [row for row in rows if row["model"] == "a/b"])
    cache, suite = imported(tmp_path, by_tokens, rates={"C d": (2.0, 5.0)})
    path = exported(cache, suite, "long", tmp_path / "t.jsonl")
    assert {row["cost"] for row in read(path) if row["model"] == "C d"} == {35.0}
    again = Cache(tmp_path / "again.duckdb")
    assert import_results([str(path)], "theirs", again, tmp_path / "weights", encode=encode).n_missing == 0


def test_long_to_cache_to_long_to_cache_is_the_identity_to_the_byte(tmp_path: Path) -> None:
    cache, suite = imported(tmp_path, given_rows(2))
    first = exported(cache, suite, "long", tmp_path / "first.parquet")
    again = Cache(tmp_path / "again.duckdb")
    second_suite = import_results([str(first)], "theirs", again, tmp_path / "weights", encode=encode).suite
    assert second_suite.key == suite.key
    assert exported(again, second_suite, "long", tmp_path / "second.parquet").read_bytes() == first.read_bytes()


def test_tokens_stay_tokens_and_empty_columns_are_left_out(tmp_path: Path) -> None:
    rows = [
        {name: value for name, value in row.items() if name not in ("response", "reference", "cost")}
        | {"prompt_tokens": n, "completion_tokens": 7}
        for n, row in enumerate(given_rows())
    ]
    cache, suite = imported(tmp_path, rows, rates={"a/b": (0.5, 2.0), "C d": (1.0, 1.0)})
    shown = read(exported(cache, suite, "long", tmp_path / "t.jsonl"))
    assert list(shown[0]) == list(rows[0])
    assert ordered(shown) == ordered(rows)
    wide = read(exported(cache, suite, "routerbench", tmp_path / "t.parquet"))
    priced = {(row["eval_name"], row["sample_id"]): row["a/b|total_cost"] for row in wide}
    assert priced == {(row["benchmark"], row["item"]): 0.5 * row["prompt_tokens"] + 14 for row in rows if row["model"] == "a/b"}


def test_further_metrics_are_columns(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    with cache.write() as con:
        con.execute("UPDATE scores SET value = hash(text) % 1000 / 1000 WHERE metric = 'token_f1@1'")
    rows = read(exported(cache, suite, "long", tmp_path / "t.parquet"))
    query = """
        SELECT t.benchmark, t.item, t.path, s.value, t.quality FROM transitions AS t
        JOIN generations AS g USING (generation) JOIN scores AS s ON s.question = t.question AND s.text = g.text
        WHERE s.metric = 'token_f1@1'
    """
    expected = {
        (row["benchmark"], row["item"], " > ".join(row["path"])): (row["value"], row["quality"])
        for row in cache.arrow(query).to_pylist()
    }
    shown = {(row["benchmark"], row["item"], row["path"]): (row["score:token_f1@1"], row["score"]) for row in rows}
    assert shown == expected
    assert {further == score for further, score in shown.values()} == {True, False}  # it is the quality of one benchmark


@pytest.mark.parametrize("ending", [".csv.gz", ".parquet"])
def test_routerbench_has_a_column_for_each_path(ending: str, cache: Cache, suite: Suite, tmp_path: Path) -> None:
    with cache.write() as con:
        con.execute("DELETE FROM generations WHERE generation = (SELECT min(generation) FROM transitions WHERE depth = 2)")
    rows = read(exported(cache, suite, "routerbench", tmp_path / f"t{ending}"))
    paths = [f"{first} > {second}" for first in ("sums", "words") for second in ("sums", "words")]
    assert list(rows[0]) == [
        "sample_id", "prompt", "eval_name", *paths, *(f"{path}|model_response" for path in paths),
        *(f"{path}|total_cost" for path in paths), "oracle_model_to_route_to",
    ]  # fmt: skip
    unit = cache.arrow("SELECT cost_unit FROM current_suites")["cost_unit"][0].as_py()
    shown = {
        (row["sample_id"], path): (
            float(row[path]), ast.literal_eval(row[f"{path}|model_response"]), float(row[f"{path}|total_cost"]),
        )
        for row in rows
        for path in paths
        if row[path] is not None
    }  # fmt: skip
    expected: dict[Any, Any] = {
        (f"{row['benchmark']}/{row['item']}", " > ".join(row["path"])): (
            row["quality"], [row["response"]], pytest.approx(row["cost"] * unit),
        )
        for row in cache.arrow("FROM paths").to_pylist()
    }  # fmt: skip
    assert 24 * 3 < len(expected) < 24 * 4
    assert shown == expected
    prompts = {f"{question.benchmark}/{question.item}": question.prompt for question in suite.questions}
    for row in rows:
        assert ast.literal_eval(row["prompt"]) == [prompts[row["sample_id"]]]
        assert row["sample_id"].startswith(row["eval_name"])
        scores = {path: shown[row["sample_id"], path][0] for path in paths if (row["sample_id"], path) in shown}
        best = [path for path, score in scores.items() if score == max(scores.values())]
        cheapest = min(best, key=lambda path: shown[row["sample_id"], path][2])
        assert row["oracle_model_to_route_to"] == (cheapest if max(scores.values()) else "no_model_correct")
    assert {row["oracle_model_to_route_to"] == "no_model_correct" for row in rows} == {True, False}


def test_routerbench_numbers_samples_and_tells_equal_items_apart(tmp_path: Path) -> None:
    rows = [row | {"item": f"i{row['question'][-2]}"} for row in given_rows(samples=2, questions=4)]
    cache, suite = imported(tmp_path, rows)
    wide = read(exported(cache, suite, "routerbench", tmp_path / "t.csv"))
    assert [row["sample_id"] for row in wide] == [f"i{n}#{sample}" for n in range(4) for sample in range(2)]
    rows = [row | {"item": f"i{int(row['question'][-2]) // 2}"} for row in given_rows(questions=4)]
    cache, suite = imported(tmp_path, rows, "equal")
    wide = read(exported(cache, suite, "routerbench", tmp_path / "equal.csv"))
    assert [row["sample_id"] for row in wide] == ["x/i0", "y z/i0", "x/i1", "y z/i1"]


@pytest.mark.parametrize("model", ["prompt", "a|total_cost"])
def test_routerbench_refuses_models_that_look_like_other_columns(model: str, tmp_path: Path) -> None:
    cache, suite = imported(tmp_path, [row | {"model": model} for row in given_rows() if row["model"] == "a/b"])
    with pytest.raises(SuiteError, match=r"cannot be told.*--format long"):
        exported(cache, suite, "routerbench", tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


def test_llmrouterbench_has_a_file_per_benchmark_split_and_model(tmp_path: Path) -> None:
    rows = given_rows(samples=2)[:-1]
    cache, suite = imported(tmp_path, rows)
    folder = exported(cache, suite, "llmrouterbench", tmp_path / "out")
    shown: Rows = []
    for file in folder.rglob("*.json"):
        document = json.loads(file.read_text("utf-8"))
        safe = [re.sub("[ /]", "_", document[name]) for name in ("dataset_name", "split", "model_name")]
        assert file.parent == folder.joinpath("bench", *safe)
        assert re.fullmatch(re.escape("-".join(safe)) + r"-\d{8}_\d{6}\.json", file.name)
        records = document["records"]
        assert document["counts"] == len(records)
        assert document["cost"] == pytest.approx(sum(record["cost"] for record in records))
        assert document["performance"] == pytest.approx(sum(record["score"] for record in records) / len(records))
        assert len({record["index"] for record in records}) == len(records)
        shown += [
            {
                "benchmark": document["dataset_name"],
                "item": record["extra_fields"]["item"],
                "question": record["origin_query"],
                "model": document["model_name"],
                "sample": record["extra_fields"]["sample"],
                "split": document["split"],
                "score": record["score"],
                "cost": record["cost"],
                "response": record["raw_output"],
                "reference": record["ground_truth"],
            }
            for record in records
        ]
    expected = [row | {"reference": row["reference"] or ""} for row in rows]
    assert ordered(shown) == ordered(expected, without=["score:judge"])


def test_llmrouterbench_has_paths_and_what_metrics_extracted(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    folder = exported(cache, suite, "llmrouterbench", tmp_path / "out")
    documents = [json.loads(file.read_text("utf-8")) for file in folder.rglob("*.json")]
    unit = cache.arrow("SELECT cost_unit FROM current_suites")["cost_unit"][0].as_py()
    expected: dict[Any, Any] = {
        (row["benchmark"], row["item"], " > ".join(row["path"])): (
            row["prompt_tokens"], row["completion_tokens"], pytest.approx(row["cost"] * unit),
        )
        for row in cache.arrow("FROM paths").to_pylist()
    }  # fmt: skip
    shown = {
        (document["dataset_name"], record["extra_fields"]["item"], document["model_name"]): (
            record["prompt_tokens"], record["completion_tokens"], record["cost"],
        )
        for document in documents
        for record in document["records"]
    }  # fmt: skip
    assert shown == expected
    right = [record for document in documents for record in document["records"] if record["raw_output"].startswith("Answer: ")]
    assert right
    assert all(record["prediction"] == record["raw_output"].removeprefix("Answer: ") for record in right)


def test_file_names_are_safe_and_different() -> None:
    names = file_names(["a/b", "a b", "A b", "..", ".", "é" * 300, "x" * 300, "x" * 200, "a/b"])
    assert names["a/b"] == "a_b"
    assert len({name.lower() for name in names.values()}) == len(names) == 8
    assert all(re.fullmatch(r"[\w.-]{1,63}", name) and name.strip(".") for name in names.values())


def test_datasets_loads_the_folder(
    cache: Cache, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    from datasets import load_dataset

    folder = exported(cache, suite, "dataset", tmp_path / "out")
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "hf"))
    rows = read(exported(cache, suite, "long", tmp_path / "t.parquet"))
    assert list(loaded) == ["train", "validation", "test"]
    for split, part in loaded.items():
        assert part.to_list() == [row for row in rows if row["split"] == split]
    card = (folder / "README.md").read_text("utf-8")
    front, text = card.removeprefix("---\n").split("\n---\n", 1)
    assert re.search("^# license: ", front, re.MULTILINE)
    assert re.findall(r"num_examples: (\d+)", front) == [str(part.num_rows) for part in loaded.values()]
    for expected in (str(suite.key), "made/up", "0" * 40, "exact_match@1", "--rate words=3.0,3.0", "Not stated yet"):
        assert expected in text
    assert json.loads(text.rpartition("```json\n")[2].removesuffix("```\n"))["name"] == "scripted"


def test_a_suite_without_validation_questions_has_no_such_split(tmp_path: Path) -> None:
    cache, suite = imported(tmp_path, [row for row in given_rows() if row["split"] != "validation"])
    folder = exported(cache, suite, "dataset", tmp_path / "out")
    assert sorted(file.name[:5] for file in (folder / "data").iterdir()) == ["test-", "train"]
    assert "validation-" not in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", EXPORTS)
def test_nothing_is_overwritten_and_a_failure_leaves_nothing(
    name: str, cache: Cache, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, results = tmp_path / default_output("s", name), read_suite_results(cache, suite)
    monkeypatch.setattr("toolkit.outcomes.suite_results.READ_NODES", 60)
    real, calls = Cache.query, []

    def fail(self: Cache, query: str, /, **parameters: Any) -> Any:
        calls.append(query)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        return real(self, query, **parameters)

    before = set(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Cache, "query", fail)
        with pytest.raises(ToolkitError, match="No space left"):
            export_results(results, name, path)
    assert set(tmp_path.iterdir()) == before
    export_results(results, name, path)
    content = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} or path.read_bytes()
    if path.is_dir():
        with pytest.raises(ToolkitError, match="is not empty"):
            export_results(results, name, path, overwrite=True)
    else:
        export_results(results, name, path, overwrite=True)
    assert ({file: file.read_bytes() for file in path.rglob("*") if file.is_file()} or path.read_bytes()) == content


def test_a_suite_without_results_is_refused(cache: Cache, suite: Suite) -> None:
    with cache.write() as con:
        con.execute("DELETE FROM scores")
    with pytest.raises(IncompleteCacheError, match=r"toolkit status scripted --cache"):
        read_suite_results(cache, suite)


@pytest.mark.parametrize(
    ("name", "ending"), [("long", ".xlsx"), ("long", ""), ("routerbench", ".pkl"), ("routerbench", ".jsonl")]
)
def test_other_endings_are_refused(name: str, ending: str, cache: Cache, suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"known format: .*\.csv"):
        exported(cache, suite, name, tmp_path / f"t{ending}")


def test_csv_is_read_alike_by_the_standard_library(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    path = exported(cache, suite, "long", tmp_path / "t.csv")
    with path.open(newline="", encoding="utf-8") as file:
        assert [row["response"] for row in csv.DictReader(file)] == [row["response"] for row in read(path)]
