"""Tables for people and formats for programs."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

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


def test_numbers_and_sizes_are_written_for_people() -> None:
    assert [format_number(value) for value in (0.5, -0.12345, None, float("nan"))] == ["0.500", "-0.123", "-", "-"]
    assert [format_bytes(size) for size in (0, 999, 1000, 3_400_000, 5 * 10**15)] == [
        "0 bytes", "999 bytes", "1.0 kB", "3.4 MB", "5000.0 TB",
    ]  # fmt: skip
