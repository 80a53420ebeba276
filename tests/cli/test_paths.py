"""Caches are named in one way by every command, and an output overwrites neither a cache nor, without --force, any file."""

from __future__ import annotations

import inspect
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from toolkit.cli import app, commands, main
from toolkit.core.errors import CacheError, ToolkitError
from toolkit.report.output import check_output

OUTPUTS = [
    name
    for name, function in commands().items()
    if "output" in inspect.signature(function).parameters and name != "report"  # which writes nothing but its own page
]
CACHES = [name for name, function in commands().items() if "cache" in inspect.signature(function).parameters]
ARGUMENTS = {
    "sql": ["SELECT 1"],
    "show": ["addition/0"],
    "import": ["no.csv", "--suite", "s"],
    "export": ["scripted", "--format", "long"],
    "runs compare": ["one", "two"],
}
"""Arguments of commands whose first one is not a suite."""
NO_SUITE = {
    "verify",
    "sql",
    "show",
    "import",
    "schema",
    "benchmarks",
    "cache list",
    "cache info",
    "cache prune",
    "status",
    "runs list",
}


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one cache in its folder of caches."""
    (tmp_path / "cache").mkdir()
    shutil.copy(whole, tmp_path / "cache/scripted.duckdb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOOLKIT_CACHE", raising=False)
    return tmp_path


def line(name: str, *options: str) -> list[str]:
    return [*name.split(), *ARGUMENTS.get(name, [] if name in NO_SUITE else ["scripted"]), *options]


def refusal(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, ToolkitError), (arguments, result.output, result.exception)
    return str(result.exception)


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_command_overwrites_a_file_or_starts_work_for_an_output_that_cannot_be(name: str, folder: Path) -> None:
    (folder / "mine.csv").write_text("precious")
    (folder / "results").mkdir()
    cache = (folder / "cache/scripted.duckdb").read_bytes()
    for output, reason in {
        "mine.csv": "--force",
        "results": "is a folder",
        "nowhere/rows.csv": "no folder nowhere",
        "mine.csv/rows.csv": "is a file",
        "cache/scripted.duckdb": "a cache",
        "cache/new.duckdb": "named like a cache",
        "cache/scripted.duckdb.wal": "a cache",
        "\udcff.csv": "not UTF-8",
        "x" * 300: "too long",
    }.items():
        assert reason in refusal(*line(name, "--output", output)), output
    assert (folder / "mine.csv").read_text() == "precious"
    assert (folder / "cache/scripted.duckdb").read_bytes() == cache
    assert sorted(path.name for path in folder.iterdir()) == ["cache", "mine.csv", "results"]


def test_a_cache_is_not_overwritten_under_any_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = folder / "cache/scripted.duckdb"
    content = cache.read_bytes()
    (folder / "link.csv").symlink_to(cache)
    (folder / "linked").symlink_to(cache.parent)
    os.link(cache, folder / "hard.csv")
    shutil.copy(cache, folder / "copy.json")
    for output in ("link.csv", "hard.csv", "copy.json", "linked/scripted.duckdb", "cache/../cache/scripted.duckdb", str(cache)):
        assert "a cache" in refusal("sql", "SELECT 1", "--output", output, "--force", "--format", "csv")
    assert cache.read_bytes() == content


def test_force_overwrites_a_file_and_pipes_need_none(folder: Path) -> None:
    output = folder / "rows.csv"
    for value, options in ((1, []), (2, ["--force"])):
        arguments = ["sql", f"SELECT {value} AS a", "--format", "csv", "--output", "rows.csv", *options]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        assert output.read_text() == f"a\n{value}\n"
    assert CliRunner().invoke(app, ["sql", "SELECT 1 AS a", "--output", "/dev/null"]).exit_code == 0
    os.mkfifo(folder / "pipe")
    check_output(folder / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_or_file_without_permission_is_refused(folder: Path) -> None:
    (folder / "mine.csv").touch(0o400)
    (folder / "results").mkdir(0o500)
    for output in ("mine.csv", "results/rows.csv"):
        assert "permission" in refusal("sql", "SELECT 1", "--output", output, "--force")


@pytest.mark.parametrize("cache", ["scripted", "cache/scripted.duckdb", "./cache/scripted.duckdb", None])
def test_a_cache_is_named_alike_by_every_command(cache: str | None, folder: Path) -> None:
    options = ["--cache", cache] if cache else []
    shown = {name: CliRunner().invoke(app, line(name, *options)) for name in ("status", "sql", "verify")}
    shown["show"] = CliRunner().invoke(app, ["show", "addition/0", "--suite", "scripted", *options])
    shown["cache info"] = CliRunner().invoke(app, ["cache", "info", *([cache] if cache else [])])
    for name, result in shown.items():
        if name == "show":
            assert result.exit_code == 0 or "are called" in str(result.exception)
        else:
            assert result.exit_code == 0, (name, result.output, result.exception)


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_that_is_missing_or_no_file_is_refused_by_every_command(name: str, folder: Path) -> None:
    os.mkfifo(folder / "pipe.duckdb")
    (folder / "text.duckdb").write_text("no cache")
    for cache in ("pipe.duckdb", "text.duckdb", "cache", "text.duckdb/below"):
        result = CliRunner().invoke(app, line(name, "--cache", cache))
        assert isinstance(result.exception, ToolkitError), (name, cache, result.output, result.exception)
    assert (folder / "text.duckdb").read_text() == "no cache"


def test_a_name_is_looked_for_in_both_places(folder: Path) -> None:
    for arguments in (["sql", "SELECT 1", "--cache", "none"], ["cache", "info", "none"], ["status", "--cache", "none"]):
        message = refusal(*arguments)
        assert "cache/none.duckdb" in message
        assert "file none" in message
    (folder / "scripted").mkdir()  # a folder of that name is no cache
    assert CliRunner().invoke(app, ["sql", "SELECT 1", "--cache", "scripted"]).exit_code == 0
    shutil.copy(folder / "cache/scripted.duckdb", folder / "none")  # a file of that name comes first
    assert CliRunner().invoke(app, ["sql", "SELECT 1", "--cache", "none"]).exit_code == 0


def test_a_suite_finds_its_cache_among_several(folder: Path) -> None:
    shutil.copy(folder / "cache/scripted.duckdb", folder / "cache/other.duckdb")
    message = refusal("show", "nothing/0", "--suite", "scripted")
    assert "questions of suite scripted are called" in message
    with pytest.raises(CacheError, match="several caches"):
        CliRunner().invoke(app, ["show", "nothing/0"], catch_exceptions=False)


def test_no_error_outlives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is alive at the end of the process keeps DuckDB's objects, which are then reported as leaked."""
    monkeypatch.setattr("toolkit.cli.app", lambda: refuse())
    monkeypatch.setattr("toolkit.cli.guard_terminal", lambda: None)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)

    def refuse() -> None:
        raise ToolkitError("refused")

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert caught.value.__context__ is None
