"""The page on routers of one's own: its files are written, its commands run, and its queries show the results."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolkit.cli.common import app
from toolkit.store import Cache

PAGE = (Path(__file__).parent.parent / "docs/guides/routers.md").read_text("utf-8")
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def test_its_routers_and_decisions_are_compared_by_its_queries(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert FILES.keys() == {"my_router.py", "rules.py", "choose.py"}
    for name, code in FILES.items():
        Path(name).write_text(code.replace("cache/quickstart.duckdb", str(cache.path)))
    assert FILES["my_router.py"].count("\n") <= 20
    runpy.run_path("choose.py")
    commands = [line for line in re.findall(r"toolkit evaluate quickstart [^#\n]*", PAGE) if "a.py" not in line]
    assert len(commands) == 3
    for words in [*map(shlex.split, commands), ["toolkit", "evaluate", "quickstart", "--router", "rules.py:by_wording"]]:
        words[2] = "scripted"
        result = CliRunner().invoke(app, [*words[1:], "--cache", str(cache.path)])
        assert result.exit_code == 0, result.exception
    rewards, leads, paths = (cache.arrow(query).to_pylist() for query in QUERIES)
    routers = {"my_router.py:MyRouter", "choices.csv", "rules.py:by_wording"}
    assert {row["algorithm"] for row in rewards} == routers
    assert {row["algorithm"] for row in leads} == routers
    by_rule = {tuple(row["path"]) for row in paths if row["algorithm"] == "rules.py:by_wording"}
    assert by_rule == {("sums", "sums"), ("words", "words")}
    assert {tuple(row["path"]) for row in paths if row["algorithm"] == "choices.csv"} == {("sums", "words")}
