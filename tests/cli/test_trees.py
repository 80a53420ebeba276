"""A suite with `[tree]` on the command line: routers of every kind take the paths that exist, and no response is missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.session import Session, session, suite_text
from toolkit.store import Cache

__all__ = ["session"]

TREE = "\n[tree]\nrepeat = false\nhops = { 2 = ['b', 'c'] }\n"
PATHS = {("a", "b"), ("a", "c"), ("b", "c"), ("c", "b")}
SAMPLED = suite_text().replace("max_tokens = 8", "max_tokens = 8\ntemperature = 0.7").replace("horizon", "samples = 2\nhorizon")
NODES = "SELECT count(*) FROM nodes WHERE depth > 0"
ROUTER = """
def polite(observation):
    assert len(observation.available) == (3 if not observation.hop else 1 + (observation.path == ("a",)))
    return observation.available[0]


def stubborn(observation):
    return "a"
"""


def rows(query: str) -> list[tuple[Any, ...]]:
    with Cache("cache/mine.duckdb").connect() as con:
        return con.execute(query).fetchall()


def routes() -> set[tuple[str, ...]]:
    """Return the paths of all recorded runs."""
    return {tuple(path) for [path] in rows("SELECT DISTINCT path FROM routes")}


@pytest.mark.parametrize("text", [suite_text(), SAMPLED], ids=["one tree", "two sampled trees"])
def test_what_exists_is_generated_trained_on_evaluated_and_swept(text: str, session: Session) -> None:
    samples = 2 if text is SAMPLED else 1
    Path("mine.toml").write_text(text + TREE)
    session.succeeds("toolkit generate mine.toml")
    paths = rows("SELECT path, count(*) FROM transitions WHERE depth = 2 GROUP BY path")
    assert {tuple(path): n for path, n in paths} == dict.fromkeys(PATHS, 24 * samples)
    assert "Nothing to do" in session.succeeds("toolkit generate mine.toml").text
    for algorithm in ("ppo", "exact"):
        session.succeeds(f"toolkit train mine.toml --algorithm {algorithm}")
        session.succeeds("toolkit evaluate mine.toml")
    session.succeeds("toolkit evaluate mine.toml --baselines")
    session.succeeds("toolkit sweep mine.toml --alphas 0,0.5 --seeds 1")
    assert routes()
    assert routes() <= PATHS
    assert not rows("FROM progress WHERE missing + failed > 0")


def test_a_limit_and_a_wider_tree_generate_only_what_is_new(session: Session) -> None:
    Path("mine.toml").write_text(suite_text() + TREE)
    session.succeeds("toolkit generate mine.toml --limit 9")
    session.succeeds("toolkit train mine.toml")
    assert rows(NODES) == [(18 * 7,)]
    session.succeeds("toolkit generate mine.toml")
    assert rows(NODES) == [(24 * 7,)]
    Path("mine.toml").write_text(suite_text())
    session.succeeds("toolkit generate mine.toml")
    assert rows(NODES) == [(24 * 12,)]


def test_stopping_early_is_one_more_choice_at_every_node_that_exists(session: Session) -> None:
    Path("mine.toml").write_text(suite_text() + "allow_stop = true\n" + TREE)
    session.succeeds("toolkit generate mine.toml")
    session.succeeds("toolkit train mine.toml --algorithm exact --alpha 5")
    session.succeeds("toolkit evaluate mine.toml")
    assert () in routes()  # at this alpha no response is worth its cost
    assert routes() <= PATHS | {path[:hops] for path in PATHS for hops in (0, 1)}


def test_anybodys_router_sees_what_exists_and_is_refused_what_does_not(session: Session) -> None:
    Path("mine.toml").write_text(suite_text() + TREE)
    Path("router.py").write_text(ROUTER)
    session.succeeds("toolkit generate mine.toml")
    session.succeeds("toolkit evaluate mine.toml --router router.py:polite")
    assert routes() == {("a", "b")}
    refused = session("toolkit evaluate mine.toml --router router.py:stubborn")
    assert refused.code == 2
    assert "[tree]" in refused.text
    assert "chose a at hop 1" in refused.text


def test_a_table_of_decisions_names_paths_that_exist(session: Session) -> None:
    Path("mine.toml").write_text(suite_text() + TREE)
    session.succeeds("toolkit generate mine.toml")
    questions = [question for [question] in rows("SELECT DISTINCT question FROM transitions WHERE split = 'test'")]
    decisions = [{"question": str(question), "path": "b > c"} for question in questions]
    Path("choices.json").write_text(json.dumps(decisions))
    session.succeeds("toolkit evaluate mine.toml --decisions choices.json")
    assert routes() == {("b", "c")}
    Path("choices.json").write_text(json.dumps([{**decisions[0], "path": "b > b"}, *decisions[1:]]))
    refused = session("toolkit evaluate mine.toml --decisions choices.json")
    assert refused.code == 2
    assert "b > b" in refused.text
    assert "[tree]" in refused.text
