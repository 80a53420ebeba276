"""Python files of benchmarks: they run when the user has said so, and never because a cache names them."""

from __future__ import annotations

import hashlib
import importlib.util
import py_compile
from pathlib import Path
from typing import Any

import pytest

from tests.scripted import suite_config
from toolkit.cli.common import read_suite, resolve_suite
from toolkit.cli.trust import consent, trusted_file
from toolkit.core.errors import BenchmarkError
from toolkit.core.workspace import Workspace
from toolkit.store import Cache
from toolkit.suites import SuiteConfig, resolve

MINE = """
from pathlib import Path
from toolkit.tasks import Benchmark, Item
(Path(__file__).parent / "ran").touch()
MINE = Benchmark(
    name="mine", version="1", field="qa", metric="exact_match", licence="", source="me",
    load=lambda: [Item(str(n), f"{n}?", (str(n),)) for n in range(4)],
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TOOLKIT_TRUST", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def own(**changes: Any) -> SuiteConfig:
    encoder = {"checkpoint": "served:none"}
    return suite_config(benchmarks=[{"name": "mine", "file": "mine.py"} | changes], features={"encoder": encoder})


def test_a_python_file_does_not_run_unless_that_is_allowed(folder: Path) -> None:
    workspace = Workspace(folder, folder)
    for trust in (False, lambda path, sha256: False):
        with pytest.raises(BenchmarkError, match=r"loading it runs its code.*--trust.*TOOLKIT_TRUST=1.*trust=True"):
            resolve(own(), workspace, trust=trust)
        assert not (folder / "ran").exists()
    assert len(resolve(own(), workspace, trust=True).questions) == 4
    assert (folder / "ran").exists()


def test_what_runs_is_what_was_allowed_and_not_a_compiled_copy_beside_it(folder: Path) -> None:
    hostile = folder / "hostile.py"
    hostile.write_text("raise SystemExit('compiled copy')")
    copy = Path(importlib.util.cache_from_source(str(folder / "mine.py")))
    py_compile.compile(str(hostile), str(copy), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    digest = hashlib.sha256(MINE.encode()).hexdigest()
    assert resolve(own(), Workspace(folder, folder), trust=lambda path, sha256: sha256 == digest).questions


def test_consent_is_remembered_for_a_content_and_asked_again_for_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, digest, other = folder / "mine.py", "a" * 64, "b" * 64
    assert not consent(False)(path, digest)  # there is no terminal to ask on
    assert not trusted_file().exists()
    assert consent(True)(path, digest)
    assert consent(False)(path, digest)
    assert not consent(False)(path, other)
    monkeypatch.setenv("TOOLKIT_TRUST", "1")
    assert consent(False)(path, other)
    monkeypatch.setenv("TOOLKIT_TRUST", "0")
    assert not consent(False)(path, other)
    trusted_file().write_bytes(b"\xff\xfe")
    assert not consent(False)(path, digest)
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # a file, below which nothing can be written
    assert consent(True)(path, digest)


@pytest.mark.parametrize(("says", "allowed"), [("y", True), ("n", False)])
def test_a_terminal_is_asked(says: str, allowed: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []

    def confirm(question: str, *, err: bool) -> bool:
        questions.append(question)
        return says == "y"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    for _ in range(2):
        assert consent(False)(folder / "mi\x1bne.py", "c" * 64) is allowed
    assert len(questions) == (1 if allowed else 2)
    assert "\\x1bne.py is a benchmark in Python" in questions[0]


def test_a_file_that_only_a_cache_names_never_runs(folder: Path) -> None:
    cache = Cache(folder / "cache.duckdb")
    cache.create()
    recorded = resolve(own(), Workspace(folder, folder), trust=True)
    cache.suites.record(recorded)
    (folder / "ran").unlink()
    file = read_suite("scripted", cache.path)
    assert file.is_recorded
    assert resolve_suite(file, trust=True).questions == recorded.questions
    limited = resolve_suite(file._replace(config=file.config.limited(2)), trust=True)
    assert limited.questions == resolve(own(limit=2), Workspace(folder, folder), trust=True).questions
    (folder / "ran").unlink()
    unknown = file._replace(config=own(name="other"))
    with pytest.raises(BenchmarkError, match="Only the cache of suite scripted names the files of benchmark other"):
        resolve_suite(unknown, trust=True)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = ", "cannot be executed: SyntaxError"),
        ("x = '\0'", "cannot be executed: "),
        ("raise SystemExit(0)", "cannot be executed: SystemExit"),
        ("import no_such_module", "cannot be executed: ModuleNotFoundError"),
        ("x = 1", "must define one Benchmark named 'mine'; it defines: none"),
        (MINE.replace("exact_match", "exact_mach"), "no metric 'exact_mach'; did you mean 'exact_match'"),
        (MINE.replace('metric="exact_match"', "metric=None"), "no metric None"),
        (MINE.replace("str(n), f", "str(1 / 0), f"), "loading its questions failed: ZeroDivisionError"),
        (MINE.replace("load=", "item="), "has neither load nor dataset"),
        (MINE.replace("(str(n),)", "(n,)"), "me, row 1 .* has a value of type int in place of text: 0"),
        (MINE.replace("(str(n),)", "str(n)"), "has answers that are str, not a tuple of texts"),
        (MINE.replace("(str(n),)", "(chr(0xD800),)"), "has half of a surrogate pair"),
        (MINE.replace("Item(", "tuple((").replace(",)) for", ",))) for"), "is tuple, not an Item"),
        (MINE.replace("range(4)", "range(0)"), "has no questions"),
    ],
)
def test_a_faulty_file_is_a_message_about_the_file(source: str, said: str, folder: Path) -> None:
    (folder / "mine.py").write_text(source)
    with pytest.raises(BenchmarkError, match=said):
        resolve(own(), Workspace(folder, folder), trust=True)


@pytest.mark.parametrize("file", ["nowhere.py", "folder.py", "data.txt"])
def test_what_is_no_python_file_is_refused(file: str, folder: Path) -> None:
    (folder / "folder.py").mkdir()
    (folder / "data.txt").write_text(MINE)
    with pytest.raises(BenchmarkError, match="There is no Python file"):
        resolve(own(file=file), Workspace(folder, folder), trust=True)
