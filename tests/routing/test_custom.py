"""A router of the user's over several alphas: how often it is fitted, what it sees, and what is recorded."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from tests.toy import with_missing
from toolkit.core.errors import PolicyError
from toolkit.replay.exact import benchmark_weights, node_outcome
from toolkit.replay.table import TransitionTable
from toolkit.routing.custom import CustomRouter, load_responses, observe
from toolkit.routing.decision_file import decided_nodes
from toolkit.routing.untrained import Setting, sweep_routed
from toolkit.store import Cache
from toolkit.suites.suite import Suite

SOURCE = """
fitted = []


class Once:
    def fit(self, table):
        fitted.append(table)

    def decide(self, observation):
        return "sums" if observation.alpha > 0.1 else "words"


class Each(Once):
    def fit(self, table, alpha):
        fitted.append(alpha)
"""
ALPHAS = (0.0, 0.1, 0.2)


@pytest.fixture
def setting(suite: Suite, cache: Cache, table: TransitionTable) -> Setting:
    synthetic = dict.fromkeys(table.benchmarks, True)
    return Setting(suite, cache, table, synthetic, "test", alpha=0.0, allow_stop=False)


@pytest.mark.parametrize(("name", "fits"), [("Once", 1), ("Each", len(ALPHAS))])
def test_a_sweep_fits_a_router_once_or_for_each_alpha_and_records_all(
    name: str, fits: int, setting: Setting, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    router, table = CustomRouter(f"{tmp_path / 'mine.py'}:{name}"), setting.table
    policies = sweep_routed(setting, [router], ALPHAS)
    assert len(router._router.fit.__globals__["fitted"]) == fits
    assert list(policies) == list(ALPHAS)
    rows = table.rows("test")
    for alpha, end in zip(ALPHAS, (6, 6, 3), strict=True):  # words > words, and sums > sums
        reward = benchmark_weights(table, rows) @ node_outcome(table, rows, end).reward(alpha)
        assert benchmark_weights(table, rows) @ policies[alpha][f"mine.py:{name}"].outcome.reward(alpha) == reward
        recorded = setting.cache.arrow(
            "SELECT e.reward FROM evaluations AS e JOIN runs AS r USING (run, alpha) WHERE r.algorithm = $name"
            " AND e.alpha = $alpha AND e.policy = 'router' AND e.benchmark = 'overall'",
            {"name": f"mine.py:{name}", "alpha": alpha},
        )
        assert recorded["reward"].to_pylist() == [pytest.approx(reward)]


def test_what_is_fitted_on_has_no_question_of_the_test_split(setting: Setting, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SOURCE)
    router, table = CustomRouter(f"{tmp_path / 'mine.py'}:Once"), setting.table
    router.fit(table, 0.0)
    [visible] = router._router.fit.__globals__["fitted"]
    rows = np.flatnonzero(table.split != "test")
    assert visible.questions == tuple(table.questions[row] for row in rows)
    hidden = table.vectors[np.setdiff1d(table.texts[table.rows("test")], table.texts[rows])]
    assert len(hidden) > len(table.rows("test"))
    assert not any((visible.vectors == vector).all(1).any() for vector in hidden)


def test_an_observation_is_what_the_cache_says_of_the_node(setting: Setting) -> None:
    table, cache = setting.table, setting.cache
    row = int(table.rows("test")[0])
    responses = load_responses(cache, setting.suite, table.rows("test"))
    assert {place[0] for place in responses} == set(table.rows("test").tolist())
    [transition] = cache.arrow(
        "FROM transitions WHERE path = ['words'] AND question_prompt = $prompt", {"prompt": table.questions[row]}
    ).to_pylist()
    seen = observe(table, row, [0, 2], 0.3, responses)
    assert (seen.question, seen.path, seen.responses) == (table.questions[row], ("words",), (transition["response"],))
    assert seen.cost == pytest.approx(transition["cost"])
    assert (seen.hop, seen.horizon, seen.alpha, seen.models) == (1, 2, 0.3, ("sums", "words"))
    embedded = cache.arrow(
        "SELECT vector FROM embeddings JOIN generations USING (text) WHERE generation = $key::UUID",
        {"key": transition["generation"]},
    )
    np.testing.assert_allclose(seen.response_embedding, embedded["vector"].to_pylist()[0])
    assert not observe(table, row, [0], 0.3, responses).response_embedding.any()


def test_two_routers_of_one_name_are_refused(setting: Setting, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(SOURCE)
    routers = [CustomRouter(f"{tmp_path / folder / 'mine.py'}:Once") for folder in ("a", "b")]
    with pytest.raises(PolicyError, match="Two of the routers have one name"):
        sweep_routed(setting, routers, [0.0])
    assert setting.cache.arrow("FROM runs").num_rows == 0


def test_a_router_and_decisions_can_only_choose_models_that_have_a_response(setting: Setting, tmp_path: Path) -> None:
    source = "def first(seen):\n    return seen.available[0]\n\ndef sums(seen):\n    return 'sums'\n"
    (tmp_path / "mine.py").write_text(source)
    table = with_missing(setting.table, 0)
    assert table.available is not None
    rows = table.rows("test")
    [routed] = CustomRouter(f"{tmp_path / 'mine.py'}:first").route(table, "test", [0.0], False, defaultdict(str)).values()
    first = [min(leaf for leaf in table.leaves if table.available[row, leaf]) for row in rows]
    assert routed.nodes.tolist() == first
    lacking = [row for row in rows if not table.available[row, 3]]  # sums > sums
    assert 0 < len(lacking) < len(rows)
    with pytest.raises(PolicyError, match=r"mine.py:sums chose sums at hop \d of the question .*, where it has no response"):
        CustomRouter(f"{tmp_path / 'mine.py'}:sums").route(table, "test", [0.0], False, defaultdict(str))
    known = {question: [row] for row, question in enumerate(table.questions)}
    paths = {row: table.path_name(node) for row, node in zip(rows.tolist(), first, strict=True)}
    decisions = [(f"row {row}", {"question": table.questions[row], "path": path}) for row, path in paths.items()]
    assert decided_nodes(table, "test", decisions, known, False, "d.csv").tolist() == first
    decisions = [(f"row {row}", {"question": table.questions[row], "path": "sums > sums"}) for row in rows]
    message = f"{len(lacking)} of {len(rows)} test questions have no response on their path"
    with pytest.raises(PolicyError, match=message):
        decided_nodes(table, "test", decisions, known, False, "d.csv")
