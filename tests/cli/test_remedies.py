"""Every command that a message prints works as printed, in the folder in which it was printed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.session import PLACEHOLDER, Session, session, suite_text
from tests.store.test_migrations import aged
from toolkit.cli import app
from toolkit.core.commands import command
from toolkit.store import Cache

__all__ = ["session"]

FOLDER = "a folder with spaces & more"
"""Paths need quotes."""


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite and its whole cache."""
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        run = session.__wrapped__(folder, patch)  # type: ignore[attr-defined]
        Path("mine.toml").write_text(suite_text(limit=6))
        run.succeeds("toolkit generate mine.toml")
    return folder


def nothing() -> None:
    """Leave the folder as it is: a suite and its whole cache."""


def no_cache() -> None:
    shutil.rmtree("cache")


def more_questions() -> None:
    Path("mine.toml").write_text(suite_text(limit=8))


def another_cache() -> None:
    shutil.copy("cache/mine.duckdb", "cache/other.duckdb")


def incomplete() -> None:
    with Cache("cache/mine.duckdb").write() as con:
        con.execute("DELETE FROM nodes WHERE depth = 2 AND node IN (SELECT node FROM nodes WHERE depth = 2 LIMIT 3)")


def failed(transient: bool) -> Callable[[], None]:
    def change() -> None:
        with Cache("cache/mine.duckdb").write() as con:
            con.execute(
                "UPDATE generations SET status = 'error', response = NULL, error = 'boom', transient = ?"
                " WHERE generation IN (SELECT generation FROM nodes WHERE depth = 1 LIMIT 2)",
                [transient],
            )

    return change


def no_embeddings() -> None:
    with Cache("cache/mine.duckdb").write() as con:
        con.execute("DELETE FROM embeddings")


def older_schema() -> None:
    aged(Cache(Path("cache/mine.duckdb").rename("new.duckdb")), 4, Path("cache/mine.duckdb"))
    Path("new.duckdb").unlink()


def no_suite() -> None:
    Path("cache/mine.duckdb").unlink()
    Cache("cache/mine.duckdb").create()


def new_metric() -> None:
    Path("mine.toml").write_text(suite_text(limit=6).replace('name = "geography"', 'name = "geography"\nquality = "token_f1"'))


MESSAGES: list[tuple[Callable[[], None], str, int]] = [
    (no_cache, "toolkit train mine.toml", 1),
    (no_cache, "toolkit train mine.toml --cache 'c d.duckdb'", 1),
    (no_cache, "toolkit evaluate quickstart --cache 'c d.duckdb'", 2),
    (no_cache, "toolkit sql 'SELECT 1'", 1),
    (no_cache, "toolkit sql 'SELECT 1' --cache 'c d.duckdb'", 1),
    (no_cache, "toolkit plan mine.toml --cache 'c d.duckdb'", 1),
    (no_cache, "toolkit status mine.toml", 1),
    (no_cache, "toolkit cache info mine", 1),
    (no_suite, "toolkit train mine.toml", 1),
    (no_suite, "toolkit status mine.toml", 1),
    (no_suite, "toolkit train mine.toml --cache cache/mine.duckdb", 1),
    (nothing, "toolkit init new.toml", 1),
    (nothing, "toolkit init 'new one.yaml'", 1),
    (nothing, "toolkit train ./none.toml", 1),
    (nothing, "toolkit plan none", 1),
    (nothing, "toolkit evaluate mine.toml", 1),
    (nothing, "toolkit evaluate none.zip", 1),
    (nothing, "toolkit train mine.toml", 1),
    (nothing, "toolkit train mine.toml --cache cache/mine.duckdb", 1),
    (nothing, "toolkit profile mine.toml --prompts 2", 1),
    (nothing, "toolkit schema nothing", 1),
    (nothing, "toolkit sql 'SELECT nothing FROM transitions'", 1),
    (nothing, "toolkit show geography/nothing", 1),
    (nothing, "toolkit generate mine.toml --shard 1/2 --cache 'c d.duckdb'", 1),
    (nothing, "toolkit generate mine.toml --budget '3000 tokens' --cache 'c d.duckdb'", 2),
    (more_questions, "toolkit train mine.toml", 1),
    (more_questions, "toolkit score mine.toml", 1),
    (another_cache, "toolkit sql 'SELECT 1'", 0),
    (incomplete, "toolkit train mine.toml", 1),
    (failed(transient=True), "toolkit train mine.toml", 2),
    (failed(transient=False), "toolkit train mine.toml", 2),
    (no_embeddings, "toolkit train mine.toml", 1),
    (older_schema, "toolkit sql 'SELECT 1'", 1),
    (new_metric, "toolkit train mine.toml", 1),
]
"""What is changed in the folder, the command that is run then, and the least number of commands that it prints."""


