"""Benchmarks: the official releases where there are copies, and small samples in their formats everywhere."""

from __future__ import annotations

import csv
import gzip
import hashlib
import inspect
import io
import json
import os
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import BENCHMARKS
from benchmarks.mmlu import BY_SUBJECT
from tests.docs.page import bodies
from toolkit.core.errors import BenchmarkError
from toolkit.core.files import content_sha256
from toolkit.core.workspace import Workspace
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.suites.benchmarks import find_benchmark
from toolkit.tasks.base import Benchmark, Item
from toolkit.tasks.data import DataSplit, _find
from toolkit.tasks.metrics import METRICS, Reference
from toolkit.tasks.metrics.code import program
from toolkit.tasks.sandbox import run_all

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("TOOLKIT_DATA") or "/nowhere")
REAL = [name for name in BENCHMARKS if name not in BY_SUBJECT and BENCHMARKS[name].dataset]

OFFICIAL = {
    "humaneval": (164, "humaneval/HumanEval.jsonl.gz", "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"),
    "mbpp": (500, "mbpp/mbpp.jsonl", "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"),
    "mbpp_sanitized": (
        257,
        "mbpp/mbpp_sanitized_for_code_generation.jsonl",
        "c48e256d2cdd091ed2dcad85a0b6fbc7672884032cf0cf28284d66b7b4eb1552",
    ),
    "gsm8k": (1319, "gsm8k/test.jsonl", "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14"),
    "math500": (500, "math500/test.jsonl", "a239272930e5202bf1d5275f7fa475a56687c775a61f1354a6d3371bf9dd7a94"),
    "aqua": (254, "aqua/test.json", "de41581881ef95c5588c44ddc701c77fd480839241dd422a0d181262af24520c"),
    "nq_open": (3610, "nq_open/NQ-open.dev.jsonl", "f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616"),
    "squad": (1190, "xquad_en/xquad.en.json", "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29"),
    "truthfulqa": (817, "truthfulqa/TruthfulQA.csv", "99d6ae7755e3b435eade956068c9de7c0c474770344237aeb66b56519ba4b697"),
    "truthfulqa_mc1": (817, "truthfulqa/TruthfulQA.csv", "99d6ae7755e3b435eade956068c9de7c0c474770344237aeb66b56519ba4b697"),
    "pubmedqa": (1000, "pubmedqa/ori_pqal.json", "8b3276be8942ebbd77f3ddcda12c1749bf0e490045a736fd8438ee40cf37a41d"),
    "medqa": (1273, "medqa/test.jsonl", "b0536be0ff396be91eb0cf61a42056b0abef06a23e7e8be491d62fd959b77b72"),
    "mmlu": (14042, "mmlu/mmlu.zip", "9e2b2d78bf59d80baf271a13005568ef0aca17bd663f2e5ebfecdc07a68f0edc"),
    "arc_challenge": (
        1172,
        "arc_openbookqa/ARC-Challenge.test.json",
        "4a89ce368ae01a71d268d9851686738b2a0a1d84271116bab49a1dd2b48ecad7",
    ),
    "openbookqa": (
        500,
        "arc_openbookqa/openbookqa.test.json",
        "8479930f7b8a26052c78250280b5465a4016ca7fc806af440d0f37e243f3099e",
    ),
}

ARC = {
    "id": "s1",
    "question": {"stem": "What melts?", "choices": [{"text": "ice", "label": "A"}, {"text": "sand", "label": "B"}]},
}
HUB_CHOICES = {"question": "What melts?", "choices": {"text": ["ice", "sand"], "label": ["A", "B"]}, "answerKey": "A"}
CODE = {
    "text": "Double a number.",
    "code": "def f(x):\r\n    return 2 * x",
    "test_setup_code": "",
    "test_list": ["assert f(2) == 4"],
}
TRUTH = {
    "question": "Is it?",
    "best_answer": "No",
    "correct_answers": ["No", "It is not"],
    "incorrect_answers": ["Yes"],
    "category": "C",
}

