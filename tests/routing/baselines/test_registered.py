"""What holds for every registered baseline, on tables of all shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tests.routing.baselines.tables import random_table, revealing_table
from toolkit.core.registry import BASELINES
from toolkit.replay.exact import benchmark_weights, ends, node_outcome, oracle, outcome, path_shares
from toolkit.replay.table import TransitionTable
from toolkit.routing.baselines import Baseline, Choice, mlp, registered_baselines, sb3_ppo
from toolkit.routing.evaluate import policies

TABLES = {
    "two hops": random_table(),
    "many models": random_table(n_models=10, horizon=1),
    "two models": random_table(n_models=2, horizon=3),
    "one benchmark, no validation": random_table(rows=30, train=0.7, validation=0, benchmarks=1),
    "no texts": random_table(texts=False),
    "two training questions": random_table(rows=12, train=2 / 12, validation=0),
    "one training question": random_table(rows=12, train=1 / 12, validation=0),
    "equal embeddings": replace(random_table(), vectors=np.ones((601, 8), np.float32)),
}
FAST = [baseline for baseline in registered_baselines() if not baseline.slow]
NAMES = [
    "models", "best model", "best fixed path", "best model per benchmark", "best path per benchmark", "kNN", "kNN (n-grams)",
    "tree", "linear", "MLP", "SVM", "factorisation", "clusters", "cascade", "SB3 PPO", "random", "oracle", "fixed paths",
]  # fmt: skip


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sb3_ppo, "TIMESTEPS", 1)
    monkeypatch.setattr(mlp, "MAX_SAMPLES", 1000)


def mean_reward(table: TransitionTable, choice: Choice, allow_stop: bool, alpha: float) -> float:
    rows = table.rows("test")
    if np.ndim(choice) == 3:
        probabilities = np.asarray(choice)
        assert probabilities.shape == (len(rows), table.n_decision_nodes, table.n_models + allow_stop)
        np.testing.assert_allclose(probabilities.sum(-1), 1)
        result = outcome(table, rows, path_shares(table, probabilities))
    else:
        nodes = np.broadcast_to(np.asarray(choice), len(rows))
        assert nodes.dtype == np.int64
        result = node_outcome(table, rows, nodes)
    return float(benchmark_weights(table, rows) @ result.reward(alpha))


@pytest.mark.parametrize("allow_stop", [False, True])
@pytest.mark.parametrize("shape", TABLES)
@pytest.mark.parametrize("baseline", FAST, ids=lambda baseline: str(baseline.name))
def test_a_baseline_chooses_ends_or_says_what_the_table_lacks(baseline: Baseline, shape: str, allow_stop: bool) -> None:
    table = TABLES[shape]
    best = mean_reward(table, oracle(table, table.rows("test"), 0.3, allow_stop), allow_stop, 0.3)
    chosen = baseline.policies(table, "test", 0.3, allow_stop)
    assert bool(chosen) != bool(baseline.lacks(table, allow_stop)) or baseline.name == "fixed paths"
    at = ends(table, allow_stop)
    for name, choice in chosen.items():
        if baseline.name not in ("models", "best model", "best model per benchmark"):  # these end after one hop
            assert mean_reward(table, choice, allow_stop, 0.3) <= best + 1e-9
            assert np.ndim(choice) == 3 or (at.start <= np.min(choice) and np.max(choice) < at.stop), name
    again = baseline.policies(replace(table), "test", 0.3, allow_stop)
    assert_equal(chosen, again)


def test_vanilla_ppo_reaches_an_end_on_every_row() -> None:
    for allow_stop in (False, True):
        table = TABLES["two hops"]
        (choice,) = sb3_ppo.BASELINE.policies(table, "test", 0.3, allow_stop).values()
        at = ends(table, allow_stop)
        assert np.shape(choice) == table.rows("test").shape
        assert at.start <= np.min(choice)
        assert np.max(choice) < at.stop


@pytest.mark.parametrize("baseline", FAST, ids=lambda baseline: str(baseline.name))
def test_only_hindsight_sees_outcomes_of_the_test_split(baseline: Baseline) -> None:
    table = TABLES["two hops"]
    test = (table.split == "test")[:, None]
    changed = replace(table, quality=np.where(test, 1 - table.quality, table.quality))
    before, after = (baseline.policies(each, "test", 0.1, True) for each in (table, changed))
    assert differ(before, after) == baseline.hindsight


@pytest.mark.parametrize("baseline", [one for one in FAST if one.fitted], ids=lambda baseline: str(baseline.name))
def test_question_only_baselines_do_not_see_responses(baseline: Baseline) -> None:
    table = revealing_table()
    table = replace(table, questions=tuple("even" if row % 2 else "odd" for row in range(len(table.split))))
    vectors = table.vectors.copy()
    vectors[np.unique(table.texts[table.rows("test"), 1:, 1])] *= -1
    before, after = (baseline.policies(each, "test", 0.5, True) for each in (table, replace(table, vectors=vectors)))
    assert differ(before, after) != baseline.question_only


def test_baselines_say_what_they_are() -> None:
    baselines = registered_baselines(slow=True)
    assert [baseline.name for baseline in baselines] == NAMES
    predictors = NAMES[NAMES.index("kNN") : NAMES.index("cascade")]
    assert [baseline.name for baseline in baselines if baseline.question_only] == predictors
    assert [baseline.name for baseline in baselines if baseline.fitted] == [*predictors, "cascade", "SB3 PPO"]
    assert [baseline.name for baseline in baselines if baseline.hindsight] == ["oracle"]
    assert [baseline.name for baseline in baselines if baseline not in registered_baselines()] == ["SB3 PPO"]


def test_what_a_table_lacks() -> None:
    lacking = {
        (shape, allow_stop): [baseline.name for baseline in FAST if baseline.lacks(TABLES[shape], allow_stop)]
        for shape in ("two hops", "many models", "no texts")
        for allow_stop in (False, True)
    }
    assert lacking == {
        ("two hops", False): ["cascade"],
        ("two hops", True): [],
        ("many models", False): ["cascade"],
        ("many models", True): ["cascade"],
        ("no texts", False): ["kNN (n-grams)", "tree", "cascade"],
        ("no texts", True): ["kNN (n-grams)", "tree"],
    }


def test_fixed_paths_are_all_paths_of_several_models() -> None:
    chosen = BASELINES["fixed_paths"].policies(TABLES["two hops"], "test", 0.3, True)
    assert chosen == {"abstained": 0} | {
        f"m{first} > m{second}": 4 + 3 * first + second for first in range(3) for second in range(3) if first != second
    }


def test_two_policies_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = TABLES["many models"]
    probabilities = np.full((len(table.rows("test")), 1, 10), 0.1)
    assert "fixed" not in policies(table, "test", 0.1, [probabilities])
    monkeypatch.setitem(BASELINES._loaded, "fixed", Baseline("fixed", lambda *_: 1))
    shares = policies(table, "test", 0.1, [probabilities])["fixed"].shares
    np.testing.assert_array_equal(shares, np.ones((len(probabilities), 1)))
    monkeypatch.setitem(BASELINES._loaded, "fixed", Baseline("oracle", lambda *_: 1))
    with pytest.raises(ValueError, match="'oracle'"):
        policies(table, "test", 0.1, [probabilities])


def assert_equal(left: Mapping[str, Choice], right: Mapping[str, Choice]) -> None:
    assert left.keys() == right.keys()
    for name, choice in left.items():
        np.testing.assert_array_equal(choice, right[name])


def differ(left: Mapping[str, Choice], right: Mapping[str, Choice]) -> bool:
    arrays: list[tuple[npt.ArrayLike, npt.ArrayLike]] = [(choice, right[name]) for name, choice in left.items()]
    return not all(np.array_equal(before, after) for before, after in arrays)