@pytest.mark.parametrize(("change", "line", "number"), MESSAGES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_commands_of_a_message_work_as_printed(
    change: Callable[[], None],
    line: str,
    number: int,
    generated: Path,
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(generated, tmp_path / FOLDER)
    monkeypatch.chdir(tmp_path / FOLDER)
    change()
    said = session(line)
    assert len(said.commands) >= number, said.text
    uncopyable = re.search(r"\btoolkit [a-z].*", _without(said.commands, said.text))
    assert not uncopyable, said.text
    for printed in said.commands:
        if "--cache" in line:
            assert printed.endswith(line[line.index("--cache") :]) or "init" in printed, printed
        if PLACEHOLDER.search(printed):
            name = printed.split()[1]
            assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0
        else:
            session.succeeds(printed)


def _without(commands: list[str], text: str) -> str:
    for printed in commands:
        text = text.replace(printed, "")
    return text


def test_failures_say_which_command_tries_them_again(generated: Path, session: Session, tmp_path: Path) -> None:
    for transient in (True, False):
        folder = tmp_path / str(transient)
        shutil.copytree(generated, folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            failed(transient)()
            said = session("toolkit train mine.toml").commands
            [again] = [line for line in said if line.startswith("toolkit generate")]
            assert ("--retry" in again) is not transient
            session.succeeds(again)
            session.succeeds("toolkit train mine.toml")


def test_commands_are_quoted_for_the_shell() -> None:
    assert command("train", "a b.toml", cache=Path("it's.duckdb")) == "toolkit train 'a b.toml' --cache 'it'\"'\"'s.duckdb'"
    assert command("plan", "quickstart") == "toolkit plan quickstart"


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ("toolkit generate mine.toml --budget 0", "--budget takes"),
        ("toolkit generate mine.toml --budget 0h", "--budget takes"),
        ("toolkit generate mine.toml --budget 5x", "--budget takes"),
        ("toolkit generate mine.toml --budget '10 usd'", "needs prices"),
        ("toolkit generate mine.toml --shard 0/2", "is not i/n"),
        ("toolkit generate mine.toml --shard 3/2", "is not i/n"),
        ("toolkit generate mine.toml --shard two", "is not i/n"),
        ("toolkit generate mine.toml --address here", "--executor ray"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence_before_anything_is_written(
    line: str, fragment: str, generated: Path, session: Session
) -> None:
    shutil.copy(generated / "mine.toml", "mine.toml")
    said = session(line)
    assert said.code == 2
    assert fragment in said.text
    assert [path.name for path in Path().iterdir()] == ["mine.toml"]


def test_a_limit_beyond_the_data_takes_all(session: Session) -> None:
    Path("mine.toml").write_text(suite_text(benchmarks=("geography",)))
    session.succeeds("toolkit generate mine.toml --limit 100000")
    session.succeeds("toolkit train mine.toml")


def test_a_budget_smaller_than_one_question_says_that_none_is_complete(session: Session) -> None:
    Path("mine.toml").write_text(suite_text())
    said = session.succeeds("toolkit generate mine.toml --budget '1 tokens'")
    assert "No question is complete yet" in said.text
    assert "first 0" not in said.text
    assert not said.commands


def test_tables_explain_their_dashes(session: Session) -> None:
    Path("mine.toml").write_text(suite_text())
    for line in ("toolkit plan mine.toml", "toolkit profile mine.toml --prompts 2", "toolkit status mine.toml"):
        said = session(line)
        assert "Traceback" not in said.text
        if " - " in said.text or said.text.rstrip().endswith(" -"):
            assert "\n-: " in said.text, said.text
