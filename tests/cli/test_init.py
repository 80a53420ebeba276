"""`toolkit init` and `toolkit benchmarks`: nothing is overwritten, and what is printed cannot command a terminal."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import BENCHMARKS
from toolkit.cli import app
from toolkit.core.errors import BenchmarkError, CheckpointError, SuiteError, ToolkitError
from toolkit.core.workspace import Workspace
from toolkit.suites.loading import load_config, shipped_suites
from toolkit.suites.weights import local_path
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


@pytest.mark.parametrize("source", sorted(shipped_suites()))
def test_a_copy_of_a_shipped_suite_has_its_own_name_and_otherwise_the_same_content(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters are hashed: a reference to what is shipped means the same weights, and so the same keys, in any folder."""
    monkeypatch.chdir(tmp_path)
    init("mine.toml", "--from", source)
    file = shipped_suites()[source]
    copied, original = load_config(Path("mine.toml")), load_config(file)
    assert copied.name == "mine"
    here, there = Workspace(tmp_path, tmp_path / "weights"), Workspace(file.parent, tmp_path / "weights")
    for mine, theirs in zip(copied.models, original.models, strict=True):
        if mine.adapter:
            assert mine.adapter.startswith("shipped:specialists/")
            assert local_path(mine.adapter, here) == local_path(str(theirs.adapter), there)
        assert mine.model_copy(update={"adapter": None}) == theirs.model_copy(update={"adapter": None})
    same = {"name": "", "models": ()}
    assert copied.model_copy(update=same) == original.model_copy(update=same)


def test_what_is_not_shipped_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="did you mean 'quickstart'"):
        init(str(tmp_path / "mine.toml"), "--from", "quickstrat")
    with pytest.raises(CheckpointError, match="did you mean 'shipped:specialists/words'"):
        local_path("shipped:specialists/word", Workspace(tmp_path, tmp_path))


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


def show(*arguments: str) -> str:
    return CliRunner().invoke(app, ["benchmarks", "show", *arguments], catch_exceptions=False).stdout


def test_a_benchmark_of_ones_own_is_shown_from_a_table_or_a_python_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("TOOLKIT_TRUST", raising=False)
    (tmp_path / "rows.csv").write_text("q,a\nWhat is 1 + 1?,2\nWhat is 2 + 2?,4\n")
    (tmp_path / "months.py").write_text(
        "from toolkit.tasks import Benchmark, Item\n"
        "MONTHS = Benchmark(name='months', version='1', field='qa', metric='exact_match', licence='CC0-1.0', synthetic=True,\n"
        "    load=lambda: [Item(id='first', prompt='Which month is first?', answers=('January',)),\n"
        "        Item(id='last', prompt='Which is last?', answers=('December',))])\n"
    )
    init(str(tmp_path / "mine.toml"))
    head = (tmp_path / "mine.toml").read_text().split("[[benchmarks]]")[0]
    table = '[[benchmarks]]\nname = "sums"\ndata = "rows.csv"\nprompt = "{q}"\nanswer = "a"\nmetric = "exact_match"\n'
    (tmp_path / "mine.toml").write_text(f'{head}{table}[[benchmarks]]\nname = "months"\nfile = "months.py"\n')
    suite = str(tmp_path / "mine.toml")
    assert all(part in show("sums", "--suite", suite) for part in ("What is 1 + 1?", "accepted: 2", "exact_match"))
    with pytest.raises(BenchmarkError, match="runs its code"):
        show("months", "--suite", suite)
    assert "Which month is first?" in show("months", "--suite", suite, "--trust")
    with pytest.raises(BenchmarkError, match="did you mean 'sums'"):
        show("sum", "--suite", suite)
    with pytest.raises(BenchmarkError, match=r"--suite NAME\.toml"):
        show("sums")
