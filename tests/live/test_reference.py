"""On the shipped reference, live routing takes the path of the environment on every question, and loads nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.reference import SUITE
from toolkit.cli.common import app
from toolkit.core import tree
from toolkit.live import LivePool
from toolkit.replay.exact import most_probable
from toolkit.replay.table import load_table
from toolkit.routing.route import Route, run
from toolkit.routing.router import Router
from toolkit.routing.texts import Context, text_table
from toolkit.routing.train import train
from toolkit.store import Cache


def refuse(*_: object) -> Any:
    raise AssertionError("something was loaded although everything is cached")


def test_every_cached_question_takes_the_path_of_the_environment(tmp_path: Path) -> None:
    path = tmp_path / f"{SUITE}.duckdb"
    imported = CliRunner().invoke(app, ["import", "reference", "--cache", str(path)])
    assert imported.exit_code == 0, imported.output
    cache = Cache(path)
    suite = cache.suites.get(SUITE)
    assert suite
    config = suite.config.train.model_copy(update={"timesteps": 3000})
    router, table = Router.load(train(suite, cache, config, 0, tmp_path).path), load_table(cache, suite)
    actions = most_probable(router.probabilities(table, table.rows("test")))
    replayed = {}
    for row, of_row in zip(table.rows("test").tolist(), actions, strict=True):
        node, models = 0, []
        while node < table.n_decision_nodes and (action := int(of_row[node].argmax())) < table.n_models:
            models.append(table.models[action])
            node = node * table.n_models + 1 + action
        replayed[row] = (tuple(models), float(table.cost[row, node]))
    replay = router.observer(table)
    first = {int(table.benchmark[row]): row for row in reversed(list(replayed))}.values()  # of each benchmark
    with LivePool(suite, cache, engine=refuse, encode=refuse) as pool:
        routes = run(router, [table.questions[row] for row in replayed], pool)
        for row, route in zip(replayed, routes, strict=True):
            if row not in first:
                continue
            assert isinstance(route, Route)
            for hop in range(min(len(route.hops) + 1, table.horizon)):
                context = Context(route.question, tuple(hop.response for hop in route.hops[:hop]))
                node = tree.node_of(tuple(map(table.models.index, route.path[:hop])), table.n_models)
                texts, at = text_table([context], [node], suite.config, pool.encode), np.array([node])
                observed = router.observer(texts)(np.array([0]), at)
                assert np.array_equal(observed, replay(np.array([row]), at))  # every number that the policy reads
    for (row, (models_of_row, cost)), route in zip(replayed.items(), routes, strict=True):
        assert isinstance(route, Route)
        assert route.path == models_of_row, table.questions[row]
        assert route.cost == pytest.approx(cost)
        assert route.is_cached
    assert len(first) == len(table.benchmarks)
    assert len({route.path for route in routes if isinstance(route, Route)}) > 1
