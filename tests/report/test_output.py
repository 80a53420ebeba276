"""What a command is to write is checked before its work."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from toolkit.core.errors import ToolkitError
from toolkit.report.output import check_figure, check_folder, check_output
from toolkit.report.tables import write

Check = Callable[[Path], None]


def check_runs_dir(path: Path) -> None:
    check_folder(path, "--runs-dir")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of things that a careless option may name."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes.png").write_text("my notes")
    (tmp_path / "old.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "old.svg").write_text("<?xml version='1.0'?><svg/>")
    (tmp_path / "old.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "empty.svg").touch()
    (tmp_path / "rows.csv").write_text("a,b\n")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    duckdb.connect(tmp_path / "cache.png").close()
    return tmp_path


def contents(folder: Path) -> dict[str, bytes | None]:
    return {file.name: file.read_bytes() if file.is_file() else None for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("check", "name", "message"),
    [
        (check_figure, "plot.foo", r"known format: .*--figure .*plot\.pdf"),
        (check_figure, "plot", "known format"),
        (check_figure, ".png", "known format"),
        (check_figure, "folder.png", "is a folder"),
        (check_figure, "nowhere/plot.png", "mkdir -p"),
        (check_figure, "rows.csv/plot.png", "is a file"),
        (check_figure, "notes.png", "is not a png picture"),
        (check_figure, "cache.png", "is a cache"),
        (check_figure, "loop.png", "cannot be used"),
        (check_figure, f"{'x' * 300}.png", "cannot be used"),
        (check_figure, "x\0.png", "cannot be used"),
        (check_output, "nowhere/rows.csv", "mkdir -p"),
        (check_output, "folder.png", "is a folder"),
        (check_output, "cache.png", "is a cache"),
        (check_runs_dir, "rows.csv", "is a file"),
        (check_runs_dir, "rows.csv/runs", "is a file"),
        (check_runs_dir, "loop.png", "cannot be used"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_paragraph(check: Check, name: str, message: str, files: Path) -> None:
    before = contents(files)
    with pytest.raises(ToolkitError, match=message) as raised:
        check(files / name)
    assert "\n" not in str(raised.value)
    assert contents(files) == before


@pytest.mark.parametrize("name", ["new.png", "new.PDF", "new.svg", "old.png", "old.svg", "old.pdf", "empty.svg"])
def test_a_plot_may_be_new_or_take_the_place_of_a_plot(name: str, files: Path) -> None:
    before = contents(files)
    check_figure(files / name)
    assert contents(files) == before


def test_an_output_may_be_new_a_table_or_a_device_and_runs_may_be_in_new_folders(files: Path) -> None:
    for output in (files / "new.csv", files / "rows.csv", Path("/dev/null"), Path("new.csv")):
        check_output(output)
    for folder in (files, files / "a" / "b" / "c", Path("runs")):
        check_runs_dir(folder)
    assert not (files / "a").exists()


def test_the_remedy_of_a_missing_folder_works_as_printed(tmp_path: Path) -> None:
    path = tmp_path / "it's a $HOME; folder" / "plot.png"
    with pytest.raises(ToolkitError) as raised:
        check_figure(path)
    command = str(raised.value).partition("Make it: ")[2]
    subprocess.run(shlex.split(command), check=True)
    check_figure(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for check in (check_figure, check_runs_dir):
        with pytest.raises(ToolkitError, match="permission"):
            check(tmp_path / "plot.png")


def test_permission_is_asked_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For root, which may write everywhere, `os.access` stands in for a read-only file system."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    (tmp_path / "rows.csv").touch()
    for check, name in ((check_figure, "plot.png"), (check_runs_dir, "runs"), (check_output, "rows.csv")):
        with pytest.raises(ToolkitError, match="permission"):
            check(tmp_path / name)


def test_a_missing_plotting_library_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ToolkitError, match="pip install vl-convert-python"):
        check_figure(tmp_path / "plot.png")


@pytest.mark.parametrize("format", ["csv", "json", "markdown", "parquet", "table"])
def test_no_format_of_rows_replaces_a_cache(format: str, files: Path) -> None:
    before = contents(files)
    with pytest.raises(ToolkitError, match="is a cache"):
        write([{"n": 1}], format, files / "cache.png")
    assert contents(files) == before
