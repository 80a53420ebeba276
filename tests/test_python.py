"""docs/guides/python.md runs as it stands, and what it shows leaves the file to others."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import polars as pl
import pytest

from toolkit import Cache
from toolkit.core.errors import CacheError

PAGE = Path(__file__).parent.parent / "docs/guides/python.md"


def test_the_page_runs(
    cache: Cache, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
    code = code.replace("cache/quickstart.duckdb", str(cache.path)).replace("quickstart", "scripted")
    shown: dict[str, object] = {}
    exec(code, shown)
    assert isinstance(shown["transitions"], pl.DataFrame)
    assert len(shown["transitions"]) == 24 * 6
    assert isinstance(shown["by_model"], pl.DataFrame)
    assert set(shown["by_model"]["model"]) == {"sums", "words"}
    assert "geography" in capsys.readouterr().out


def test_a_frame_leaves_the_file_to_writers(cache: Cache) -> None:
    kept = cache.frame("transitions")
    with cache.write() as con:
        con.execute("DELETE FROM scores")
    assert len(kept) == 24 * 6


def test_a_connection_only_reads(cache: Cache) -> None:
    with cache.connect() as con, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        con.execute("DELETE FROM nodes")


def test_a_wrong_name_says_where_the_right_ones_are(cache: Cache) -> None:
    with pytest.raises(CacheError, match="toolkit schema"):
        cache.frame("transition")
