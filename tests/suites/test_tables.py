"""A benchmark as a table of rows: the same questions from every format, or a refusal with file, row and column."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from toolkit.core.errors import BenchmarkError, SuiteError
from toolkit.core.text import is_well_formed
from toolkit.core.workspace import Workspace
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.suites.config import SuiteConfig
from toolkit.suites.resolving import load_questions
from toolkit.suites.suite import Question

MODEL = {"name": "a", "checkpoint": "./a", "dtype": "float32", "base_rate": 1.0}
OWN = {"name": "own", "prompt": "{q}\nAnswer in one word.", "answer": "a", "metric": "exact_match"}


def load(folder: Path, data: str, **entry: Any) -> tuple[Question, ...]:
    config = SuiteConfig.model_validate(
        {"name": "s", "horizon": 1, "models": [MODEL], "benchmarks": [OWN | {"data": data} | entry]}
    )
    return load_questions(config, Workspace(folder, folder))


def lines(folder: Path, *rows: object) -> str:
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return "rows.jsonl"


CELLS = ["007", "1e3", "true", "2024-01-05", " x", "a\0b", "é中", "1,000", '"', "a\r\nb", "\x1b[31m", "{q}", "0.10", "None"]


def test_csv_json_and_parquet_of_the_same_data_give_the_same_keys(tmp_path: Path) -> None:
    rows = [{"id": f"0{number}", "q": cell, "a": cell} for number, cell in enumerate(CELLS)]
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    lines(tmp_path, *rows)
    by_format = [load(tmp_path, name, id="id") for name in ("rows.csv", "rows.jsonl", "rows.parquet")]
    assert by_format[0] == by_format[1] == by_format[2]
    assert {question.reference.answers for question in by_format[0]} == {(cell,) for cell in CELLS}


def test_typed_values_give_the_keys_of_their_text(tmp_path: Path) -> None:
    typed = [{"q": 51000000.0, "a": 51000000}, {"q": 0.5, "a": True}, {"q": 10**30, "a": 1e-7}]
    texts = [{"q": "51000000", "a": "51000000"}, {"q": "0.5", "a": "true"}, {"q": "1" + "0" * 30, "a": "0.0000001"}]
    assert load(tmp_path, lines(tmp_path, *typed)) == load(tmp_path, lines(tmp_path, *texts))


def test_chats_and_nested_values_are_written_in_one_way(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    rows = [{"q": chat, "a": "2"}, {"q": chat[1:], "a": "2"}, {"q": {"é": [1, None]}, "a": "2"}]
    prompts = {question.item: question.prompt for question in load(tmp_path, lines(tmp_path, *rows), prompt="{q}")}
    assert prompts == {"row-1": "system: Be brief.\n\nuser: 1 + 1?", "row-2": "1 + 1?", "row-3": '{"é": [1, null]}'}


@pytest.mark.parametrize(
    ("prompt", "row", "asked"),
    [
        ("{q[0]} or {q[1][x]}", {"q": ["A", {"x": "B"}]}, "A or B"),
        ("{a.b} {c d} {問}", {"a.b": 1, "c d": 2, "問": 3}, "1 2 3"),
        ("{x[0]}", {"x[0]": "exact"}, "exact"),
        ("{n:.2f} {{n}} {s!r:>6}", {"n": 1.005, "s": "a"}, "1.00 {n}    'a'"),
    ],
)
def test_a_prompt_names_columns_and_their_elements(prompt: str, row: dict[str, Any], asked: str, tmp_path: Path) -> None:
    (question,) = load(tmp_path, lines(tmp_path, row | {"a": "x"}), prompt=prompt)
    assert question.prompt == asked


@pytest.mark.parametrize("letters", ["b", "B"])
def test_a_letter_is_the_choice_that_it_names_and_csv_holds_choices_as_json(letters: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f'q,a,c\nWhich?,{letters},"[""red"", ""blue""]"\n')
    (question,) = load(tmp_path, "rows.csv", choices="c", metric="choice_match")
    assert (question.reference.choices, question.reference.answers) == (("red", "blue"), ("blue",))


GOOD: dict[str, Any] = {"q": "Which?", "a": "x"}
FIRST = GOOD | {"q": "First?", "c": ["x", "y"], "i": "1", "s": "s", "z": ["one", "two"]}


@pytest.mark.parametrize(
    ("row", "entry", "said"),
    [
        ({"q": None}, {}, "'q' is null"),
        ({"a": None}, {}, "'a' is null"),
        ({"a": ["x", None]}, {}, "'a' is null"),
        ({"q": "\ud83d"}, {}, "'q' has half of a surrogate pair"),
        ({"a": "x\udc00"}, {}, "'a' has half of a surrogate pair"),
        ({"q": float("nan")}, {}, "'q' is nan, which is not a finite number"),
        ({"a": float("-inf")}, {}, "'a' is -inf"),
        ({"a": ""}, {}, "no answer, or an empty one"),
        ({"a": []}, {}, "no answer"),
        ({}, {"prompt": "{z}"}, "has no 'z'; it has q, a"),
        ({"z": ["only"]}, {"prompt": "{z[1]}"}, "has no 'z.1.'"),
        ({"c": "red, blue"}, {"choices": "c"}, "'c' is not a list of choices"),
        ({"c": ["red", "blue"], "a": "ß"}, {"choices": "c"}, "not among its choices"),
        ({"c": ["red", "blue"], "a": "Z"}, {"choices": "c"}, "not among its choices"),
        ({"i": None}, {"id": "i"}, "'i' is null"),
        ({"s": None}, {"stratum": "s"}, "'s' is null"),
        ({"q": [{"role": "user", "content": [{"type": "image_url"}]}]}, {}, "'q' is a chat in which a message"),
        ({"q": "First?"}, {}, "occurs twice"),
    ],
)
def test_what_is_no_question_is_refused_with_file_row_and_column(
    row: dict[str, Any], entry: dict[str, Any], said: str, tmp_path: Path
) -> None:
    rows = [FIRST, GOOD | row]
    with pytest.raises(BenchmarkError, match=said) as caught:
        load(tmp_path, lines(tmp_path, *rows), **entry)
    assert "rows.jsonl, row 2" in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("{q.__class__}", "has no 'q.__class__'; it has q, a"), ("{q:.2f}", "'q' cannot be formatted by '.2f'")],
)
def test_a_prompt_reads_columns_and_nothing_else_of_a_value(prompt: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=said):
        load(tmp_path, lines(tmp_path, GOOD), prompt=prompt)


@pytest.mark.parametrize(("mark", "said"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_a_csv_file_that_is_not_separated_by_commas_is_named_as_such(mark: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"q{mark}a\nWhich?{mark}x\n", "utf-8")
    with pytest.raises(BenchmarkError, match=f"separated by {said}: save the file with commas"):
        load(tmp_path, "rows.csv")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(content: str, tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.csv"):
        (tmp_path / name).write_text(content, "utf-8")
        with pytest.raises(BenchmarkError, match=r"has no questions"):
            load(tmp_path, name)


def test_a_metric_that_cannot_apply_is_refused_before_anything_is_generated(tmp_path: Path) -> None:
    for metric, needs in (("choice_match", "choices"), ("pass_at_1", "tests")):
        with pytest.raises(SuiteError, match=f"{metric} of benchmark own needs {needs}"):
            load(tmp_path, lines(tmp_path, GOOD), metric=metric)


any_text = st.text(st.characters(codec=None), max_size=10)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"q": values, "a": values}), min_size=1, max_size=4), is_escaped=st.booleans())
def test_any_rows_are_questions_that_can_be_stored_or_a_refusal(rows: list[Any], is_escaped: bool, tmp_path: Path) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=is_escaped) for row in rows)
    (tmp_path / "rows.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        questions = load(tmp_path, "rows.jsonl")
    except BenchmarkError as error:
        refusal = str(error)
        questions = ()
    assert questions or "rows.jsonl, row " in refusal or "rows.jsonl, line " in refusal
    assert not questions or len(questions) == len(rows)
    for question in questions:
        assert all(is_well_formed(text) for text in (question.prompt, *question.reference.answers))
        row = rows[int(question.item.removeprefix("row-")) - 1]
        if isinstance(row["q"], str):
            assert question.prompt == f"{row['q']}\nAnswer in one word."


@given(prompt=any_text.map(lambda text: f"{text}{{q}}{text}"))
def test_any_prompt_is_a_template_or_refused_with_its_name(prompt: str) -> None:
    try:
        BenchmarkConfig.model_validate(OWN | {"data": "x.csv", "prompt": prompt})
        places: list[tuple[int | str, ...]] = [("prompt",)]
    except ValidationError as error:
        places = [detail["loc"] for detail in error.errors()]
    assert places == [("prompt",)]
