"""Whatever is wholly cached can be trained on at once, whichever command got it there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.session import Session, session, suite_text
from toolkit.store import Cache

__all__ = ["session"]

CHANGES = {
    "a lower limit": suite_text(limit=9),
    "a benchmark removed": suite_text(benchmarks=("addition",)),
    "a model removed": suite_text(models="ab"),
    "the pool reordered": suite_text(models="cab"),
    "a shorter horizon": suite_text(horizon=1),
    "another name": suite_text(name="other", limit=7, models="ba"),
    "other prices": suite_text(rate=9.0),
    "other splits": suite_text() + "\n[splits]\nseed = 4\n",
    "another metric": suite_text().replace('name = "geography"', 'name = "geography"\nquality = "token_f1"'),
    "questions with failures excluded": 'incomplete = "exclude question"\n' + suite_text(limit=10),
}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the whole suite."""
    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        run = session.__wrapped__(folder, patch)  # type: ignore[attr-defined]
        Path("mine.toml").write_text(suite_text())
        run.succeeds("toolkit generate mine.toml --cache c.duckdb")
    return folder / "c.duckdb"


@pytest.mark.parametrize("change", CHANGES)
def test_a_part_of_what_is_cached_trains_at_once(change: str, generated: Path, session: Session) -> None:
    shutil.copy(generated, "c.duckdb")
    Path("part.toml").write_text(CHANGES[change])
    first = session("toolkit train part.toml --cache c.duckdb")
    if first.code:  # says what to do, and that takes no time
        [command] = [command for command in first.commands if "generate" in command]
        assert "Nothing to do" in session.succeeds(command).text
        session.succeeds("toolkit train part.toml --cache c.duckdb")


@pytest.mark.parametrize("change", CHANGES)
def test_generate_says_that_nothing_is_missing_and_computes_what_follows(
    change: str, generated: Path, session: Session
) -> None:
    shutil.copy(generated, "c.duckdb")
    Path("part.toml").write_text(CHANGES[change])
    assert "Nothing to do" in session.succeeds("toolkit generate part.toml --cache c.duckdb").text
    with Cache("c.duckdb").connect() as con:
        [(units, scored)] = con.execute(
            "SELECT count(cost_unit), (SELECT count(*) FROM transitions WHERE quality IS NULL) FROM current_suites"
        ).fetchall()
    assert units >= 1
    assert scored == 0
    session.succeeds("toolkit train part.toml --cache c.duckdb")


def test_a_limit_and_then_its_file_train_on_the_limit(session: Session) -> None:
    Path("mine.toml").write_text(suite_text())
    session.succeeds("toolkit generate mine.toml --limit 9")
    trained = session.succeeds("toolkit train mine.toml")
    assert "first questions of each benchmark, as generated last (18 in all)" in trained.text
    for command in trained.commands:
        session.succeeds(command)
    assert "as generated last" not in session.succeeds("toolkit train mine.toml").text


def test_the_commands_that_a_budget_prints_train_on_what_it_completed(session: Session) -> None:
    Path("mine.toml").write_text(suite_text())
    spent = session.succeeds("toolkit generate mine.toml --budget '6000 tokens'")
    assert "is exhausted" in spent.text, spent.text
    generate, train = spent.commands
    assert "Nothing to do" in session.succeeds(generate).text
    session.succeeds(train)
    session.succeeds("toolkit evaluate mine.toml")
    session.succeeds("toolkit generate mine.toml")
    session.succeeds("toolkit train mine.toml")


def test_the_shards_of_a_suite_merge_into_one_that_trains(session: Session) -> None:
    Path("mine.toml").write_text(suite_text())
    for part in (1, 2):
        done = session.succeeds(f"toolkit generate mine.toml --shard {part}/2 --cache part{part}.duckdb")
        assert done.commands == [f"toolkit status mine.toml --cache part{part}.duckdb"]
        session.succeeds(done.commands[0])
    refused = session("toolkit train mine.toml --cache part1.duckdb")
    assert refused.code == 2
    assert "missing" in refused.text
    session.succeeds("toolkit export folder --cache part2.duckdb")
    for source in ("part2.duckdb", "folder"):
        target = f"into-{source}.duckdb"
        for merged in ("part1.duckdb", source):
            session.succeeds(f"toolkit import {merged} --cache {target}")
        session.succeeds(f"toolkit train mine.toml --cache {target}")
        assert "Nothing to do" in session.succeeds(f"toolkit generate mine --cache {target}").text


def test_spooled_batches_count_once_they_are_committed(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.store import Batch
    from toolkit.store.generations import Generations

    def spool(self: Generations, batch: Batch, wait: float) -> bool:
        self.spool.put(batch)
        return False

    Path("mine.toml").write_text(suite_text())
    with monkeypatch.context() as context:
        context.setattr(Generations, "commit_or_spool", spool)
        session.succeeds("toolkit generate mine.toml")
    session.succeeds("toolkit generate mine.toml")
    session.succeeds("toolkit train mine.toml")
