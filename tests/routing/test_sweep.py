from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.core.errors import ToolkitError
from toolkit.core.progress import NoProgress
from toolkit.replay.exact import benchmark_weights, curve, frontier, outcome, path_shares
from toolkit.replay.table import TransitionTable
from toolkit.report.plots import cost_quality
from toolkit.routing.aiq import areas, fixed_range
from toolkit.routing.router import load_router
from toolkit.routing.sweep import Collapse, SweepRun, auto_alphas, by_alpha, collapses, plan_runs, sweep
from toolkit.routing.train import fit_router, run_name
from toolkit.store import Cache
from toolkit.store.rows import Row, append
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

EXACT = TrainConfig(algorithm="exact", exact={"n_epochs": 3})
SYNTHETIC = {"addition": True, "word_reversal": True, "geography": False}


class RecordedProgress(NoProgress):
    """Records the number of finished runs at each report, and may stop the sweep at a number of them."""

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

    def repeat(alphas: list[float]) -> tuple[list[str], list[int]]:
        progress, runs = RecordedProgress(), plan_runs(suite, EXACT, alphas, 2, tmp_path)
        sweep(suite, cache, table, runs, SYNTHETIC, processes, progress)
        return [run_name(suite, run.config, run.seed) for run in runs], progress.finished

    assert repeat([0.0, 0.5])[1] == [0, 1, 2, 3, 4]
    first = {row["run"]: row["trained"] for row in cache.arrow("SELECT run, trained FROM runs").to_pylist()}
    names, finished = repeat([0.0, 0.5, 1.0])
    assert finished == [4, 5, 6]
    again = {row["run"]: row["trained"] for row in cache.arrow("SELECT run, trained FROM runs").to_pylist()}
    assert set(again) == set(names)
    assert all(again[name] == trained for name, trained in first.items())
    points = cache.runs.sweep_points(names)
    assert {p.alpha for p in points if p.policy == "router"} == {0.0, 0.5, 1.0}
    assert all(p.seeds == 2 and p.regret >= -1e-12 for p in points if p.policy == "router")
    rows = table.rows("test")
    alone = fit_router(table, EXACT.changed({"alpha": 0.5}), 1)
    saved = next(load_router(tmp_path / name / "router.safetensors") for name in names if "alpha0.5-seed1" in name)
    same = type(saved)(alone, saved.card)
    np.testing.assert_allclose(saved.probabilities(table, rows), same.probabilities(table, rows), atol=1e-6)
    oracle = curve(table, rows, frontier(table, rows))
    area = areas(points, oracle, *fixed_range(table, rows))
    assert area["oracle"] >= area["router"] - 1e-12
    cost_quality(points, oracle, table.models, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_conditioned_sweep_is_one_run_a_seed_evaluated_at_every_alpha(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path
) -> None:

    def repeat(alphas: list[float]) -> tuple[list[SweepRun], list[int]]:
        progress, runs = RecordedProgress(), plan_runs(suite, EXACT, alphas, 2, tmp_path, conditioned=True)
        sweep(suite, cache, table, runs, SYNTHETIC, 1, progress)
        return runs, progress.finished

    runs, finished = repeat([0.0, 0.5, 1.0])
    assert finished == [0, 1, 2]
    names = [run_name(suite, run.config, run.seed) for run in runs]
    points = [point for point in cache.runs.sweep_points(names) if point.policy == "router"]
    assert [(point.alpha, point.seeds) for point in points] == [(0.0, 2), (0.5, 2), (1.0, 2)]
    rows = table.rows("test")
    for point in points:
        outcomes = [
            outcome(table, rows, path_shares(table, load_router(run.path).probabilities(table, rows, point.alpha)))
            for run in runs
        ]
        weights = benchmark_weights(table, rows)
        assert point.reward == pytest.approx(np.mean([weights @ router.reward(point.alpha) for router in outcomes]))
    assert [evaluation.alpha for evaluation in by_alpha(runs, table, SYNTHETIC)] == [0.0, 0.5, 1.0]
    assert repeat([0.0, 0.5, 1.0]) == (runs, [2])
    assert repeat([0.0, 0.5])[1] == [0, 1, 2]  # other alphas, another policy
    words = ["evaluate", str(runs[0].path), "--cache", str(cache.path), "--alpha", "0.25"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "alpha = 0.25" in result.output
    evaluated = cache.arrow("SELECT DISTINCT alpha FROM evaluations WHERE run = $run ORDER BY alpha", {"run": names[0]})
    assert evaluated["alpha"].to_pylist() == [0.0, 0.25, 0.5, 1.0]


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

    arguments = (suite, cache, table, plan_runs(suite, EXACT, [0.0, 0.5], 2, tmp_path), SYNTHETIC)
    with monkeypatch.context() as patched:
        patched.setattr("toolkit.store.runs.append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(*arguments)
    assert written[:3] == ["runs", "evaluations", "runs"]
    runs, evaluated = recorded()
    assert len(runs) == 1
    assert runs == evaluated
    progress = RecordedProgress()
    sweep(*arguments, progress=progress)
    assert progress.finished == [1, 2, 3, 4]
    runs, evaluated = recorded()
    assert len(runs) == 4
    assert runs == evaluated


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stopped_sweep_keeps_its_finished_runs(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path, processes: int
) -> None:
    progress = RecordedProgress(stop_at=2)
    sweep(suite, cache, table, plan_runs(suite, EXACT, [0.0, 0.5, 1.0], 2, tmp_path), SYNTHETIC, processes, progress)
    assert progress.finished == [0, 1, 2]
    assert cache.arrow("FROM runs").num_rows == cache.arrow("SELECT DISTINCT run FROM evaluations").num_rows == 2


def test_routers_that_take_only_one_path_have_collapsed(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path
) -> None:
    """A router that may stop abstains if every response costs too much; one that has hardly been trained does not."""
    long, short = ({"n_epochs": n, "batch_size": 4, "dropout": 0.0, "patience": 200} for n in (200, 1))
    runs = [
        run
        for alpha, settings in ((20.0, long), (0.0, short))
        for run in plan_runs(suite, TrainConfig(algorithm="exact", allow_stop=True, exact=settings), [alpha], 2, tmp_path)
    ]
    sweep(suite, cache, table, runs, SYNTHETIC)
    names = [run_name(suite, run.config, run.seed) for run in runs]
    assert collapses(cache, names) == [Collapse(20.0, "abstained", 2)]
    assert collapses(cache, names[2:]) == []


def test_automatic_alphas_are_where_the_frontier_bends(table: TransitionTable) -> None:
    rows = table.rows("train")
    bends = curve(table, rows, frontier(table, rows)).alphas
    alphas = auto_alphas(table, 8)
    assert alphas[0] == 0
    assert alphas == sorted(set(alphas))
    assert 2 <= len(alphas) <= 8
    assert all(np.isclose(alpha, bends, rtol=1e-3, atol=0).any() for alpha in alphas[1:])


def test_the_command_prints_a_row_per_alpha_and_writes_rows_for_programs(cache: Cache, tmp_path: Path) -> None:
    words = ["sweep", "scripted", "--cache", str(cache.path), "--alphas", "0,0.2", "--seeds", "2", "--processes", "1"]
    words += ["--set", "exact.n_epochs=2", "--runs-dir", str(tmp_path)]
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
    for text in ("alpha = 0.2", "word_reversal", "best path per benchmark", "Q / Q of sums", "of the oracle"):
        assert text in compared.output
    rows = json.loads(CliRunner().invoke(app, [*words, "--format", "json"]).stdout)
    greedy = CliRunner().invoke(app, [*words, "--greedy", "--by-benchmark"])
    assert greedy.exit_code == 0, greedy.output
    for row in rows:
        if row["policy"] in ("router", "router (greedy)"):
            line = [f"{row['alpha']:g}", *(f"{row[name]:.3f}" for name in ("quality", "cost", "reward"))]
            output = (greedy if row["policy"] == "router (greedy)" else shown).output
            assert any(printed.split()[:4] == line for printed in output.splitlines()), (line, output)
    assert {row["alpha"] for row in rows if row["policy"] == "router"} == {0.0, 0.2}
    assert cache.arrow("FROM runs").num_rows == 6


@pytest.mark.parametrize(
    ("words", "message"),
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
def test_mistakes_are_reported_with_the_remedy(words: list[str], message: str, cache: Cache, tmp_path: Path) -> None:
    where = ["--cache", str(cache.path), *(["--runs-dir", str(tmp_path)] if words[0] != "import" else [])]
    result = CliRunner().invoke(app, [*words, *where])
    assert isinstance(result.exception, ToolkitError)
    assert message in str(result.exception)
