"""Files of rows: every format gives the same rows, and what cannot be read is refused with its place."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.core.errors import BenchmarkError
from toolkit.tasks.formats import read_records

Rows = list[dict[str, str]]
text = st.text(st.characters(codec="utf-8"), max_size=20)
tables = st.lists(text.filter(bool), min_size=1, max_size=4, unique=True).flatmap(
    lambda columns: st.lists(st.fixed_dictionaries(dict.fromkeys(columns, text)), min_size=1, max_size=5)
)


def as_csv(rows: Rows) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(rows[0])
    writer.writerows([row[column] for column in rows[0]] for row in rows)
    return file.getvalue()


def as_lines(rows: Rows) -> str:
    return "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def as_parquet(rows: Rows) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def as_zip(rows: Rows) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/rows.csv", as_csv(rows))
    return file.getvalue()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "a.jsonl": lambda rows: as_lines(rows).encode(),
    "b.jsonl": lambda rows: as_lines(rows).encode("utf-8-sig"),
    "c.jsonl": lambda rows: as_lines(rows).encode("utf-16"),
    "d.jsonl": lambda rows: b"\xfe\xff" + as_lines(rows).encode("utf-16-be"),
    "e.json": lambda rows: json.dumps(rows, indent=1).encode("utf-32"),
    "f.csv": lambda rows: as_csv(rows).encode(),
    "g.CSV": lambda rows: as_csv(rows).encode("utf-16"),
    "h.parquet": as_parquet,
    "i.csv.gz": lambda rows: gzip.compress(as_csv(rows).encode("utf-8-sig")),
    "j.zip": as_zip,
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(rows=tables)
def test_every_format_gives_back_the_same_text(rows: Rows, tmp_path: Path) -> None:
    for name, written in FORMATS.items():
        path = tmp_path / name
        path.write_bytes(written(rows))
        assert [placed.record for placed in read_records(path)] == rows, name


@pytest.mark.parametrize("cell", ["007", "1e3", "true", "NaN", "2024-01-05", "1,000", "", " x ", "null"])
def test_a_cell_of_csv_is_text_whatever_it_looks_like(cell: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(as_csv([{"q": cell, "r": "x"}]))
    (placed,) = read_records(tmp_path / "a.csv")
    assert placed.record == {"q": cell, "r": "x"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"q": 1}\n\n{"q": \n', "line 3 is not JSON"),
        ("a.jsonl", b'{"q": 1, "q": 2}\n', "line 1: the name 'q' occurs twice"),
        ("a.jsonl", b'{"q": ' + b"9" * 6000 + b"}", "line 1: a number of more than 1000 digits"),
        ("a.jsonl", b'{"q": ' + b"[" * 100_000, "row 1 is nested too deeply"),
        ("a.jsonl", b"\xff\xfea", "is not UTF-16 text"),
        ("a.jsonl", b'{"q": "\xe9"}', "is not UTF-8 text .byte 7"),
        ("a.jsonl", b'["x"]', "row 1 is not a row"),
        ("a.json", b'[\n{"q": 1},\n{"q" 2}\n]', "line 3 is not JSON"),
        ("a.json", b'{\n"data": []\n}', "is one JSON object"),
        ("a.csv", b"q,a\n1,2\n3\n", "row 2 has 1 cells for 2 columns"),
        ("a.csv", b"q,a\n1,2,3\n", "row 1 has 3 cells for 2 columns"),
        ("a.csv", b'q,a\n1,"2\n3,4\n', "row 1 is not CSV"),
        ("a.csv", b"q,q\n1,2\n", "two columns 'q'"),
        ("a.parquet", b"PAR1 and no more", "not Parquet"),
        ("a.jsonl.gz", b"not gzip", "cannot be read|damaged"),
        ("a.jsonl.gz", gzip.compress(b'{"q": 1}' * 100, mtime=0)[:20], "damaged"),
        ("a.zip", b"PK\x03\x04 not a zip", "damaged"),
        ("a.pkl", b"\x80\x04N.", "no known format"),
        ("a.npy", b"\x93NUMPY", "no known format"),
        ("a", b"{}", "no known format"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchmarkError, match=said) as caught:
        list(read_records(tmp_path / name))
    assert name.removesuffix(".gz") in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.data())
def test_any_bytes_are_rows_or_an_error_of_the_users(data: st.DataObject, tmp_path: Path) -> None:
    name = data.draw(st.sampled_from([*FORMATS, "x.pkl"]))
    content = bytearray(FORMATS.get(name, as_parquet)([{"q": "two", "a": "2"}]))
    if data.draw(st.booleans()):
        content = bytearray(data.draw(st.binary(max_size=60)))
    for position, byte in data.draw(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=4)):
        if content:
            content[position % len(content)] = byte
    (tmp_path / name).write_bytes(content)
    with contextlib.suppress(BenchmarkError):
        assert all(isinstance(placed.record, dict) for placed in read_records(tmp_path / name))
