"""What the documentation shows is run: SQL against a cache, commands against the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.site.pages import PAGES as WRITTEN
from toolkit.cli import commands
from toolkit.cli.common import app
from toolkit.store import Cache

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "cache/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ON_THE_REFERENCE = ["mdp.md", "exact-evaluation.md"]
"""Pages whose queries name questions of the reference cache."""
QUERIES = [
    pytest.param(query, id=f"{page.relative_to(ROOT)}-{n}")
    for page in PAGES
    if page.name not in ON_THE_REFERENCE
    for n, query in enumerate(re.findall(r"```sql\n(.*?)```", page.read_text("utf-8"), re.DOTALL), 1)
]
COMMANDS = sorted(
    {
        line.strip()
        for page in PAGES
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        for line in block.splitlines()
        if line.strip().startswith("toolkit ")
    }
)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_in_the_docs_runs_and_finds_something(query: str, cache: Cache, decided: None) -> None:
    assert cache.arrow(query).num_rows


@pytest.fixture
def decided(cache: Cache, suite: object, table: object, tmp_path: Path) -> None:
    from toolkit.replay.table import TransitionTable
    from toolkit.routing.evaluate import evaluate, record
    from toolkit.routing.router import load_router
    from toolkit.routing.train import train
    from toolkit.suites.config import TrainConfig
    from toolkit.suites.suite import Suite

    assert isinstance(suite, Suite)
    assert isinstance(table, TransitionTable)
    trained = train(suite, cache, TrainConfig(timesteps=500), 0, tmp_path)
    evaluation, probabilities = evaluate(table, load_router(trained.path), "test", dict.fromkeys(table.benchmarks, True))
    record(cache, suite, table, evaluation, probabilities)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_docs_is_one_that_the_program_takes(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    options = [word for word in words if word.startswith("--")]
    name = words[:2] if " ".join(words[:2]) in commands() else words[:1]
    assert " ".join(name) in commands(), command
    shown = CliRunner().invoke(app, [*name, "--help"], terminal_width=300).output
    for option in options:
        assert option.split("=")[0] in shown, command


@pytest.mark.parametrize("page", ["reference/cli.md", "reference/suite.md", "reference/schema.md"])
def test_written_pages_are_up_to_date(page: str) -> None:
    assert (ROOT / "docs" / page).read_text("utf-8") == WRITTEN[page](), "run: just docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    named = [ROOT / path for path in re.findall(r"`((?:benchmarks|docs|tests|toolkit)/[\w./-]+)`", text)]
    linked = [page.parent / path for path in re.findall(r"\]\(([^)#:]+)\)", text)]
    assert not [path for path in named + linked if not path.exists()]
