"""The nodes that a run goes on from are those that the cache has, wherever they are kept."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from uuid import UUID

from tests.scripted import resolve_config, suite_config
from toolkit.store import Cache, Frontier, TriedNode
from toolkit.suites.keys import child_key
from toolkit.suites.suite import Suite


def test_it_holds_the_tried_nodes_of_a_cache_with_the_responses_before_the_last_hop(cache: Cache, suite: Suite) -> None:
    rows = cache.arrow("SELECT node::VARCHAR AS node, depth, response FROM transitions").to_pylist()
    positions = range(len(suite.questions))
    with closing(Frontier(suite)) as frontier:
        frontier.add(cache.generations.tried(suite))
        for depth in (1, 2):
            assert frontier.tried(depth, positions) == {UUID(row["node"]) for row in rows if row["depth"] == depth}
            assert all(frontier.is_done(depth, model.key, positions) for model in suite.models)
        parents = frontier.parents(1, positions)
        assert {parent.node: parent.responses for parent in parents} == {
            UUID(row["node"]): (row["response"],) for row in rows if row["depth"] == 1
        }
        assert [parent.question for parent in parents] == [question.key for question in suite.questions for _ in suite.models]
        assert [parent.path for parent in parents[:2]] == [(model.key,) for model in suite.models]
        assert frontier.parents(2, positions) == []


def test_failed_nodes_are_tried_unless_they_are_retried_and_nothing_starts_from_them(cache: Cache, suite: Suite) -> None:
    with cache.write() as con:
        con.execute(
            "UPDATE generations SET status = 'error', response = NULL, transient = false WHERE generation IN"
            " (SELECT generation FROM nodes WHERE depth = 1 AND root = ?)",
            [suite.root(0, 0)],
        )
    model = suite.models[0].key
    for retry in (False, True):
        with closing(Frontier(suite)) as frontier:
            frontier.add(cache.generations.tried(suite, retry))
            assert frontier.is_done(1, model, [0]) is not retry
            assert frontier.is_done(2, model, [0])  # nothing leads there
            assert frontier.parents(1, [0]) == []
            assert frontier.is_done(1, model, [1])


def test_a_step_is_done_once_every_parent_has_a_child(suite: Suite) -> None:
    first, second = (model.key for model in suite.models)
    root = suite.root(0, 0)
    nodes = {model: child_key(root, model) for model in (first, second)}
    with closing(Frontier(suite)) as frontier:
        assert not frontier.is_done(1, first, [0])
        frontier.add(TriedNode(0, (model,), node, ("yes",)) for model, node in nodes.items())
        assert frontier.is_done(1, first, [0])
        assert not frontier.is_done(1, first, [0, 1])
        assert not frontier.is_done(2, first, [0])
        frontier.add(TriedNode(0, (model, first), child_key(node, first), None) for model, node in nodes.items())
        assert frontier.is_done(2, first, [0])
        assert not frontier.is_done(2, second, [0])


def test_paths_that_the_tree_leaves_out_are_not_missing(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(tree={"repeat": False}), tmp_path)
    first, second = (model.key for model in suite.models)
    node = child_key(suite.root(0, 0), first)
    with closing(Frontier(suite)) as frontier:
        frontier.add([TriedNode(0, (first,), node, ("yes",))])
        assert frontier.is_done(2, first, [0])
        assert not frontier.is_done(2, second, [0])
