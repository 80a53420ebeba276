from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.core.errors import ToolkitError
from toolkit.core.progress import NoProgress
from toolkit.replay.exact import Curve, Outcome, benchmark_weights, curve, frontier, outcome, path_shares
from toolkit.replay.table import TransitionTable
from toolkit.report.plots import cost_quality
from toolkit.routing.router import load_router
from toolkit.routing.sweep import (
    Collapse,
    Point,
    SweepRun,
    aiq,
    areas,
    auto_alphas,
    by_alpha,
    collapsed,
    fixed_range,
    plan_runs,
    summarise,
    sweep,
)
from toolkit.routing.train import fit_router, run_name
from toolkit.store import Cache
from toolkit.store.rows import Row, append
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

EXACT = TrainConfig(algorithm="exact", exact={"n_epochs": 3})
GENERATED = {"addition": True, "word_reversal": True, "geography": False}


class Told(NoProgress):
    """Writes down how many runs were finished, each time it is told of more; stops the sweep there if asked to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.finished: list[int] = []
        self.stop_at = stop_at

    def advance(self, done: int) -> None:
        self.finished.append(sum(self.finished[-1:]) + done)

    def stopped(self) -> bool:
        return self.stop_at is not None and self.finished[-1] >= self.stop_at


@pytest.mark.parametrize("processes", [1, 2])
def test_a_sweep_records_every_run_and_repeats_none(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path, processes: int
) -> None:

    def run(alphas: list[float]) -> tuple[list[str], list[int]]:
        told, every = Told(), plan_runs(suite, EXACT, alphas, 2, tmp_path)
        sweep(suite, cache, table, every, GENERATED, processes, told)
        return [run_name(suite, job.config, job.seed) for job in every], told.finished

    assert run([0.0, 0.5])[1] == [0, 1, 2, 3, 4]
    first = {row["run"]: row["trained"] for row in cache.arrow("SELECT run, trained FROM runs").to_pylist()}
    names, finished = run([0.0, 0.5, 1.0])
    assert finished == [4, 5, 6]
    again = {row["run"]: row["trained"] for row in cache.arrow("SELECT run, trained FROM runs").to_pylist()}
    assert set(again) == set(names)
    assert all(again[name] == trained for name, trained in first.items())
    points = summarise(cache, names)
    assert {p.alpha for p in points if p.policy == "router"} == {0.0, 0.5, 1.0}
    assert all(p.seeds == 2 and p.regret >= -1e-12 for p in points if p.policy == "router")
    rows = table.rows("test")
    alone = fit_router(table, EXACT.changed({"alpha": 0.5}), 1)
    kept = next(load_router(tmp_path / name / "policy.zip") for name in names if "alpha0.5-seed1" in name)
    same = type(kept)(alone, kept.card)
    np.testing.assert_allclose(kept.probabilities(table, rows), same.probabilities(table, rows), atol=1e-6)
    oracle = curve(table, rows, frontier(table, rows))
    told_areas = areas(points, oracle, *fixed_range(table, rows))
    assert told_areas["oracle"] >= told_areas["router"] - 1e-12
    cost_quality(points, oracle, table.models, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_conditioned_sweep_is_one_run_a_seed_evaluated_at_every_alpha(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path
) -> None:

    def run(alphas: list[float]) -> tuple[list[SweepRun], list[int]]:
        told, every = Told(), plan_runs(suite, EXACT, alphas, 2, tmp_path, conditioned=True)
        sweep(suite, cache, table, every, GENERATED, 1, told)
        return every, told.finished

    every, finished = run([0.0, 0.5, 1.0])
    assert finished == [0, 1, 2]
    names = [run_name(suite, job.config, job.seed) for job in every]
    points = [point for point in summarise(cache, names) if point.policy == "router"]
    assert [(point.alpha, point.seeds) for point in points] == [(0.0, 2), (0.5, 2), (1.0, 2)]
    rows = table.rows("test")
    for point in points:
        worth = [
            outcome(table, rows, path_shares(table, load_router(job.path).probabilities(table, rows, point.alpha)))
            for job in every
        ]
        weights = benchmark_weights(table, rows)
        assert point.reward == pytest.approx(np.mean([weights @ one.reward(point.alpha) for one in worth]))
    assert [evaluation.alpha for evaluation in by_alpha(every, table, GENERATED)] == [0.0, 0.5, 1.0]
    assert run([0.0, 0.5, 1.0]) == (every, [2])
    assert run([0.0, 0.5])[1] == [0, 1, 2]  # other alphas, another policy
    words = ["evaluate", str(every[0].path), "--cache", str(cache.path), "--alpha", "0.25"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert "alpha = 0.25" in found.output
    kept = cache.arrow("SELECT DISTINCT alpha FROM evaluations WHERE run = $run ORDER BY alpha", {"run": names[0]})
    assert kept["alpha"].to_pylist() == [0.0, 0.25, 0.5, 1.0]


def test_an_interrupted_sweep_leaves_no_run_without_its_evaluation(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recorded() -> tuple[set[str], set[str]]:
        runs, evaluated = (cache.arrow(f"SELECT DISTINCT run FROM {name}")["run"] for name in ("runs", "evaluations"))
        return set(runs.to_pylist()), set(evaluated.to_pylist())

    written: list[str] = []

    def interrupted(con: duckdb.DuckDBPyConnection, name: str, rows: Sequence[Row]) -> None:
        written.append(name)
        if written.count("evaluations") == 2:
            raise KeyboardInterrupt
        append(con, name, rows)

    given = (suite, cache, table, plan_runs(suite, EXACT, [0.0, 0.5], 2, tmp_path), GENERATED)
    with monkeypatch.context() as patched:
        patched.setattr("toolkit.store.runs.append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(*given)
    assert written[:3] == ["runs", "evaluations", "runs"]
    runs, evaluated = recorded()
    assert len(runs) == 1
    assert runs == evaluated
    told = Told()
    sweep(*given, progress=told)
    assert told.finished == [1, 2, 3, 4]
    runs, evaluated = recorded()
    assert len(runs) == 4
    assert runs == evaluated


@pytest.mark.parametrize("processes", [1, 2])
def test_a_sweep_that_is_stopped_keeps_what_is_finished(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path, processes: int
) -> None:
    told = Told(stop_at=2)
    sweep(suite, cache, table, plan_runs(suite, EXACT, [0.0, 0.5, 1.0], 2, tmp_path), GENERATED, processes, told)
    assert told.finished == [0, 1, 2]
    assert cache.arrow("FROM runs").num_rows == cache.arrow("SELECT DISTINCT run FROM evaluations").num_rows == 2


def test_routers_that_take_one_path_only_are_called_collapsed(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path
) -> None:
    """A router that may stop abstains where every answer costs too much; one that has hardly learned does not."""
    long, short = ({"n_epochs": n, "batch_size": 4, "dropout": 0.0, "patience": 200} for n in (200, 1))
    every = [
        job
        for alpha, settings in ((20.0, long), (0.0, short))
        for job in plan_runs(suite, TrainConfig(algorithm="exact", allow_stop=True, exact=settings), [alpha], 2, tmp_path)
    ]
    sweep(suite, cache, table, every, GENERATED)
    names = [run_name(suite, job.config, job.seed) for job in every]
    assert collapsed(cache, names) == [Collapse(20.0, "abstained", 2)]
    assert collapsed(cache, names[2:]) == []


def test_automatic_alphas_stand_where_the_frontier_bends(table: TransitionTable) -> None:
    rows = table.rows("train")
    bends = curve(table, rows, frontier(table, rows)).alphas
    alphas = auto_alphas(table, 8)
    assert alphas[0] == 0
    assert alphas == sorted(set(alphas))
    assert 2 <= len(alphas) <= 8
    assert all(np.isclose(alpha, bends, rtol=1e-3, atol=0).any() for alpha in alphas[1:])


def test_aiq_by_hand() -> None:
    cost, quality = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5])
    assert aiq(cost, quality, 1, 3) == pytest.approx((0.5 + 1.0) / 2)  # up to 1 at cost 2, and 1 beyond it
    assert aiq(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.1, 1.0]), 1, 3) == pytest.approx(0.5)  # the middle is below the hull


def test_a_router_is_not_given_its_quality_below_its_cost() -> None:
    """Between abstaining, which costs nothing, and its only point at cost 2, a router is a mixture of both."""
    none, oracle = np.zeros(1), Curve(np.array([0.0, 1.0]), Outcome(np.array([0.9, 0.0]), np.array([1.0, 0.0])))
    points = [Point("router", 0.0, 1, 0.75, 2.0, 0.75, 0.0, 0.0)]
    found = areas(points, oracle, Outcome(none, none), 4.0)
    assert found == pytest.approx({"router": (0.75 / 2 * 2 + 0.75 * 2) / 4, "oracle": (0.9 / 2 + 0.9 * 3) / 4})


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_aiq_lies_between_the_worst_and_the_best_quality(points: list[tuple[float, float]]) -> None:
    cost, quality = np.array(points).T
    found = aiq(cost, quality, 0, 1)
    assert quality.min() - 1e-9 <= found <= quality.max() + 1e-9


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=7))
def test_aiq_is_the_mean_height_over_all_mixtures_of_two_points(drawn: list[tuple[int, int]]) -> None:
    """RouterBench's hull: at a cost, the best quality that no dearer point, or a mixture of a cheaper and a dearer, reaches."""
    points = [(x / 20, y / 20) for x, y in drawn]
    cheapest = max(points, key=lambda point: (-point[0], point[1]))[1]

    def height(at: float) -> float:
        afforded = [y for x, y in points if x <= at]
        mixed = [y + (v - y) * (at - x) / (u - x) for x, y in points for u, v in points if x <= at < u]
        return max(afforded + mixed, default=cheapest)

    places = np.linspace(0, 1, 201)
    middles = (places[1:] + places[:-1]) / 2  # every bend is at a multiple of 1/20: between places the height is a line
    cost, quality = np.array(points).T
    assert aiq(cost, quality, 0, 1) == pytest.approx(np.mean([height(at) for at in middles]), abs=1e-9)


