from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.core.files import atomic_path, content_sha256


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_replaced_as_a_whole(sync: bool, tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with atomic_path(target, sync=sync) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
        assert draft.parent == tmp_path
        assert draft.name.startswith(".file.txt.")
    assert target.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("make", [lambda draft: draft.write_text("half"), lambda draft: draft.mkdir(), lambda draft: None])
def test_a_failure_leaves_the_target_and_no_draft(make: object, tmp_path: Path) -> None:
    assert callable(make)
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_path(target) as draft:
            make(draft)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_folder_takes_the_place_of_an_empty_one_only(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()

    def write(content: str) -> None:
        with atomic_path(target) as draft:
            draft.mkdir()
            (draft / "file").write_text(content)

    write("first")
    with pytest.raises(OSError, match="not empty"):
        write("second")
    assert (target / "file").read_text() == "first"
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("has_links", [True, False])
def test_without_overwriting_the_first_of_two_writers_wins(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_links:
        monkeypatch.setattr("os.link", refuse)
    file, folder = tmp_path / "file", tmp_path / "folder"
    for content in ("first", "second"):
        with atomic_path(file, overwrite=False) as draft:
            draft.write_text(content)
        with atomic_path(folder, overwrite=False) as draft:
            draft.mkdir()
            (draft / "file").write_text(content)
    assert file.read_text() == (folder / "file").read_text() == "first"
    assert names(tmp_path) == ["file", "folder"]


def refuse(*paths: object) -> None:
    raise OSError("no hard links here")


def test_a_missing_draft_or_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "file"):
        pass
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "nowhere/file") as draft:
        draft.write_text("x")


def test_the_hash_of_a_folder_does_not_depend_on_its_path_or_hidden_files(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep/file").write_text("content")
    (tmp_path / "there/.hidden").write_text("x")
    (tmp_path / "there/__pycache__").mkdir()
    (tmp_path / "there/__pycache__/file").write_text("x")
    assert content_sha256(tmp_path / "here") == content_sha256(tmp_path / "there")
    (tmp_path / "there/more").write_text("x")
    assert content_sha256(tmp_path / "here") != content_sha256(tmp_path / "there")
    assert content_sha256(tmp_path / "here") == content_sha256(tmp_path / "there", lambda name: name != "more")
