"""Everything that `evaluate` reports is recomputed from SQL over the public views and the recorded decisions."""

import json
import math
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.config import TrainConfig
from toolkit.evaluate import OVERALL, Evaluation, estimate, evaluate, record
from toolkit.policy import load_router
from toolkit.report.results import render
from toolkit.store import Cache
from toolkit.suite import Suite
from toolkit.table import TransitionTable
from toolkit.train import train

ALPHA = 0.1
Path_ = tuple[str, ...]


@pytest.fixture
def evaluation(cache: Cache, suite: Suite, table: TransitionTable, tmp_path: Path) -> Evaluation:
    trained = train(suite, cache, TrainConfig(alpha=ALPHA, timesteps=4_000), 0, tmp_path)
    generated = {"addition": True, "word_reversal": True, "geography": False}
    result, probabilities = evaluate(table, load_router(trained.path), "test", generated)
    record(cache, suite, table, result, probabilities)
    return result


class Recomputed:
    """The test split, read back question by question through SQL."""

    def __init__(self, cache: Cache, split: str = "test") -> None:
        self.nodes: dict[str, dict[Path_, dict[str, Any]]] = defaultdict(dict)
        self.benchmark: dict[str, str] = {}
        for row in cache.arrow(f"SELECT * FROM transitions WHERE suite = 'scripted' AND split = '{split}'").to_pylist():
            self.nodes[row["question"]][tuple(row["path"])] = row
            self.benchmark[row["question"]] = row["benchmark"]
        self.models = sorted({path[0] for paths in self.nodes.values() for path in paths})
        roots = {row["parent"]: q for q, paths in self.nodes.items() for p, row in paths.items() if len(p) == 1}
        place = {row["node"]: (q, p) for q, paths in self.nodes.items() for p, row in paths.items()}
        self.chance: dict[tuple[str, Path_, str], float] = {}
        for row in cache.arrow("SELECT * FROM decisions").to_pylist():
            node = place.get(row["node"]) or (roots.get(row["node"]), ())
            if node[0]:
                self.chance[node[0], node[1], row["action"]] = row["probability"]

    @property
    def complete(self) -> list[Path_]:
        return list(product(self.models, repeat=2))

    def worth(self, question: str, path: Path_) -> tuple[float, float]:
        hops = [self.nodes[question][path[:depth]] for depth in range(1, len(path) + 1)]
        return hops[-1]["quality"], sum(hop["cost"] for hop in hops)

    def means(self, weights: dict[str, dict[Path_, float]]) -> dict[str, tuple[float, float, float, dict[Path_, float]]]:
        """Q, C, R and path shares by benchmark and overall, of a policy that weights paths per question."""
        by_benchmark: dict[str, list[tuple[float, float, dict[Path_, float]]]] = defaultdict(list)
        for question, paths in weights.items():
            values = {path: self.worth(question, path) for path in paths}
            quality = math.fsum(weight * values[path][0] for path, weight in paths.items())
            cost = math.fsum(weight * values[path][1] for path, weight in paths.items())
            by_benchmark[self.benchmark[question]].append((quality, cost, paths))
        found = {}
        for name, rows in by_benchmark.items():
            q, c = (math.fsum(row[n] for row in rows) / len(rows) for n in (0, 1))  # type: ignore[misc]
            shares = {p: math.fsum(r[2].get(p, 0.0) for r in rows) / len(rows) for r in rows for p in r[2]}
            found[name] = (q, c, q - ALPHA * c, shares)
        mean = [math.fsum(value[n] for value in found.values()) / len(found) for n in range(3)]  # type: ignore[misc]
        every = {path for value in found.values() for path in value[3]}
        shares = {path: math.fsum(v[3].get(path, 0.0) for v in found.values()) / len(found) for path in every}
        return found | {OVERALL: (mean[0], mean[1], mean[2], shares)}