def test_the_command_prints_a_row_an_alpha_and_writes_rows_for_programs(cache: Cache, tmp_path: Path) -> None:
    words = ["sweep", "scripted", "--cache", str(cache.path), "--alphas", "0,0.2", "--seeds", "2", "--processes", "1"]
    words += ["--set", "exact.n_epochs=2", "--out", str(tmp_path)]
    shown = CliRunner().invoke(app, [*words, "--plot", str(tmp_path / "plot.svg")])
    assert shown.exit_code == 0, shown.output
    assert "4 routers (exact)" in shown.output
    assert "AIQ" in shown.output
    assert (tmp_path / "plot.svg").exists()
    conditioned = CliRunner().invoke(app, [*words, "--conditioned"])
    assert conditioned.exit_code == 0, conditioned.output
    assert "2 routers (exact)" in conditioned.output
    compared = CliRunner().invoke(app, [*words, "--by-benchmark"])
    assert compared.exit_code == 0, compared.output
    for told in ("alpha = 0.2", "word_reversal", "best path per benchmark", "Q / Q of sums", "of the oracle"):
        assert told in compared.output
    rows = json.loads(CliRunner().invoke(app, [*words, "--format", "json"]).stdout)
    greedy = CliRunner().invoke(app, [*words, "--greedy", "--by-benchmark"])
    assert greedy.exit_code == 0, greedy.output
    for row in rows:
        if row["policy"] in ("router", "router (greedy)"):
            line = [f"{row['alpha']:g}", *(f"{row[name]:.3f}" for name in ("quality", "cost", "reward"))]
            output = (greedy if row["policy"] == "router (greedy)" else shown).output
            assert any(found.split()[:4] == line for found in output.splitlines()), (line, output)
    assert {row["alpha"] for row in rows if row["policy"] == "router"} == {0.0, 0.2}
    assert cache.arrow("FROM runs").num_rows == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweep", "scripted", "--alphas", "0,x"], "--alphas takes numbers"),
        (["sweep", "scripted", "--set", "exact.n_epochs"], "--set takes NAME=VALUE"),
        (["sweep", "scripted", "--by-benchmark", "--format", "csv"], "Leave --by-benchmark out"),
        (["train", "scripted", "--set", "timestep=5"], "did you mean 'timesteps'"),
        (["train", "scripted", "--set", "timesteps=many"], "train.timesteps"),
        (["train", "scripted", "--holdout", "additon"], "no benchmark 'additon'"),
        (["import", "refrence"], "toolkit import reference"),
    ],
)
def test_mistakes_are_told_with_the_remedy(words: list[str], told: str, cache: Cache, tmp_path: Path) -> None:
    where = ["--cache", str(cache.path), *(["--out", str(tmp_path)] if words[0] != "import" else [])]
    found = CliRunner().invoke(app, [*words, *where])
    assert isinstance(found.exception, ToolkitError)
    assert told in str(found.exception)