SAMPLES: dict[str, list[tuple[dict[str, Any], str]]] = {
    "humaneval": [
        (
            {
                "task_id": "H/0",
                "prompt": "def f(x):\n    '''Double.'''\n",
                "canonical_solution": "    return 2 * x\n",
                "test": "def check(candidate):\n    assert candidate(2) == 4\n",
                "entry_point": "f",
            },
            "def f(x):",
        )
    ],
    "mbpp": [({"task_id": 11} | CODE, "2 * x")],
    "mbpp_sanitized": [
        (
            {"task_id": 11, "prompt": "Double.", "test_imports": ["import math"]} | {k: CODE[k] for k in ("code", "test_list")},
            "2 * x",
        ),
        (
            {
                "task_id": "MbppEval/12",
                "prompt": "def g(x):\n    '''\n    Halve.\n    '''\n",
                "entry_point": "g",
                "canonical_solution": "  return x / 2\n",
                "test": "def check(candidate):\n    assert g(4) == 2\n",
            },
            "x / 2",
        ),
    ],
    "gsm8k": [({"question": "Two and two?", "answer": "2+2=<<2+2=4>>4\n#### 4"}, "4")],
    "math500": [
        ({"problem": "1+1?", "solution": "", "answer": "2", "subject": "Algebra", "level": 1, "unique_id": "a/1"}, "2")
    ],
    "svamp": [({"ID": "c-1", "Body": "Two hens", "Question": "How many?", "Equation": "2", "Answer": 2.0, "Type": "Sum"}, "2")],
    "aqua": [({"question": "1+1?", "options": ["A)1", "B)2"], "rationale": "", "correct": "B"}, "2")],
    "nq_open": [({"question": "who", "answer": ["me", "I"]}, "me")],
    "triviaqa": [({"question": "Who?", "question_id": "t1", "answer": {"value": "Ann", "aliases": ["Anna", ""]}}, "Ann")],
    "hotpotqa": [
        ({"_id": "h1", "question": "Who?", "answer": "Ann", "type": "bridge", "context": [["Ann", ["She is."]]]}, "Ann"),
        (
            {
                "id": "h2",
                "question": "Who is?",
                "answer": "Bob",
                "type": "bridge",
                "context": {"title": ["B"], "sentences": [["Is."]]},
            },
            "Bob",
        ),
    ],
    "squad": [
        ({"id": "q1", "context": "Ann is.", "question": "Who?", "answers": {"text": ["Ann"], "answer_start": [0]}}, "Ann")
    ],
    "truthfulqa": [(TRUTH, "No")],
    "truthfulqa_mc1": [(TRUTH, "No")],
    "pubmedqa": [({"pubid": 1, "question": "Does it?", "context": {"contexts": ["It does."]}, "final_decision": "yes"}, "yes")],
    "medqa": [({"question": "What?", "answer": "Rest", "options": {"A": "Run", "B": "Rest"}, "answer_idx": "B"}, "Rest")],
    "mmlu": [({"question": "1+1?", "subject": "anatomy", "choices": ["1", "2", "3", "4"], "answer": 1}, "2")],
    "arc_challenge": [(ARC | {"answerKey": "A"}, "ice"), ({"id": "s2"} | HUB_CHOICES | {"question": "What does melt?"}, "ice")],
    "openbookqa": [
        (ARC | {"answerKey": "B"}, "sand"),
        ({"id": "s2", "question_stem": "What melts soon?"} | HUB_CHOICES, "ice"),
    ],
    "commonsenseqa": [(ARC | {"answerKey": "B"}, "sand"), ({"id": "s2"} | HUB_CHOICES | {"question": "What may melt?"}, "ice")],
}
"""Rows of our own in the layouts of the hub and of the releases, and the first answer each has."""


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", REAL)
def test_a_sample_in_the_format_of_hub_and_release_loads(name: str, tmp_path: Path) -> None:
    rows = SAMPLES[name]
    path = write(tmp_path / "sample.jsonl", [row for row, _ in rows])
    items = {item.prompt: item for item in BENCHMARKS[name].items(data=path)}
    assert sorted(item.answers[0] for item in items.values() if any(answer in item.answers[0] for _, answer in rows)) == sorted(
        item.answers[0] for item in items.values()
    )
    assert len(items) == len(rows)


