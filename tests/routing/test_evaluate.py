"""Everything that `evaluate` reports equals figures recomputed by SQL from the public views and the recorded decisions."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toolkit.replay.table import TransitionTable
from toolkit.report.evaluation import render
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.comparison import OVERALL
from toolkit.routing.evaluate import Evaluation, evaluate, evaluate_together, record
from toolkit.routing.router import load_router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

ALPHA = 0.1
Path_ = tuple[str, ...]


@pytest.fixture(params=[False, True], ids=["L hops", "allow_stop"])
def allow_stop(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def evaluation(cache: Cache, suite: Suite, table: TransitionTable, tmp_path: Path, allow_stop: bool) -> Evaluation:
    trained = train(suite, cache, TrainConfig(alpha=ALPHA, timesteps=4_000, allow_stop=allow_stop), 0, tmp_path)
    synthetic = {"addition": True, "word_reversal": True, "geography": False}
    result, probabilities = evaluate(table, load_router(trained.path), "test", synthetic)
    record(cache, suite, table, result, probabilities)
    return result


class Recomputed:
    """The test split, read back question by question through SQL."""

    def __init__(self, cache: Cache, allow_stop: bool, split: str = "test") -> None:
        self.allow_stop = allow_stop
        self.nodes: dict[str, dict[Path_, dict[str, Any]]] = defaultdict(dict)
        self.benchmark: dict[str, str] = {}
        for row in cache.arrow(f"SELECT * FROM transitions WHERE suite = 'scripted' AND split = '{split}'").to_pylist():
            self.nodes[row["question"]][tuple(row["path"])] = row
            self.benchmark[row["question"]] = row["benchmark"]
        self.models = sorted({path[0] for paths in self.nodes.values() for path in paths})
        roots = {row["parent"]: q for q, paths in self.nodes.items() for p, row in paths.items() if len(p) == 1}
        nodes = {row["node"]: (q, p) for q, paths in self.nodes.items() for p, row in paths.items()}
        self.probability: dict[tuple[str, Path_, str], float] = {}
        for row in cache.arrow("SELECT * FROM decisions").to_pylist():
            question, path = nodes.get(row["node"]) or (roots.get(row["node"]), ())
            if question:
                self.probability[question, path, row["action"]] = row["probability"]

    @property
    def ends(self) -> list[Path_]:
        """Return the paths that an episode can take, shorter ones first."""
        lengths = (0, 1, 2) if self.allow_stop else (2,)
        return [path for length in lengths for path in product(self.models, repeat=length)]

    def actions(self) -> list[str]:
        return [*self.models, "stop"] if self.allow_stop else self.models

    def path_probability(self, question: str, path: Path_) -> float:
        """Return the probability that the router takes a path and then ends."""
        stops = self.probability[question, path, "stop"] if len(path) < 2 else 1.0
        return math.prod(self.probability[question, path[:n], model] for n, model in enumerate(path)) * stops

    def outcome(self, question: str, path: Path_) -> tuple[float, float]:
        if not path:
            return 0.0, 0.0
        hops = [self.nodes[question][path[:depth]] for depth in range(1, len(path) + 1)]
        return hops[-1]["quality"], sum(hop["cost"] for hop in hops)

    def means(self, weights: dict[str, dict[Path_, float]]) -> dict[str, tuple[float, float, float, dict[Path_, float]]]:
        """Return Q, C, R and path shares by benchmark and overall, of a policy given by the weights of paths per question."""
        by_benchmark: dict[str, list[tuple[float, float, dict[Path_, float]]]] = defaultdict(list)
        for question, paths in weights.items():
            values = {path: self.outcome(question, path) for path in paths}
            quality = math.fsum(weight * values[path][0] for path, weight in paths.items())
            cost = math.fsum(weight * values[path][1] for path, weight in paths.items())
            by_benchmark[self.benchmark[question]].append((quality, cost, paths))
        means = {}
        for name, rows in by_benchmark.items():
            q, c = (math.fsum(row[n] for row in rows) / len(rows) for n in (0, 1))  # type: ignore[misc]
            shares = {p: math.fsum(r[2].get(p, 0.0) for r in rows) / len(rows) for r in rows for p in r[2]}
            means[name] = (q, c, q - ALPHA * c, shares)
        mean = [math.fsum(value[n] for value in means.values()) / len(means) for n in range(3)]  # type: ignore[misc]
        all_paths = {path for value in means.values() for path in value[3]}
        shares = {path: math.fsum(v[3].get(path, 0.0) for v in means.values()) / len(means) for path in all_paths}
        return means | {OVERALL: (mean[0], mean[1], mean[2], shares)}


def reward(data: Recomputed, question: str, path: Path_) -> float:
    quality, cost = data.outcome(question, path)
    return quality - ALPHA * cost


def best_of(data: Recomputed, paths: list[Path_], benchmark: str = OVERALL) -> Path_:
    """Return the path with the highest mean R on a split."""
    fixed = {p: data.means({q: {p: 1.0} for q in data.nodes})[benchmark][2] for p in paths}
    return max(paths, key=lambda path: fixed[path])


def weights(data: Recomputed, training: Recomputed, policy: str) -> dict[str, dict[Path_, float]]:
    def greedy(question: str) -> Path_:
        path: Path_ = ()
        while len(path) < 2:
            action = max(data.actions(), key=lambda name: data.probability[question, path, name])
            if action == "stop":
                break
            path = (*path, action)
        return path

    def random(path: Path_) -> float:
        return (1 / len(data.actions())) ** min(len(path) + 1, 2)

    def oracle(question: str) -> Path_:
        top = max(reward(data, question, path) for path in data.ends)
        return next(path for path in data.ends if math.isclose(reward(data, question, path), top, abs_tol=1e-12))

    match policy:
        case "router":
            return {q: {greedy(q): 1.0} for q in data.nodes}
        case "router (sampled)":
            return {q: {path: data.path_probability(q, path) for path in data.ends} for q in data.nodes}
        case "random":
            return {q: {path: random(path) for path in data.ends} for q in data.nodes}
        case "best model":
            best = best_of(training, [(model,) for model in data.models])
            return {q: {best: 1.0} for q in data.nodes}
        case "best fixed path":
            best = best_of(training, data.ends)
            return {q: {best: 1.0} for q in data.nodes}
        case "best model per benchmark":
            alone: list[Path_] = [(model,) for model in data.models]
            best_models = {name: best_of(training, alone, name) for name in set(data.benchmark.values())}
            return {q: {best_models[data.benchmark[q]]: 1.0} for q in data.nodes}
        case "best path per benchmark":
            best_paths = {name: best_of(training, data.ends, name) for name in set(data.benchmark.values())}
            return {q: {best_paths[data.benchmark[q]]: 1.0} for q in data.nodes}
        case "oracle":
            return {q: {oracle(q): 1.0} for q in data.nodes}
        case "abstained":
            return {q: {(): 1.0} for q in data.nodes}
    name, _, hops = policy.partition(" x")
    path = tuple(policy.split(" > ")) if " > " in policy else (name,) * int(hops or 1)
    return {q: {path: 1.0} for q in data.nodes}


def test_every_figure_follows_from_sql(evaluation: Evaluation, cache: Cache, allow_stop: bool) -> None:
    data, training = Recomputed(cache, allow_stop), Recomputed(cache, allow_stop, "train")
    assert evaluation.best_fixed_path == (" > ".join(best_of(training, data.ends)) or "abstained")
    assert evaluation.best_model == best_of(training, [(model,) for model in data.models])[0]
    routed = weights(data, training, "router")
    compared = 0
    fitted = [baseline.name for baseline in registered_baselines() if baseline.fitted]
    for policy in evaluation.policies:
        if policy in fitted:  # tests/routing/baselines
            continue
        chosen = weights(data, training, policy)
        expected = data.means(chosen)
        for benchmark, (quality, cost, mean_reward, shares) in expected.items():
            result = evaluation.result(policy, benchmark)
            assert result.quality.mean == pytest.approx(quality, abs=1e-9)
            assert result.cost.mean == pytest.approx(cost, abs=1e-9)
            assert result.reward.mean == pytest.approx(mean_reward, abs=1e-9)
            assert result.lead.mean == pytest.approx(data.means(routed)[benchmark][2] - mean_reward, abs=1e-9)
            if quality:
                assert result.multiple.mean == pytest.approx(data.means(routed)[benchmark][0] / quality, abs=1e-9)
            if mean_reward > 0:
                assert result.share.mean == pytest.approx(data.means(routed)[benchmark][2] / mean_reward, abs=1e-9)
            reported = {() if path == "abstained" else tuple(path.split(" > ")): share for path, share in result.paths.items()}
            for path in {*reported, *shares}:
                assert reported.get(path, 0.0) == pytest.approx(shares.get(path, 0.0), abs=1e-9)
            fixed, best = (data.means(weights(data, training, name))[benchmark][2] for name in ("best fixed path", "oracle"))
            if best - fixed > 1e-9:
                assert result.gap_recovered.mean == pytest.approx((mean_reward - fixed) / (best - fixed), abs=1e-9)
            else:
                assert math.isnan(result.gap_recovered.mean)
            compared += 1
        wins = defaultdict(list)
        for question, paths in chosen.items():
            ours, theirs = (
                math.fsum(w * reward(data, question, path) for path, w in mix.items()) for mix in (routed[question], paths)
            )
            wins[data.benchmark[question]].append(0.5 if math.isclose(ours, theirs, abs_tol=1e-9) else float(ours > theirs))
        mean = np.mean([np.mean(each) for each in wins.values()])
        assert evaluation.result(policy).improvement.mean == pytest.approx(mean, abs=1e-9)
    assert compared == sum(policy not in fitted for policy in evaluation.policies) * 4
    assert evaluation.policies == [
        "router", "router (sampled)", "sums", "sums x2", "words", "words x2", "best model", "best fixed path",
        "best model per benchmark", "best path per benchmark",
        "kNN", "kNN (n-grams)", "tree", "linear", "MLP", "SVM", "factorisation", "clusters",
        *(["cascade"] if allow_stop else []), "random", "oracle", *(["abstained"] if allow_stop else []),
        "sums > words", "words > sums",
    ]  # fmt: skip


def test_probabilities_of_every_decision_add_up_to_1(evaluation: Evaluation, cache: Cache, allow_stop: bool) -> None:
    rows = cache.arrow("SELECT node, sum(probability) AS total, count(*) AS n FROM decisions GROUP BY node").to_pylist()
    assert len(rows) == evaluation.result("router").questions * 3
    assert all(row["total"] == pytest.approx(1, abs=1e-12) and row["n"] == 2 + allow_stop for row in rows)


def test_routes_are_the_paths_that_the_greedy_router_takes(
    evaluation: Evaluation, cache: Cache, suite: Suite, allow_stop: bool
) -> None:
    data = Recomputed(cache, allow_stop)
    routes = cache.arrow("FROM routes").to_pylist()
    assert {row["question"] for row in routes} == set(data.nodes)
    assert len(routes) == len(data.nodes)
    greedy_paths = weights(data, data, "router")
    for row in routes:
        (path,) = greedy_paths[row["question"]]
        assert tuple(row["path"]) == path
        assert row["hops"] == len(path)
        assert (row["quality"], row["cost"]) == pytest.approx(data.outcome(row["question"], path))
        assert (row["run"], row["suite"], row["split"], row["sample"]) == (evaluation.run, "scripted", "test", 0)
        assert row["benchmark"] == data.benchmark[row["question"]]
    by_benchmark = "SELECT benchmark, avg(quality) AS quality, avg(cost) AS cost FROM routes GROUP BY benchmark"
    for row in cache.arrow(by_benchmark).to_pylist():
        result = evaluation.result("router", row["benchmark"])
        assert (row["quality"], row["cost"]) == pytest.approx((result.quality.mean, result.cost.mean))
    probable = "SELECT arg_max(chosen, probability) AS first, count(*) FILTER (chosen) AS n FROM decisions GROUP BY node"
    assert {(row["first"], row["n"]) for row in cache.arrow(probable).to_pylist()} == {(True, 1)}


def test_what_is_recorded_is_what_is_reported(evaluation: Evaluation, cache: Cache) -> None:
    for row in cache.arrow("SELECT * FROM evaluations").to_pylist():
        result = evaluation.result(row["policy"], row["benchmark"])
        assert (row["quality"], row["quality_low"], row["quality_high"]) == pytest.approx(tuple(result.quality), nan_ok=True)
        assert (row["reward"], row["reward_low"], row["reward_high"]) == pytest.approx(tuple(result.reward), nan_ok=True)
        improvement = (row["improvement"], row["improvement_low"], row["improvement_high"])
        assert improvement == pytest.approx(tuple(result.improvement), nan_ok=True)
        gap = (row["gap_recovered"], row["gap_recovered_low"], row["gap_recovered_high"])
        assert gap == pytest.approx(tuple(result.gap_recovered), nan_ok=True)
        assert row["reference"] == "router"
        assert json.loads(row["paths"]) == pytest.approx(dict(result.paths))
        assert row["synthetic"] is (row["benchmark"] != "geography")


def test_the_reward_of_routers_of_several_seeds_is_the_mean_of_theirs(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path
) -> None:
    config = TrainConfig(alpha=ALPHA, timesteps=1_000, allow_stop=True)
    routers = [load_router(train(suite, cache, config, seed, tmp_path).path) for seed in range(3)]
    synthetic = dict.fromkeys(table.benchmarks, True)
    separate = [evaluate(table, router, "test", synthetic)[0] for router in routers]
    joined, probabilities = evaluate_together(table, routers, "test", synthetic)
    assert len(probabilities) == 3
    assert len({evaluation.result("router").reward.mean for evaluation in separate}) == 3
    for policy in ("router", "router (sampled)", "oracle"):
        for benchmark in (*joined.benchmarks, OVERALL):
            mean = np.mean([evaluation.result(policy, benchmark).reward.mean for evaluation in separate])
            assert joined.result(policy, benchmark).reward.mean == pytest.approx(mean, abs=1e-12)
    rewards = [evaluation.result("router").reward for evaluation in separate]
    width = joined.result("router").reward.high - joined.result("router").reward.low
    assert width > np.mean([reward.high - reward.low for reward in rewards])  # it holds for other seeds, too
    oracle, alone = (each.result("oracle") for each in (joined, separate[0]))
    assert oracle.reward == pytest.approx(tuple(alone.reward))  # has no seeds


def test_few_questions_get_no_verdict(evaluation: Evaluation) -> None:
    text = render(evaluation, full=True)
    questions = evaluation.result("router").questions
    assert questions < 30
    assert f"Only {questions} questions" in text
    assert "significantly" not in text.split("\n\n")[0]
    assert "addition*" in text
    assert "geography*" not in text
    assert "* synthetic questions" in text
