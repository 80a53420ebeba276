"""Tables for people and formats for programs."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from toolkit.core.errors import ToolkitError
from toolkit.report.tables import aligned, format_bytes, format_number, markdown, write

COLUMNS = ["model", "R", "nodes", "share", "path"]
ROWS: list[list[Any]] = [
    ["words", "0.5 [0.4, 0.6]", 12, -0.0, ["sums", "words"]],
    ["a|b", "-0.5 [-0.6, -0.4]", None, 0.123456789, ["sums"]],
    ["long " * 20, "-", 1234, 1e-9, []],
]


def test_an_aligned_table_has_numbers_to_the_right_and_cuts_long_cells() -> None:
    assert aligned(COLUMNS, ROWS, max_width=20).splitlines() == [
        "model                                 R  nodes     share  path",
        "--------------------  -----------------  -----  --------  ------------",
        "words                    0.5 [0.4, 0.6]     12         0  sums > words",
        "a|b                   -0.5 [-0.6, -0.4]         0.123457  sums",
        "long long long long…                  -   1234     1e-09",
    ]


def test_a_table_without_rows_shows_its_columns() -> None:
    assert aligned(["model", "R"], []) == "model  R\n-----  -"
    assert markdown(["model", "R"], []) == "| model | R |\n| --- | --- |"


def test_a_cell_is_one_line() -> None:
    assert aligned(["text"], [["one\ntwo\r\nthree"]]).splitlines()[2:] == ["one⏎two⏎three"]
    assert markdown(["text"], [["one\ntwo  three | four"]]).splitlines()[2:] == ["| one two three \\| four |"]


def test_ten_thousand_rows_are_laid_out_within_seconds() -> None:
    rows = [[f"model {n}", n / 7, "0.531 [0.416, 0.641]", "some words " * 5, n] for n in range(10_000)]
    started = time.perf_counter()
    assert len(aligned(["model", "R", "Q", "text", "n"], rows).splitlines()) == 10_002
    assert time.perf_counter() - started < 10


def test_every_format_holds_the_same_rows(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5)
    records: list[dict[str, Any]] = [
        {"name": 'a "quoted", text', "share": 0.1, "nodes": 3, "path": ["x", "y"], "whole": True, "when": moment},
        {"name": None, "share": None, "nodes": None, "path": None, "whole": None, "when": None},
    ]
    for form in ("csv", "json", "markdown", "parquet", "table"):
        write(records, form, tmp_path / form)
        write(pa.Table.from_pylist(records), form, tmp_path / "again")
        assert (tmp_path / form).read_bytes() == (tmp_path / "again").read_bytes()
    assert pl.read_parquet(tmp_path / "parquet").to_dicts() == records
    assert json.loads((tmp_path / "json").read_text()) == [records[0] | {"when": str(moment)}, records[1]]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "csv").read_text())))
    assert (rows[0]["name"], float(rows[0]["share"]), rows[0]["whole"]) == ('a "quoted", text', 0.1, "true")
    assert json.loads(rows[0]["path"]) == ["x", "y"]
    assert set(rows[1].values()) == {""}


def test_a_file_that_cannot_be_written_is_an_error_of_one_paragraph(tmp_path: Path) -> None:
    with pytest.raises(ToolkitError, match="mkdir -p"):
        write([{"n": 1}], "csv", tmp_path / "nowhere" / "o.csv")


NAMES = [
    "plain", "comma, and space", 'a "quoted" one', "'single'", "pipe | name", "\\| both", "ends with \\", "=1+1", "@SUM(A1)",
    "two\nlines", "win\r\ndows", "lone\rreturn", "tab\there", " padded ", "", "百川-7B", "e\u0301te\u0301", "مرحبا",
    "\x1b[31mred", "\x00",
    "\u202egnp.exe", "#comment", "nan", "null", "NULL", "-", "1e3", "007", "True", "<br>", "`code`", "a" * 5000,
]  # fmt: skip


def split_markdown(line: str) -> list[str]:
    """Split a line of a Markdown table into cells, and resolve their escapes, as GitHub does."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    cells, cell, escaped = [], "", False
    for character in line[2:-1]:
        if character == "|" and not escaped:
            cells.append(cell.strip())
            cell = ""
        else:
            cell += character
        escaped = character == "\\" and not escaped
    return [re.sub(r"\\([\\|])", r"\1", text) for text in [*cells, cell.strip()]]


