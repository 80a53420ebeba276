"""`toolkit init` and `toolkit benchmarks`: nothing is overwritten, and what is printed cannot command a terminal."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import BENCHMARKS
from toolkit.cli import app
from toolkit.core.errors import SuiteError, ToolkitError
from toolkit.suites.loading import load_config
from toolkit.tasks import Item


def init(*arguments: str) -> str:
    """Run the command in this process; its errors are raised."""
    return CliRunner().invoke(app, ["init", *arguments], catch_exceptions=False).stdout


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text("work of days")
    with pytest.raises(SuiteError, match="exists already and is unchanged") as caught:
        init("mine.toml")
    assert Path("mine.toml").read_text() == "work of days"
    command = shlex.split(str(caught.value).partition("replace it: ")[2])
    assert command[:2] == ["toolkit", "init"]
    init(*command[2:])
    assert load_config(Path("mine.toml")).name == "mine"


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_folder_of_that_name_stays(force: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(SuiteError, match="It is a folder"):
        init(str(tmp_path / "mine.toml"), *force)


@pytest.mark.parametrize("name", ["my suite.toml", "模型.toml", "a\nb.toml", "x" * 65 + ".toml", "-a/é.toml"])
def test_a_name_that_cannot_be_a_suites_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="cannot be one: a suite's name consists of"):
        init(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_another_ending_come_with_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "no such"
    with pytest.raises(SuiteError, match=f"mkdir -p '{folder}'"):
        init(str(folder / "mine.toml"))
    with pytest.raises(SuiteError, match=f"toolkit init '{folder / 'mine.toml'}'"):
        init(str(folder / "mine.txt"))
    (tmp_path / "file").touch()
    with pytest.raises(SuiteError, match="cannot be written"):
        init(str(tmp_path / "file" / "mine.toml"))


def test_questions_are_shown_without_what_a_terminal_obeys(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = replace(BENCHMARKS["addition"], load=lambda: [Item("\x1b]0;x\x07", "\x1b[2J?", ("\u202e",))], synthetic=False)
    monkeypatch.setitem(BENCHMARKS._loaded, "addition", hostile)
    shown = CliRunner().invoke(app, ["benchmarks", "show", "addition", "--limit", "1"], catch_exceptions=False).stdout
    assert "\\x1b[2J?" in shown
    assert "\\u202e" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_a_benchmark_whose_data_are_elsewhere_does_not_spoil_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> list[Item]:
        raise ToolkitError("no data")

    monkeypatch.setitem(BENCHMARKS._loaded, "addition", replace(BENCHMARKS["addition"], load=load, synthetic=False))
    listed = CliRunner().invoke(app, ["benchmarks"], catch_exceptions=False).stdout
    assert "svamp" in listed


@pytest.mark.parametrize(
    ("name", "remedy"),
    [(".toml", "toml.toml"), ("é", "mine.toml"), ("new one.yaml", "new-one.toml"), ("x" * 90, f"{'x' * 60}.toml")],
)
def test_a_file_of_another_kind_is_refused_with_a_name_that_works(name: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=f"ends in .toml: toolkit init .*/{remedy}$"):
        init(str(tmp_path / name))
    init(str(tmp_path / remedy))
    assert load_config(tmp_path / remedy)
