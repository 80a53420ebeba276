"""What pages name exists: commands with their options, files and links; and generated pages are up to date."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.docs.page import NOT_RUN, PAGES, ROOT, blocks, prose
from tests.docs.running import command_lines
from tests.site.pages import PAGES as WRITTEN
from toolkit.cli import commands
from toolkit.cli.common import app


def toolkit_commands(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the arguments of every call of `toolkit` in a line of a shell."""
    words: list[str] = []
    for word in [*shlex.shlex(line, posix=True, punctuation_chars="|&;<>()"), ";"]:
        if set(word) <= set("|&;<>()"):
            if "toolkit" in words:
                yield tuple(words[words.index("toolkit") + 1 :])
            words = []
        else:
            words.append(word)


SHELL = [
    block.code
    for page in PAGES
    for block in blocks(page.read_text("utf-8"))
    if NOT_RUN.get(block.code.language, block.code.language) == "sh"
]
PROSE = "\n".join(prose(page.read_text("utf-8")) for page in PAGES)
NAMED = re.findall(r"`(toolkit [a-z][^`]*)`", PROSE)
COMMANDS = sorted(
    {words for code in SHELL for line in command_lines(code.body) for words in toolkit_commands(line)}
    | {words for line in NAMED for words in toolkit_commands(line)}
)
NOT_RUN_PYTHON = [
    pytest.param(page, block.code.body, id=f"{page.relative_to(ROOT)}:{block.code.line}")
    for page in PAGES
    for block in blocks(page.read_text("utf-8"))
    if block.code.language == "py"
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_is_one_that_the_program_takes(words: tuple[str, ...]) -> None:
    words = tuple(word for word in words if word not in ("-q", "-v"))
    name = words[:2] if " ".join(words[:2]) in commands() else words[:1]
    is_group = len(words) == 1 and any(command.startswith(f"{words[0]} ") for command in commands())
    assert words[0] == "--version" or words[0].endswith("-completion") or " ".join(name) in commands() or is_group
    help_text = CliRunner().invoke(app, [*name, "--help"], terminal_width=300).output
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in help_text]
    assert not unknown or words[0].startswith("--")


@pytest.mark.parametrize(("page", "code"), NOT_RUN_PYTHON)
def test_python_that_is_not_run_can_be_parsed(page: Path, code: str) -> None:
    compile(re.sub(r"^[!%].*", "", code, flags=re.MULTILINE), str(page), "exec")  # without the commands of a notebook


def test_every_command_is_in_the_reference() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/reference/cli.md").read_text("utf-8"), re.MULTILINE)
    assert headings == list(commands())


@pytest.mark.parametrize("written", ["reference/cli.md", "reference/suite.md", "reference/schema.md"])
def test_written_pages_are_up_to_date(written: str) -> None:
    assert (ROOT / "docs" / written).read_text("utf-8") == WRITTEN[written](), "run: just docs"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    text = prose(path.read_text("utf-8"))
    named = [ROOT / name for name in re.findall(r"`((?:benchmarks|docs|tests|toolkit)/[\w./-]+)`", text)]
    linked = [path.parent / name for name in re.findall(r"\]\(([^)#:]+)\)", text)]
    assert not [str(target) for target in named + linked if not target.exists()]
