"""Tables of any format: text stays text, the same data give the same keys, and what is malformed is refused with its place."""

from __future__ import annotations

import csv
import filecmp
import gzip
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.outcomes.tables import options_of, read_results
from tests.scripted import encode
from toolkit.core.errors import BenchmarkError, ToolkitError
from toolkit.core.text import printable
from toolkit.outcomes.importing import ImportSummary, import_results
from toolkit.outcomes.reading import KINDS
from toolkit.store import Cache

Rows = Sequence[dict[str, Any]]
CODES = (
    "0870",
    "1e3",
    "007",
    "07",
    "7",
    "true",
    "null",
    "NaN",
    "2024-01-02",
    "1,5",
    ' "x" ',
    "a\r\nb",
    "-0",
    "0x1F",
    "a\u2028",
    "1_0",
)
"""Texts that a reader might take for something else."""


def cell(item: Any = "i", model: Any = "m", **values: Any) -> dict[str, Any]:
    return {"benchmark": "b", "item": item, "question": f"Question {item}?", "model": model, "score": 0.5, "cost": 1.0} | values


def write(path: Path, rows: Rows) -> Path:
    """Write rows, which have the same columns, in the format of a path; None is missing, and a text is a text."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    columns = list(rows[0])
    if name.endswith((".parquet", ".feather", ".arrow")):
        frame = pl.DataFrame(rows, infer_schema_length=None)
        getattr(frame, "write_parquet" if name.endswith(".parquet") else "write_ipc")(path)
        return path
    if name.endswith(".csv"):
        lines = [
            ",".join("" if row[c] is None else '"' + str(row[c]).replace('"', '""') + '"' for c in columns) for row in rows
        ]
        text = "\r\n".join([",".join(columns), *lines])
    elif name.endswith((".jsonl", ".ndjson")):
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = json.dumps(list(rows), ensure_ascii=False, indent=1)
    content = text.encode("utf-8", "surrogatepass")
    if path.name.endswith(".gz"):
        content = gzip.compress(content)
    elif path.name.endswith(".zst"):
        content = pa.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(content)
    return path


def import_table(path: Path, cache: Path | None = None, **options: Any) -> tuple[ImportSummary, Cache]:
    opened = Cache(cache or path.with_name("c.duckdb"))
    return import_results(path, "s", opened, path.parent / "weights", options_of(**options), encode=encode), opened


FORMATS = (*KINDS, ".csv.gz", ".json.gz", ".jsonl.zst")


@pytest.mark.parametrize("suffix", FORMATS)
def test_text_stays_text_and_every_format_gives_the_same_keys(suffix: str, tmp_path: Path) -> None:
    rows = [
        cell(
            code,
            f"model {code.strip()}" if code.isprintable() else "m",
            question=f"{code}?",
            response=code,
            reference=code,
            split=split,
        )
        for code, split in zip(CODES, ("train", "test") * len(CODES), strict=False)
    ]
    rows.append(cell("empty", response="", reference=None, split="dev"))
    summary, cache = import_table(write(tmp_path / f"table{suffix}", rows))
    expected, _ = import_table(write(tmp_path / "table.jsonl", rows), tmp_path / "expected.duckdb")
    assert [question.item for question in summary.suite.questions] == [row["item"] for row in rows]
    assert summary.suite.key == expected.suite.key
    responses = cache.arrow("SELECT item, response FROM transitions WHERE status = 'ok'").to_pylist()
    assert {row["item"]: row["response"] for row in responses} == {row["item"]: row["response"] for row in rows}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".feather"])
def test_integers_in_text_columns_are_their_digits_and_other_numbers_are_refused(suffix: str, tmp_path: Path) -> None:
    rows = [cell("1", response=12), cell("2", response=-3)]
    for number, row in enumerate(rows, 1):
        row["item"] = number
    summary, cache = import_table(write(tmp_path / f"t{suffix}", rows))
    assert [question.item for question in summary.suite.questions] == ["1", "2"]
    assert cache.arrow("SELECT response FROM transitions ORDER BY item")["response"].to_pylist() == ["12", "-3"]
    for value in (1.5, True, [1], {"a": 1}):
        with pytest.raises(BenchmarkError, match=r"row 1, column item: .* is .*and this column is text"):
            read_results(write(tmp_path / f"bad{suffix}", [cell(item=value)]))


@pytest.mark.parametrize("column", ["score", "cost", "prompt_tokens", "completion_tokens", "sample"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_is_not_a_number_of_its_column_is_refused_with_row_and_column(column: str, suffix: str, tmp_path: Path) -> None:
    bad: list[object] = [float("nan"), float("inf"), -float("inf"), "abc", "1_0", "nan", "\u0661", 10**400, -1, 1e300]
    if column not in ("score", "cost"):
        bad += [1.5, 2**31]
    for value in bad:
        if suffix == ".parquet" and isinstance(value, int) and abs(value) > 2**63:
            continue
        rows = [cell("0", **{"cost": 1.0} | {column: 0 if not isinstance(value, str) else "0"}), cell("1", **{column: value})]
        if suffix == ".parquet" and isinstance(value, float):
            rows[0][column] = 0.0
        place = r"row 2 \(line 3\)" if suffix == ".csv" else "row 2"
        with pytest.raises(BenchmarkError, match=rf"t{suffix}, {place}, column {column}: ") as error:
            read_results(write(tmp_path / f"t{suffix}", rows))
        assert "\n" not in str(error.value)


def test_scores_may_be_truth_values_and_whole_tokens_may_have_a_point(tmp_path: Path) -> None:
    rows = [cell("0", score="TRUE", cost=None, prompt_tokens="12.0", completion_tokens=" 3 ")]
    for suffix, score in ((".csv", "TRUE"), (".jsonl", True), (".parquet", True)):
        frame, _ = read_results(write(tmp_path / f"t{suffix}", [rows[0] | {"score": score}]))
        assert frame.select("score", "prompt_tokens", "completion_tokens").rows() == [(1.0, 12, 3)]


def test_scores_outside_are_clipped_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [cell("0", score=-0.25), cell("1", score=1.5), cell("2", score=0.25)])
    with pytest.raises(BenchmarkError, match=r"row 1 \(line 2\), column score: -0\.25 .*--clip"):
        read_results(path)
    frame, notes = read_results(path, clip=True)
    assert (frame["score"].to_list(), notes.n_clipped) == ([0.0, 1.0, 0.25], 2)


HEADER = "benchmark,item,question,model,score,cost\n"
MALFORMED_FILES: list[tuple[str, bytes, str]] = [
    ("t.csv", b"", "has no rows"),
    ("t.csv", HEADER.encode(), "has no rows"),
    ("t.csv", HEADER.encode() + b"b,i,q,m,1\n", r"row 1 \(line 2\) has 5 fields"),
    ("t.csv", HEADER.encode() + b'b,i,"a\nb",m,1,1\nb,i,q\n', r"row 2 \(line 4\) has 3 fields"),
    ("t.csv", HEADER.encode() + b'b,i,"q,m,1,1\n', "line 2 has a field whose quotation marks"),
    ("t.csv", HEADER.encode() + b'b,i,"q"x,m,1,1\n', "line 2 has a field whose quotation marks"),
    ("t.csv", b"question;model;score\nq;m;1\n", "separated by semicolons: save the file with commas"),
    ("t.csv", b"question;model;score\nq;m;0,5\n", "separated by semicolons: save the file with commas"),
    ("t.csv", HEADER.encode() + b"b,i,caf\xe9,m,1,1\n", "line 2 is not UTF-8 text: it has the byte 0xe9"),
    ("t.csv", b"item," + HEADER.encode() + b"i,b,i,q,m,1,1\n", "has the column item 2 times"),
    ("t.csv", (HEADER + "b,i,q,m,1,1\n").encode("utf-16"), "is UTF-16 text.*iconv"),
    ("t.csv", (HEADER + "b,i,q,m,1,1\n").encode("utf-16-le"), "is UTF-16 text.*iconv"),
    ("t.csv", b"PAR1....", r"its content is \.parquet"),
    ("t.jsonl", b"", "has no rows|lacks the columns"),
    ("t.jsonl", b"{}\n", "lacks the columns question"),
    ("t.jsonl", b'{"benchmark": 1}\n\n{"a": }\n', r"row 2 \(line 3\) is not JSON: .*character 7"),
    ("t.jsonl", b'{"score": 1, "score": 0}\n', "row 1 cannot be read: it has the column score twice"),
    ("t.jsonl", b"3\n", "row 1 is not a JSON object"),
    ("t.jsonl", b"[" * 100_000 + b"\n", "nested too deeply"),
    ("t.json", b'{"rows": []}', "lacks the columns"),
    ("t.json", b"[1]", "row 1 is not a JSON object"),
    ("t.csv.gz", HEADER.encode(), "cannot be read: .*gzip"),
    ("t.csv.gz", gzip.compress(HEADER.encode() * 100, mtime=0)[:-12], "cannot be read"),
    ("t.parquet", HEADER.encode(), "cannot be read: .*what its name says"),
    ("t.parquet", b"", "cannot be read"),
    ("t.feather", b"ARROW1\0\0garbage", "cannot be read"),
    ("t.tsv", HEADER.encode(), "is of an unknown kind"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), MALFORMED_FILES)
def test_malformed_files_are_refused_in_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=message) as error:
        import_table(path)
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_parquet_that_is_not_utf_8_is_refused_with_row_and_column(tmp_path: Path) -> None:
    good = pa.Table.from_pylist([cell("0"), cell("1")])
    texts = pa.array([b"fine", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(good.set_column(2, "question", texts), tmp_path / "t.parquet")
    with pytest.raises(BenchmarkError, match=r"row 2, column question cannot be read"):
        import_table(tmp_path / "t.parquet")


def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path: Path) -> None:
    rows = [cell("0", response="x"), cell("1", response=None)]
    for suffix in (".csv", ".jsonl"):
        plain = write(tmp_path / f"t{suffix}", rows)
        text = plain.read_bytes().replace(b"\r\n", b"\n")
        expected, _ = read_results(plain)
        for content in (text, text + b"\n\n", text.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + text):
            plain.write_bytes(content)
            assert read_results(plain)[0].drop("place").equals(expected.drop("place"))


def test_other_columns_are_named_as_ignored(tmp_path: Path) -> None:
    _, notes = read_results(write(tmp_path / "t.csv", [cell("0", judge="x", note="y")]))
    assert list(notes.ignored) == ["judge", "note"]


def test_chats_are_rendered_in_one_way_in_every_format(tmp_path: Path) -> None:
    chats: list[tuple[Any, str]] = [
        ([{"role": "user", "content": "Hello"}], "Hello"),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "system: Be brief.\n\nuser: Hi"),
        ([{"role": "assistant", "content": "Hi"}], "assistant: Hi"),
    ]
    for suffix in (".jsonl", ".json", ".parquet", ".feather"):
        rows = [cell(str(n), question=chat) for n, (chat, _) in enumerate(chats)]
        frame, _ = read_results(write(tmp_path / f"t{suffix}", rows))
        assert frame["question"].to_list() == [text for _, text in chats]
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    assert read_results(write(tmp_path / "t.jsonl", [cell(question=parts)]))[0]["question"][0] == "a\nb"


@pytest.mark.parametrize(
    "chat",
    [
        [],
        ["Hello"],
        [{"role": "user"}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": "x", "tool_calls": [{"id": "1"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        [{"role": None, "content": "x"}],
        {"role": "user", "content": "x"},
        [{"role": "user", "content": "\ud800"}],
    ],
)
def test_malformed_chats_are_refused(chat: object, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="row 1, column question: "):
        read_results(write(tmp_path / "t.jsonl", [cell(question=chat)]))
    with pytest.raises(BenchmarkError, match="row 1, column response: "):
        read_results(write(tmp_path / "t.jsonl", [cell(response=[{"role": "user", "content": "x"}])]))


TEXTS = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(CODES)
NUMBERS = st.none() | st.floats() | st.integers() | st.sampled_from(["", "1", "0.5", "1e400", "-1", "NaN", "x"]) | st.booleans()
DRAWN_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "benchmark": st.sampled_from(["b", "千问 (1)"]) | TEXTS,
            "item": TEXTS,
            "question": TEXTS,
            "model": st.sampled_from(["m", "GPT 4"]) | TEXTS,
            "response": st.none() | TEXTS,
            "reference": st.none() | TEXTS,
            "score": st.sampled_from([0.0, 1.0]) | NUMBERS,
            "cost": st.just(1.0) | NUMBERS,
        }
    ),
    min_size=1,
    max_size=3,
)


@given(rows=DRAWN_ROWS, suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]))
@settings(max_examples=40, deadline=None)
def test_drawn_tables_come_back_exactly_or_are_refused_with_row_and_column(
    small_cache: Path, tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    cache = Cache(folder / "c.duckdb")
    shutil.copy(small_cache, cache.path)
    try:
        path = write(folder / f"t{suffix}", rows)
    except (pl.exceptions.PolarsError, TypeError, OverflowError, UnicodeError):
        return  # polars cannot write such a table
    message = None
    try:
        import_table(path, cache.path)
    except ToolkitError as error:
        message = str(error)
    if message is not None:
        assert filecmp.cmp(cache.path, small_cache, shallow=False)
        assert re.search(
            r", row \d.*column \w+|same cell as|no row with a score|gives tokens, and .* has no price|, line \d+ is not UTF-8",
            message,
        ), message
        assert printable(message) == message
        assert {file.name for file in folder.iterdir()} == {path.name, "c.duckdb"}
        return
    results = cache.arrow(
        "SELECT benchmark, item, model, response, question_prompt AS question FROM transitions"
        " WHERE status = 'ok' AND item <> 'first'"
    ).to_pylist()
    columns = ("benchmark", "item", "model", "response", "question")
    imported = [{column: row[column] for column in columns} for row in rows if row["score"] not in (None, "")]
    assert sorted(results, key=str) == sorted(imported, key=str)


@pytest.fixture(scope="module")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    _, cache = import_table(write(folder / "first.jsonl", [cell("first")]))
    return cache.path


@pytest.mark.parametrize("absent", ["score", "model", "question"])
def test_a_part_of_a_table_of_json_may_lack_a_column(absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.outcomes.reading.CHUNK_ROWS", 2)
    rows = [cell(str(number)) for number in range(4)]
    for row in rows[2:]:
        row["score"] = None
        del row[absent]
    frame, notes = read_results(write(tmp_path / "t.jsonl", rows))
    assert (frame["item"].to_list(), notes.n_unscored) == (["0", "1"], 2)


def test_csv_fields_are_those_of_the_csv_module(tmp_path: Path) -> None:
    texts = ["plain", 'say "no"', "a,b", "a\nb", " x ", "'", "\t", "é", '5" pipe']
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*cell(), "response"])
        writer.writeheader()
        writer.writerows(cell(str(n), response=text) for n, text in enumerate(texts))
    assert read_results(path)[0]["response"].to_list() == texts