@pytest.mark.parametrize("name", REAL)
def test_what_a_benchmark_says_of_itself_is_whole(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name
    assert benchmark.dataset
    assert re.fullmatch("[0-9a-f]{40}", benchmark.dataset.revision)
    assert benchmark.size
    assert benchmark.licence
    assert benchmark.citation
    assert {benchmark.metric, *benchmark.metrics} <= set(METRICS)
    assert benchmark.item
    text = Path(inspect.getfile(benchmark.item)).read_text("utf-8")
    assert "Example" in text
    assert "Licence" in text
    assert len(text.splitlines()) <= 120
    splits = [benchmark.dataset.test, *([benchmark.dataset.examples] if benchmark.dataset.examples else [])]
    assert len({split.name for split in splits}) == len(splits)


def local(name: str) -> Benchmark:
    """A benchmark whose data lie below TOOLKIT_DATA; skips where they do not."""
    benchmark = BENCHMARKS[name]
    assert benchmark.dataset
    if not DATA.is_dir() or _find(benchmark.dataset.test, DATA) is None:
        pytest.skip(f"no copy of {name} below TOOLKIT_DATA")
    return benchmark


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_item_of_the_official_release_loads(name: str) -> None:
    benchmark = local(name)
    count, file, digest = OFFICIAL[name]
    if not (DATA / file).exists():
        pytest.skip(f"no {file} below TOOLKIT_DATA")
    assert content_sha256(DATA / file) == digest
    items = benchmark.items()
    assert len(items) == benchmark.size == count
    assert len({item.id for item in items}) == count
    metric = METRICS[benchmark.metric]
    if not metric.runs_code:
        right = [
            metric.score(answer_of(item, metric.name), Reference(item.answers, item.choices)).value for item in items[:300]
        ]
        assert sum(right) / len(right) > 0.97, "the references do not score as right"


def answer_of(item: Item, metric: str) -> str:
    return f"\\boxed{{{item.answers[0]}}}" if metric == "math_equal" else f"Answer: {item.answers[0]}"


def test_subjects_of_mmlu_add_up_to_all_of_it() -> None:
    whole = Counter(item.stratum for item in local("mmlu").items())
    assert len(whole) == 57
    astronomy = BENCHMARKS["mmlu_astronomy"].items()
    assert len(astronomy) == whole["astronomy"] == 152
    assert {item.id for item in astronomy} < {item.id for item in BENCHMARKS["mmlu"].items()}
    shown = BENCHMARKS["mmlu_astronomy"].items(3, shots=5)
    assert all(item.prompt.count("Answer: ") == 5 for item in shown)


def test_few_shot_examples_come_from_the_other_split() -> None:
    asked = local("gsm8k").items(5, shots=2)
    train = {json.loads(line)["question"].strip() for line in (DATA / "gsm8k/train.jsonl").read_text().splitlines()}
    for item in asked:
        first, second, question = (part.partition("\nThink step")[0] for part in item.prompt.split("\n\n"))
        assert {first, second} <= train
        assert question not in train


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
@pytest.mark.parametrize("name", ["humaneval", "mbpp", "mbpp_sanitized"])
def test_the_canonical_solutions_pass(name: str) -> None:
    items = [item for item in local(name).items() if item.tests]
    programs = [(program(f"```python\n{item.answers[0]}\n```", item.tests), item.tests) for item in items if item.tests]
    verdicts = run_all(programs, "bubblewrap")
    assert [(item.id, verdict) for item, verdict in zip(items, verdicts, strict=True) if verdict.word != "passed"] == []


QUESTIONS = [{"question": f"{n}?", "answer": [str(n)]} for n in range(6)]


def as_zip(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("folder/data.jsonl", text)
    return buffer.getvalue()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


LINES = "".join(json.dumps(row) + "\n" for row in QUESTIONS)
FORMATS: dict[str, Callable[[], bytes]] = {
    "data.jsonl": lambda: LINES.encode(),
    "data.json": lambda: json.dumps(QUESTIONS).encode(),
    "lines.json": lambda: LINES.encode(),
    "data.jsonl.gz": lambda: gzip.compress(LINES.encode()),
    "data.zip": lambda: as_zip(LINES),
    "data.parquet": lambda: as_parquet(QUESTIONS),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_items(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(FORMATS[name]())
    plain = write(tmp_path / "plain.jsonl", QUESTIONS)
    nq = BENCHMARKS["nq_open"]
    assert nq.items(data=tmp_path / name) == nq.items(data=plain)


def test_csv_has_the_layout_of_truthfulqa(tmp_path: Path) -> None:
    with (tmp_path / "TruthfulQA.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source"])
        table.writerow(["A", "C", "Is it?", "No", "No; It is not", "Yes; It, too", "x"])
    (item,) = BENCHMARKS["truthfulqa_mc1"].items(data=tmp_path)
    assert set(item.choices) == {"No", "Yes", "It, too"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "a?", "answer": ["x"]}, {"question": "a?", "answer": ["x"]}], "row 2.*occurs twice"),
        ([{"question": "a?", "answer": ["x"]}, {"question": "b?", "answer": []}], "row 2.*no answer"),
        ([{"question": "a?", "answer": [" "]}], "row 1.*an empty one"),
        ([{"question": "a?"}], "row 1 is not a row of this data set.*'answer'.*it has question"),
        (["text"], "row 1 is not a row"),
        ([], "has no questions"),
    ],
)
def test_wrong_rows_are_refused_with_their_number(rows: list[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=said):
        BENCHMARKS["nq_open"].items(data=write(tmp_path / "data.jsonl", rows))


def test_text_that_is_no_json_is_refused_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "a?", "answer": ["x"]}\n{"question\n')
    with pytest.raises(BenchmarkError, match="line 2 is not JSON"):
        BENCHMARKS["nq_open"].items(data=tmp_path / "data.jsonl")


def test_a_folder_that_holds_none_of_the_files_is_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"NQ-open\.dev\.jsonl"):
        BENCHMARKS["nq_open"].items(data=tmp_path)


