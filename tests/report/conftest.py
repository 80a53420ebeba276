"""A report of evaluated routers on a suite whose models respond with text that would act in a careless page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.cli.common import app
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.generation.generate import generate
from toolkit.report.html.page import unpacked
from toolkit.store import Cache

HOSTILE = (
    "</script><script>document.body.dataset.hacked = 1</script><!-- <img src='https://example.com/x.png' onerror="
    "'document.body.dataset.hacked = 1'> \u202e{{ 7 * 7 }} ${alert(1)} \\u003c\u2028 & \U0001f600"
)
FIRST, SECOND = 0.05, 0.2
"""The alphas of the routers."""
NAMED = "second-seed"
"""The name of the one with another seed."""


class Reported(NamedTuple):
    """A report, its text, what its script is given, and the cache that it is of."""

    path: Path
    html: str
    data: dict[str, Any]
    cache: Cache
    runs: list[str]

    def rows(self, table: str) -> list[dict[str, Any]]:
        columns = self.data["tables"][table]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def toolkit(*words: str | Path) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.exception
    return result.output


def read_report(path: Path, cache: Cache, runs: list[str]) -> Reported:
    html = path.read_text("utf-8")
    packed = re.search(r'id="data">([^<]+)</script>', html)
    assert packed
    return Reported(path, html, unpacked(packed[1]), cache, runs)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = tmp_path_factory.mktemp("reported")
    (folder / "cache").mkdir()
    models = [model.model_dump() | {"max_tokens": 64} for model in suite_config().models]
    suite, cache = resolve_config(suite_config(models=models), folder), Cache(folder / "cache/scripted.duckdb")
    right = right_answers(suite)

    def respond(model: str, prompt: Prompt) -> str:
        return right(model, prompt).replace("no idea", HOSTILE)

    generate(suite, cache, Workspace(folder, folder), engine=scripted(respond), encode=encode)
    common = ("--cache", cache.path, "--runs-dir", folder / "runs")
    for alpha, seed in ((FIRST, 0), (FIRST, 1), (SECOND, 0)):
        settings = ("--set", "exact.n_epochs=2", "--algorithm", "exact", *(("--name", NAMED) if seed else ()))
        toolkit("train", "scripted", "--alpha", str(alpha), "--seed", str(seed), *settings, *common)
        toolkit("evaluate", "scripted", *common)
    path = folder / "report.html"
    toolkit("report", "scripted", *common, "-o", path)
    return read_report(path, cache, sorted(run.name for run in (folder / "runs").iterdir()))