def round_trips(names: list[str], folder: Path) -> None:
    """Write names in every format, and read them with that format's own reader."""
    records = [{"name": name, "n": n} for n, name in enumerate(names)]
    for form in ("csv", "json", "markdown", "parquet", "table"):
        write(records, form, folder / form)
    assert pl.read_parquet(folder / "parquet").to_dicts() == records
    assert json.loads((folder / "json").read_text("utf-8")) == records
    with (folder / "csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["name", "n"], *([name, str(n)] for n, name in enumerate(names))]
    lines = (folder / "table").read_text("utf-8").splitlines()
    assert len(lines) == 2 + len(names)
    assert len({cell_len(line) for line in lines[2:]}) <= 1 + len({len(str(n)) for n in range(len(names))})


def test_every_format_holds_names_of_any_text(tmp_path: Path) -> None:
    round_trips(NAMES, tmp_path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_every_format_holds_whatever_text_unicode_has(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    round_trips(names, tmp_path_factory.mktemp("formats"))


@pytest.mark.parametrize("name", [name for name in NAMES if " ".join(name.split()) == name and not set(name) & set("\x00\x1b")])
def test_a_markdown_cell_stays_a_cell(name: str) -> None:
    lines = markdown([name, "n"], [[name, 1], ["other", name]]).split("\n")
    assert split_markdown(lines[0]) == [name, "n"]
    assert [split_markdown(line) for line in lines[2:]] == [[name, "1"], ["other", name]]


def test_line_breaks_are_kept_in_markdown(tmp_path: Path) -> None:
    write([{"text": "one\ntwo\r\nthree"}], "markdown", tmp_path / "rows.md")
    assert (tmp_path / "rows.md").read_text().splitlines()[2] == "| one<br>two<br>three |"


def test_wide_characters_stay_aligned() -> None:
    lines = aligned(["model", "R"], [["百川智能", 0.5], ["plain", 0.25], ["e\u0301te\u0301", 1]]).splitlines()
    assert {cell_len(line) for line in lines} == {14}
    assert aligned(["model"], [["百" * 40]], max_width=11).splitlines()[2] == "百" * 5 + "…"


def test_what_a_terminal_would_obey_is_escaped_in_a_table_and_kept_in_a_file(tmp_path: Path) -> None:
    rows = [["\x07bell"], ["\u202eevil"]]
    assert aligned(["\x1b[2J"], rows, escape=False).splitlines()[::2] == ["\x1b[2J", "\x07bell"]
    assert aligned(["\x1b[2J"], rows, escape=True).splitlines()[::2] == [r"\x1b[2J", r"\x07bell"]
    write([{"name": "\x1b[2J"}], "csv", tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == "name\n\x1b[2J\n"


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "table"])
def test_no_format_sends_escape_codes_to_a_terminal(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(stdout, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", stdout)
    write([{"name\x9b": "\x1b[2J \u202e \x7f\r\x9b"}], form)
    text = stdout.buffer.getvalue().decode()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    with pytest.raises(ToolkitError, match="--output FILE"):
        write([{"n": 1}], "parquet")


def test_nan_and_infinity_leave_every_format_readable(tmp_path: Path) -> None:
    nan, infinity = float("nan"), float("inf")
    records: list[dict[str, Any]] = [{"value": value, "list": [value, 1.0]} for value in (0.5, nan, infinity, -infinity, None)]
    for form in ("csv", "json", "markdown", "parquet", "table"):
        write(records, form, tmp_path / form)
    strict = json.loads((tmp_path / "json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [row["value"] for row in strict] == [0.5, None, None, None, None]
    assert strict[1]["list"] == [None, 1.0]
    assert pl.read_parquet(tmp_path / "parquet")["value"].to_list()[2:] == [infinity, -infinity, None]
    assert pl.read_csv(tmp_path / "csv")["value"].to_list()[2:] == [infinity, -infinity, None]
    lines = (tmp_path / "table").read_text().splitlines()[2:]
    assert [line[:5] for line in lines] == ["  0.5", "    -", "  inf", " -inf", "     "]


def test_numbers_and_sizes_are_written_for_people() -> None:
    assert [format_number(value) for value in (0.5, -0.12345, None, float("nan"))] == ["0.500", "-0.123", "-", "-"]
    assert [format_number(value) for value in (-1e-9, -0.0, -0.0005001)] == ["0.000", "0.000", "-0.001"]
    assert [format_bytes(size) for size in (0, 999, 1000, 3_400_000, 5 * 10**15)] == [
        "0 bytes", "999 bytes", "1.0 kB", "3.4 MB", "5000.0 TB",
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "parquet", "table"])
def test_two_columns_of_one_name_are_refused(form: str, tmp_path: Path) -> None:
    rows = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(ToolkitError, match="Two columns are named 'a'"):
        write(rows, form, tmp_path / "rows")
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize("form", ["json", "markdown", "table"])
def test_a_value_that_python_does_not_have_is_one_message(form: str, tmp_path: Path) -> None:
    rows = pa.table({"day": pa.array([2**30], pa.int32()).cast(pa.date32())})
    with pytest.raises(ToolkitError, match=f"cannot be written as {form}"):
        write(rows, form, tmp_path / "rows")