def weights(data: Recomputed, policy: str, best: Path_) -> dict[str, dict[Path_, float]]:
    def of(question: str) -> dict[Path_, float]:
        def reward(path: Path_) -> float:
            quality, cost = data.worth(question, path)
            return quality - ALPHA * cost

        def greedy() -> Path_:
            path: Path_ = ()
            for _ in range(2):
                path = (*path, max(data.models, key=lambda model: data.chance[question, path, model]))
            return path

        match policy:
            case "router":
                return {(a, b): data.chance[question, (), a] * data.chance[question, (a,), b] for a, b in data.complete}
            case "router (greedy)":
                return {greedy(): 1.0}
            case "random":
                return dict.fromkeys(data.complete, 1 / len(data.complete))
            case "best fixed path":
                return {best: 1.0}
            case "oracle":
                top = max(map(reward, data.complete))
                return {next(path for path in data.complete if math.isclose(reward(path), top, abs_tol=1e-12)): 1.0}
        name, _, hops = policy.partition(" x")
        return {(name,) * int(hops or 1): 1.0}

    return {question: of(question) for question in data.nodes}


def test_every_figure_follows_from_sql(evaluation: Evaluation, cache: Cache) -> None:
    data, training = Recomputed(cache), Recomputed(cache, "train")
    fixed = {path: training.means({q: {path: 1.0} for q in training.nodes})[OVERALL][2] for path in training.complete}
    best = max(fixed, key=lambda path: fixed[path])
    assert evaluation.best_fixed_path == " > ".join(best)
    compared = 0
    for policy in evaluation.policies:
        expected = data.means(weights(data, policy, best))
        for benchmark, (quality, cost, reward, shares) in expected.items():
            result = evaluation.result(policy, benchmark)
            assert result.quality.mean == pytest.approx(quality, abs=1e-9)
            assert result.cost.mean == pytest.approx(cost, abs=1e-9)
            assert result.reward.mean == pytest.approx(reward, abs=1e-9)
            routed = data.means(weights(data, "router", best))[benchmark][2]
            assert result.lead.mean == pytest.approx(routed - reward, abs=1e-9)
            told = {tuple(path.split(" > ")): share for path, share in result.paths.items()}
            for path in {*told, *shares}:
                assert told.get(path, 0.0) == pytest.approx(shares.get(path, 0.0), abs=1e-9)
            compared += 1
    assert compared == len(evaluation.policies) * 4
    assert evaluation.policies == [
        "router", "router (greedy)", "sums", "sums x2", "words", "words x2", "best fixed path", "random", "oracle"
    ]  # fmt: skip


def test_probabilities_of_every_decision_add_up_to_1(evaluation: Evaluation, cache: Cache) -> None:
    rows = cache.arrow("SELECT node, sum(probability) AS total, count(*) AS n FROM decisions GROUP BY node").to_pylist()
    assert len(rows) == evaluation.result("router").questions * 3
    assert all(row["total"] == pytest.approx(1, abs=1e-12) and row["n"] == 2 for row in rows)


def test_what_is_recorded_is_what_is_reported(evaluation: Evaluation, cache: Cache) -> None:
    for row in cache.arrow("SELECT * FROM evaluations").to_pylist():
        result = evaluation.result(row["policy"], row["benchmark"])
        assert (row["quality"], row["quality_low"], row["quality_high"]) == pytest.approx(tuple(result.quality), nan_ok=True)
        assert (row["reward"], row["reward_low"], row["reward_high"]) == pytest.approx(tuple(result.reward), nan_ok=True)
        assert json.loads(row["paths"]) == pytest.approx(dict(result.paths))
        assert row["generated"] is (row["benchmark"] != "geography")


def test_intervals_cover_the_mean_at_their_nominal_rate() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        found = estimate([rng.normal(1.0, 1.0, 40), rng.normal(3.0, 1.0, 40)], seed=trial)
        hits += found.low <= 2.0 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


def test_few_questions_get_no_verdict(evaluation: Evaluation) -> None:
    text = render(evaluation)
    questions = evaluation.result("router").questions
    assert questions < 30
    assert f"Only {questions} questions" in text
    assert "the best fixed path." not in text
    assert "addition*" in text
    assert "geography*" not in text
    assert "* generated questions" in text