def test_data_is_found_below_toolkit_data_in_the_benchmarks_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLKIT_DATA", str(tmp_path))
    write(tmp_path / "other/test.jsonl", [])
    write(tmp_path / "gsm8k/test.jsonl", [SAMPLES["gsm8k"][0][0]])
    (item,) = BENCHMARKS["gsm8k"].items()
    assert item.answers == ("4",)
    assert _find(DataSplit("test", ("medqa/test.jsonl",)), tmp_path) is None


def test_a_larger_limit_contains_the_smaller_one_and_keeps_every_kind(tmp_path: Path) -> None:
    rows = [SAMPLES["mmlu"][0][0] | {"question": f"{n}?", "subject": "anatomy" if n % 4 else "virology"} for n in range(80)]
    path = write(tmp_path / "data.jsonl", rows)
    mmlu = BENCHMARKS["mmlu"]
    whole = mmlu.items(data=path)
    for limit in range(1, 81):
        assert mmlu.items(limit, data=path) == whole[:limit]
        share = sum(item.stratum == "virology" for item in whole[:limit])
        assert abs(share - limit / 4) <= 1
    other = mmlu.items(20, data=path, seed=1)
    assert other != whole[:20]
    with pytest.raises(BenchmarkError, match="fewer than limit = 81"):
        mmlu.items(81, data=path)


