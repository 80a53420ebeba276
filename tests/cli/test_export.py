"""`toolkit export` of a suite: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.session import Session, session
from toolkit.outcomes.exporting import EXPORTS
from toolkit.store import Cache

__all__ = ["session"]


@pytest.fixture
def generated(session: Session, whole: Path) -> Session:
    """A session in a folder with the cache of a generated suite: 24 questions, 2 models, 2 hops."""
    Path("cache").mkdir()
    shutil.copy(whole, "cache/scripted.duckdb")
    return session


def test_every_format_has_an_output_of_its_own_and_a_whole_cache_is_still_a_folder(generated: Session) -> None:
    outputs = {
        "long": "scripted-long.parquet",
        "routerbench": "scripted-routerbench.csv",
        "llmrouterbench": "scripted-llmrouterbench",
        "dataset": "scripted-dataset",
    }
    assert outputs.keys() == EXPORTS.keys()
    for name, output in outputs.items():
        done = generated.succeeds(f"toolkit export scripted --format {name}")
        assert f"{output}: 144 results of suite scripted" in done.text
        assert Path(output).exists()
    generated.succeeds("toolkit export folder")
    assert Path("folder/generations.parquet").is_file()


def test_the_printed_import_works_and_prices_tokens_alike(generated: Session) -> None:
    [line] = generated.succeeds("toolkit export scripted --format long --output long.csv.gz").commands
    assert line == "toolkit import long.csv.gz --suite my-scripted --rate sums=1.0,1.0 --rate words=3.0,3.0"
    generated.succeeds(line)
    rows = [
        Cache(f"cache/{name}.duckdb").arrow(
            "SELECT benchmark, item, path, split, quality, cost, response FROM transitions ORDER BY ALL"
        )
        for name in ("scripted", "my-scripted")
    ]
    assert rows[0].equals(rows[1])


def test_what_is_missing_is_said_and_force_replaces_a_file(generated: Session) -> None:
    generated.succeeds("toolkit export scripted --format long --output t.jsonl")
    with Cache("cache/scripted.duckdb").write() as con:
        con.execute("DELETE FROM nodes WHERE node = (SELECT min(node) FROM transitions WHERE depth = 2)")
    text = generated.succeeds("toolkit export scripted --format long --output t.jsonl --force").text
    assert "143 results" in text
    assert "Without a score, and left out: 1 of 144 responses." in text
    assert Path("t.jsonl").read_text().count("\n") == 143


def test_refusals_name_a_remedy_and_leave_everything_as_it_is(generated: Session) -> None:
    Path("mine.csv").write_text("precious")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    for arguments, message in {
        "other --format long": "no suite 'other'",
        "none/mine.toml --format long": "no suite file",
        "scripted --format lnog": "no format 'lnog' to export; did you mean 'long'?",
        "scripted --format long --output mine.csv": "--force",
        "scripted --format long --output mine.xlsx": "known format: .parquet",
        "scripted --format routerbench --output mine.pkl": "known format: .csv",
        "scripted --format dataset --output cache": "not empty",
        "scripted --format dataset --output cache --force": "not empty",
        "scripted --format dataset --output mine.csv --force": "is a file",
        "scripted --output mine2.csv": "--format long",
    }.items():
        done = generated(f"toolkit export {arguments}")
        assert (done.code, message in done.text) == (2, True), done.text
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
