"""Without an encoder, policies observe terms, path and cost: learning, router files, baselines and overhead work alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.scripted import resolve_config, right_answers, scripted, suite_config
from tests.toy import make_table
from toolkit.core import tree
from toolkit.core.errors import PolicyError
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.generation.verify_models import verify_embeddings
from toolkit.replay.exact import most_probable, outcome, path_shares
from toolkit.replay.observations import Observer
from toolkit.replay.table import TransitionTable, load_table
from toolkit.replay.terms import contained_terms, frequent_terms
from toolkit.routing.baselines.base import registered_baselines
from toolkit.routing.baselines.predictor import read
from toolkit.routing.decide import action_probabilities
from toolkit.routing.evaluate import evaluate
from toolkit.routing.overhead import overhead_of
from toolkit.routing.router import load_router
from toolkit.routing.train import fit_router, train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

BENCHMARKS = ("addition", "word_reversal", "geography")


def without_encoder(text: str, folder: Path) -> Suite:
    return resolve_config(suite_config(features={"encoder": "none", "text": text}), folder)


def add(suite: Suite, cache: Cache) -> Suite:
    """Make a suite current in a cache that has its responses."""
    cache.suites.record(suite)
    cache.suites.compute_cost_unit(suite.key)
    return suite


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return without_encoder("newest", tmp_path)


@pytest.fixture
def cache(cache: Cache, suite: Suite) -> Cache:
    """The whole cache of the scripted suite, without its embeddings and with the suite that needs none."""
    with cache.write() as con:
        con.execute("DELETE FROM embeddings; DELETE FROM suites")
    add(suite, cache)
    return cache


def test_nothing_is_embedded_and_nothing_is_missing(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    report = generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)))
    assert (report.generated, cache.embeddings.missing(suite)) == (0, [])
    assert cache.arrow("SELECT count(*) AS n FROM embeddings").to_pylist() == [{"n": 0}]
    table = load_table(cache, suite)
    assert (table.vectors.shape, table.texts.shape) == ((1, 0), (24, 3, 2))
    assert all(finding.wrong == 0 for finding in verify(cache))
    finding = verify_embeddings(suite, cache, Workspace(tmp_path, tmp_path))
    assert (finding.rows, finding.wrong) == (0, 0)
    unused = {entry.table: entry.unused for entry in cache.housekeeping.unused()}
    assert not any(unused[name] for name in ("suites", "nodes", "generations", "scores", "embeddings"))


def test_observations_are_terms_path_and_cost(cache: Cache, suite: Suite) -> None:
    table = load_table(cache, suite)
    terms = frequent_terms(table)
    assert terms
    rows, nodes = np.array([0, 10, 20]), np.array([0, 1, 2])
    observations = Observer(table, terms)(rows, nodes)
    path = [[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
    expected = np.hstack([contained_terms(terms, [table.questions[row] for row in rows]), path, table.cost[rows, nodes, None]])
    np.testing.assert_array_equal(observations, expected.astype(np.float32))


@pytest.mark.parametrize("text", ["newest", "context"])
@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(algorithm="exact", alphas=(0.0, 0.05), projection=0, allow_stop=True),
        TrainConfig(timesteps=2_000, n_envs=64, terms=False, first_layer="shared"),
    ],
    ids=["exact", "ppo"],
)
def test_routers_are_trained_and_their_files_load(text: str, config: TrainConfig, cache: Cache, tmp_path: Path) -> None:
    suite = add(without_encoder(text, tmp_path), cache)
    router = load_router(train(suite, cache, config, 0, tmp_path / "runs").path)
    table = load_table(cache, suite)
    probabilities = router.probabilities(table, table.rows("test"))
    np.testing.assert_allclose(probabilities.sum(2), 1)
    assert router.card["encoder"] == "none"


@pytest.mark.parametrize(
    "config",
    [TrainConfig(algorithm="exact", exact={"n_epochs": 200}), TrainConfig(timesteps=40_000, n_envs=64)],
    ids=["exact", "ppo"],
)
def test_a_policy_learns_from_the_words_of_a_question(config: TrainConfig) -> None:
    quality = np.zeros((12, 7))
    for row in range(12):  # the two words of a question say which model is right at which hop
        quality[row, tree.node_of((row % 2, row // 2 % 2), 2)] = 1
    questions = tuple(f"{('sum', 'word')[row % 2]} {('long', 'short')[row // 2 % 2]}" for row in range(12))
    table = make_table(quality, np.zeros((12, 7)), 2, ["a", "b"], np.zeros((12, 0), np.float32), questions=questions)
    model = fit_router(table, config.changed({"alpha": 0.0}), 0)
    rows = table.rows("train")
    probabilities = action_probabilities(model, Observer(table, frequent_terms(table)), rows, 0.0)
    assert outcome(table, rows, path_shares(table, most_probable(probabilities))).quality.mean() == 1


def test_evaluation_and_overhead(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    router = load_router(train(suite, cache, TrainConfig(algorithm="exact"), 0, tmp_path / "runs").path)
    table = load_table(cache, suite)
    evaluation, _ = evaluate(table, router, "test", dict.fromkeys(BENCHMARKS, True))
    assert evaluation.run == router.card["run"]
    measured = overhead_of(router, suite, cache, table, "test", again=True)
    assert measured
    assert measured.encoder < measured.network


@pytest.mark.parametrize("allow_stop", [False, True])
@pytest.mark.parametrize("with_terms", [True, False])
def test_baselines_read_terms_and_those_that_need_embeddings_are_left_out(
    with_terms: bool, allow_stop: bool, cache: Cache, suite: Suite
) -> None:
    table = load_table(cache, suite)
    if not with_terms:
        table = TransitionTable(**{**{name: getattr(table, name) for name in table.__dataclass_fields__}, "questions": ()})
    rows = table.rows("test")
    features = read(table, rows)
    np.testing.assert_array_equal(features.embeddings, features.terms if with_terms else np.zeros((len(rows), 1)))
    policies = {
        baseline.name: list(baseline.policies(table, "test", 0.05, allow_stop).values()) for baseline in registered_baselines()
    }
    assert {"kNN", "cascade"} <= {name for name, choices in policies.items() if not choices}
    assert {"linear", "MLP", "SVM", "factorisation", "clusters"} <= {name for name, choices in policies.items() if choices}
    assert bool(policies["kNN (n-grams)"]) == with_terms


def test_a_router_with_another_encoder_does_not_fit(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    router = load_router(train(suite, cache, TrainConfig(algorithm="exact"), 0, tmp_path / "runs").path)
    vectors = np.ones((1, 8), np.float32)
    without = load_table(cache, suite)
    other = TransitionTable(**{**{name: getattr(without, name) for name in without.__dataclass_fields__}, "vectors": vectors})
    with pytest.raises(PolicyError, match="another encoder"):
        router.probabilities(other, other.rows("test"))