def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[Any, ...]] = []

    def load_dataset(hub: str, config: str | None, *, split: str, revision: str) -> list[dict[str, Any]]:
        asked.append((hub, config, split, revision))
        return [row for row, _ in SAMPLES["gsm8k"]]

    monkeypatch.delenv("TOOLKIT_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert BENCHMARKS["gsm8k"].items()[0].answers == ("4",)
    assert asked == [("openai/gsm8k", "main", "test", "740312add88f781978c0658806c59bc2815b9866")]


def hub_repository(folder: Path, name: str) -> Benchmark:
    """Lay out a sample as a repository of the hub, with the benchmark's own configuration and splits, and point it there."""
    benchmark = BENCHMARKS[name]
    assert benchmark.dataset
    row, other = dict(SAMPLES[name][0 if name == "mbpp_sanitized" else -1][0]), {}
    if benchmark.dataset.examples:
        shown = {"mbpp": {"task_id": 1}, "mbpp_sanitized": {"task_id": 1}}.get(name, {})
        text = next(key for key in ("question_stem", "question", "text", "prompt") if key in row)
        other = {benchmark.dataset.examples.name: row | {text: "Another?"} | shown}
    config = benchmark.dataset.config or "default"
    first, *more = benchmark.dataset.test.name.split("+")
    files = {first: row} | {split: row | {"ID": "c-2", "Question": "And more?"} for split in more} | other
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, content in files.items():
        lines += [f"  - split: {split}", f"    path: {config}/{split}-*.parquet"]
        (folder / config).mkdir(parents=True, exist_ok=True)
        (folder / config / f"{split}-00000-of-00001.parquet").write_bytes(as_parquet([content]))
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return replace(benchmark, dataset=replace(benchmark.dataset, hub=str(folder), package=None))


@pytest.mark.parametrize("name", REAL)
def test_a_repository_in_the_hubs_layout_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.delenv("TOOLKIT_DATA", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    benchmark = hub_repository(tmp_path / "repository", name)
    items = benchmark.items()
    assert len(items) == (2 if name == "svamp" else 1)
    assert SAMPLES[name][0 if name == "mbpp_sanitized" else -1][1] in items[0].answers[0]
    if benchmark.dataset and benchmark.dataset.examples:
        (shown,) = benchmark.items(shots=1)
        assert shown.prompt.endswith(items[0].prompt)
        assert "Another?" in shown.prompt.removesuffix(items[0].prompt)


def test_an_unreachable_hub_is_a_message_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(*args: object, **named: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.delenv("TOOLKIT_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(BenchmarkError, match=r"openai/gsm8k.*no network.*test\.jsonl.*TOOLKIT_DATA"):
        BENCHMARKS["gsm8k"].items()


def test_the_worked_example_of_the_docs_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs/reference/benchmarks.md").read_text("utf-8")
    [code] = bodies(text, "python", title="months.py")
    assert len(code.splitlines()) < 100
    (tmp_path / "months.py").write_text(code)
    benchmark = find_benchmark(BenchmarkConfig(name="months", file="months.py"), Workspace(tmp_path, tmp_path), trust=True)
    items = {item.id: item for item in benchmark.items()}
    assert len(items) == 12
    assert METRICS[benchmark.metric].score("It has 28 days.", Reference(items["February"].answers)).value == 1


def test_the_table_of_the_docs_is_a_benchmark(tmp_path: Path) -> None:
    import tomllib

    text = (ROOT / "docs/reference/benchmarks.md").read_text("utf-8")
    (entry,) = tomllib.loads(bodies(text, "toml")[0])["benchmarks"]
    write(tmp_path / "rivers.jsonl", [{"q": "Which river flows through Cairo?", "a": ["Nile", "the Nile"]}])
    benchmark = find_benchmark(BenchmarkConfig(**entry), Workspace(tmp_path, tmp_path))
    (item,) = benchmark.items()
    assert item.prompt == "Which river flows through Cairo?\nAnswer in one word."
    assert item.answers == ("Nile", "the Nile")
    write(tmp_path / "rivers.jsonl", [{"question": "Which?"}])
    with pytest.raises(BenchmarkError, match="row 1 has no 'q'; it has question"):
        benchmark.items()


def test_a_file_without_the_benchmark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n")
    with pytest.raises(BenchmarkError, match="must define one Benchmark named 'mine'; it defines: none"):
        find_benchmark(BenchmarkConfig(name="mine", file="mine.py"), Workspace(tmp_path, tmp_path), trust=True)


def test_ids_do_not_depend_on_the_place_of_the_data() -> None:
    digest = hashlib.sha256()
    for item in sorted(local("gsm8k").items(), key=lambda item: item.id):
        digest.update(f"{item.id}\n{item.answers}\n".encode())
    assert BENCHMARKS["gsm8k"].items(data=DATA / "gsm8k")[0].id == BENCHMARKS["gsm8k"].items()[0].id


@pytest.mark.parametrize(
    ("answer", "text"),
    [(51000000.0, "51000000"), ("1234567.0", "1234567"), (33.3333333, "33.3333333"), (0.25, "0.25"), (8, "8")],
)
def test_references_that_are_numbers_are_written_in_full(answer: object, text: str, tmp_path: Path) -> None:
    (item,) = BENCHMARKS["svamp"].items(data=write(tmp_path / "SVAMP.jsonl", [SAMPLES["svamp"][0][0] | {"Answer": answer}]))
    assert item.answers == (text,)
    assert METRICS["numeric_match"].score(f"Answer: {text}", Reference(item.answers)).value == 1
    assert METRICS["numeric_match"].score("Answer: 7", Reference(item.answers)).value == 0
