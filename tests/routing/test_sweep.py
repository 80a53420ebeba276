from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from toolkit.cli import app
from toolkit.core.errors import SuiteError, ToolkitError, TrainingError
from toolkit.core.progress import NoProgress
from toolkit.replay.exact import benchmark_weights, most_probable, outcome, path_shares
from toolkit.replay.table import TransitionTable
from toolkit.routing.alphas import auto_alphas
from toolkit.routing.router import load_router
from toolkit.routing.sweep import (
    AffordableAlpha,
    Collapse,
    SweepRun,
    affordable_alpha,
    by_alpha,
    collapses,
    plan_runs,
    routers_by_alpha,
    sweep,
)
from toolkit.routing.sweep_metrics import points_of, policy_metrics
from toolkit.routing.swept import swept
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
    auto_alphas(table)  # fits predictors, which must not travel to the workers with the table

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
    result = swept(table, routers_by_alpha(plan_runs(suite, EXACT, [0.0, 0.5, 1.0], 2, tmp_path)), "test")
    router = [point for point in points_of(result) if point.policy == "router"]
    assert [point.alpha for point in router] == [0.0, 0.5, 1.0]
    assert all(point.seeds == 2 and point.regret >= -1e-12 for point in router)
    rows = table.rows("test")
    alone = fit_router(table, EXACT.changed({"alpha": 0.5}), 1)
    saved = next(load_router(tmp_path / name / "router.safetensors") for name in names if "alpha0.5-seed1" in name)
    same = type(saved)(alone, saved.card)
    np.testing.assert_allclose(saved.probabilities(table, rows), same.probabilities(table, rows), atol=1e-6)
    metrics = policy_metrics(result)
    assert metrics["oracle"].aiq.mean >= metrics["router"].aiq.mean - 1e-3


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
    routers = routers_by_alpha(runs)
    points = [point for point in points_of(swept(table, routers, "test")) if point.policy == "router"]
    assert [(point.alpha, point.seeds) for point in points] == [(0.0, 2), (0.5, 2), (1.0, 2)]
    rows = table.rows("test")
    for point in points:
        decisions = [most_probable(load_router(run.path).probabilities(table, rows, point.alpha)) for run in runs]
        outcomes = [outcome(table, rows, path_shares(table, greedy)) for greedy in decisions]
        weights = benchmark_weights(table, rows)
        rewards = [weights @ router.reward(point.alpha) for router in outcomes]
        assert point.reward.mean == pytest.approx(np.mean(rewards))
        assert point.reward_spread == pytest.approx(np.std(rewards, ddof=1))
    assert [evaluation.alpha for evaluation in by_alpha(routers, table, SYNTHETIC)] == [0.0, 0.5, 1.0]
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
    """A router that may stop abstains if every response costs too much, and not if responses are free."""
    arguments = {"n_epochs": 200, "batch_size": 4, "dropout": 0.0}
    config = TrainConfig(algorithm="exact", allow_stop=True, patience=0, exact=arguments)
    runs = [run for alpha in (20.0, 0.0) for run in plan_runs(suite, config, [alpha], 2, tmp_path)]
    sweep(suite, cache, table, runs, SYNTHETIC)
    names = [run_name(suite, run.config, run.seed) for run in runs]
    assert collapses(cache, names) == [Collapse(20.0, "abstained", 2)]
    assert collapses(cache, names[2:]) == []


def test_the_command_prints_a_row_per_alpha_and_writes_rows_for_programs(cache: Cache, tmp_path: Path) -> None:
    words = ["sweep", "scripted", "--cache", str(cache.path), "--alphas", "0,0.2", "--seeds", "2", "--processes", "1"]
    words += ["--set", "exact.n_epochs=2", "--runs-dir", str(tmp_path)]
    shown = CliRunner().invoke(app, [*words, "--figure", str(tmp_path / "plot.svg")])
    assert shown.exit_code == 0, shown.output
    assert "4 routers (exact)" in shown.output
    assert "micro Q" not in shown.output
    full = CliRunner().invoke(app, [*words, "--full"])
    for text in ("router's AIQ - this AIQ", "micro Q", "alpha = 0.2", "word_reversal"):
        assert text in full.output
    assert max(map(len, shown.output.splitlines())) <= 120
    assert (tmp_path / "plot.svg").exists()
    conditioned = CliRunner().invoke(app, [*words, "--conditioned"])
    assert conditioned.exit_code == 0, conditioned.output
    assert "2 routers (exact)" in conditioned.output
    compared = CliRunner().invoke(app, [*words, "--by-benchmark"])
    assert compared.exit_code == 0, compared.output
    for text in ("alpha = 0.2", "word_reversal", "best path per benchmark", "Q / Q of sums", "of the oracle", "Holm's"):
        assert text in compared.output
    sampled = CliRunner().invoke(app, [*words, "--sampled", "--by-benchmark"])
    assert sampled.exit_code == 0, sampled.output
    for policy, output, options in (("router", shown.output, []), ("router (sampled)", sampled.output, ["--sampled"])):
        rows = json.loads(CliRunner().invoke(app, [*words, *options, "--format", "json"]).stdout)
        router = [row for row in rows if row["policy"] == policy]
        assert [row["alpha"] for row in router] == [0.0, 0.2]
        for row in router:
            line = [f"{row['alpha']:g}", *(f"{row[name]:.3f}" for name in ("quality", "cost", "reward"))]
            # An alpha is marked where its routers have collapsed, or repeat the one before.
            lines = [[printed.split()[0].rstrip("*="), *printed.split()[1:4]] for printed in output.splitlines() if printed]
            assert line in lines, output
        assert {row["policy"] for row in rows} >= {"sums", "sums > words", "zero router (models)", "oracle"}
        assert {row["budget_choice"] for row in rows} == {None}
        assert all(row["aiq_low"] <= row["aiq"] <= row["aiq_high"] for row in router)
    assert cache.arrow("FROM runs").num_rows == 6


def test_the_alpha_within_a_budget_is_chosen_on_the_validation_split(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path
) -> None:
    runs = plan_runs(suite, EXACT, [0.0, 0.05, 0.5, 5.0], 2, tmp_path)
    sweep(suite, cache, table, runs, SYNTHETIC)
    routers = routers_by_alpha(runs)
    rows = table.rows("validation")
    weights, costs = benchmark_weights(table, rows), {}
    for alpha, group in routers.items():
        shares = [path_shares(table, most_probable(router.probabilities(table, rows))) for router in group]
        costs[alpha] = float(np.mean([weights @ outcome(table, rows, each).cost for each in shares]))
    for budget in (*costs.values(), max(costs.values()) + 1, 0.0):
        choice = affordable_alpha(routers, table, budget + 1e-9)
        affordable = {cost for cost in costs.values() if cost <= budget + 1e-9}
        if affordable:
            alpha = min(alpha for alpha, cost in costs.items() if cost == max(affordable))
            assert choice
            assert choice == AffordableAlpha(alpha, choice.validation_cost)
            assert choice.validation_cost == pytest.approx(max(affordable))
        else:
            assert choice is None


def test_the_command_reports_the_alpha_within_a_budget(cache: Cache, tmp_path: Path) -> None:
    words = ["sweep", "scripted", "--cache", str(cache.path), "--alphas", "0,5", "--seeds", "1", "--processes", "1"]
    words += ["--set", "exact.n_epochs=2", "--runs-dir", str(tmp_path)]
    shown = CliRunner().invoke(app, [*words, "--budget-cost", "100"])
    assert shown.exit_code == 0, shown.output
    (line,) = [line for line in shown.output.splitlines() if line.startswith("Within a mean cost of 100")]
    assert "chosen on the validation split" in line
    rows = json.loads(CliRunner().invoke(app, [*words, "--budget-cost", "100", "--format", "json"]).stdout)
    chosen = [row for row in rows if row["budget_choice"]]
    assert [row["policy"] for row in chosen] == ["router"]
    assert f"alpha {chosen[0]['alpha']:g}," in line
    none = CliRunner().invoke(app, [*words, "--budget-cost", "0"])
    assert "No alpha keeps a mean cost of 0" in none.output
    rows = json.loads(CliRunner().invoke(app, [*words, "--budget-cost", "0", "--format", "json"]).stdout)
    assert not any(row["budget_choice"] for row in rows if row["alpha"] is not None)


def test_prices_are_shown_where_a_suite_has_a_currency(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    words = ["sweep", "scripted", "--cache", str(cache.path), "--alphas", "0,5", "--seeds", "1", "--processes", "1"]
    words += ["--set", "exact.n_epochs=2", "--runs-dir", str(tmp_path), "--budget-cost", "100"]
    assert "USD" not in CliRunner().invoke(app, words).output
    priced = replace(suite, config=suite.config.model_copy(update={"currency": "USD"}))
    assert priced.key == suite.key
    cache.suites.record(priced)
    shown = CliRunner().invoke(app, [*words, "--full"])
    assert shown.exit_code == 0, shown.output
    assert {"USD/1,000", "arena"} <= set(shown.output.split())
    assert max(map(len, shown.output.splitlines())) <= 120
    rows = json.loads(CliRunner().invoke(app, [*words, "--format", "json"]).stdout)
    unit = cache.suites.cost_unit(suite.key)
    assert unit
    for row in rows:
        if row["alpha"] is not None:
            assert row["price"] == pytest.approx(1000 * unit * row["cost"])
            assert 0 <= row["arena_score"] <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "scripted", "--alphas", "0,x"], "finite numbers from 0 on"),
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


def fail_at(alphas: set[float], error: BaseException) -> Callable[..., object]:
    """Return a stand-in for `fit_router` that fails at some alphas; there, `SystemExit` ends the whole process."""

    def fit(table: TransitionTable, config: TrainConfig, seed: int, *further: Any) -> object:
        if config.alpha in alphas:
            if isinstance(error, SystemExit):
                os._exit(1)
            raise error
        return fit_router(table, config, seed, *further)

    return fit


def recorded_alphas(cache: Cache) -> list[float]:
    alphas: list[float] = cache.arrow("SELECT alpha FROM runs ORDER BY alpha")["alpha"].to_pylist()
    return alphas


@pytest.mark.parametrize(
    "error", [RuntimeError("no\ntraceback"), MemoryError(), FloatingPointError("nan."), OSError(28, "full")]
)
def test_a_run_that_fails_is_named_and_all_others_are_kept(
    error: Exception, suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan_runs(suite, EXACT, [0.0, 0.5, 1.0], 1, tmp_path / "runs")
    with monkeypatch.context() as patched:
        patched.setattr("toolkit.routing.sweep.fit_router", fail_at({0.0, 1.0}, error))
        with pytest.raises(TrainingError) as raised:
            sweep(suite, cache, table, runs, SYNTHETIC)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("2 of 3 routers could not be trained: ")
    for text in (type(error).__name__, "alpha0-seed0", "alpha1-seed0", "All others are recorded"):
        assert text in message
    assert recorded_alphas(cache) == [0.5]
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == [runs[1].path.parent.name]
    progress = RecordedProgress()
    sweep(suite, cache, table, runs, SYNTHETIC, progress=progress)
    assert progress.finished == [1, 2, 3]
    assert recorded_alphas(cache) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("error", [RuntimeError("in a worker"), SystemExit()])
def test_a_worker_that_fails_or_is_killed_ends_in_one_paragraph(
    error: BaseException, suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forked workers inherit the stand-in."""
    monkeypatch.setattr("toolkit.routing.sweep.fit_router", fail_at({1.0}, error))
    monkeypatch.setattr("toolkit.routing.sweep.worker_context", lambda: multiprocessing.get_context("fork"))
    runs = plan_runs(suite, EXACT, [0.0, 0.5, 1.0], 1, tmp_path)
    with pytest.raises(TrainingError, match=r"could not be trained: .*alpha1-seed0") as raised:
        sweep(suite, cache, table, runs, SYNTHETIC, processes=2)
    if isinstance(error, SystemExit):
        assert "no memory left: --processes 1 needs less" in str(raised.value)
    else:
        assert "RuntimeError: in a worker." in str(raised.value)
        assert recorded_alphas(cache) == [0.0, 0.5]
    monkeypatch.undo()
    sweep(suite, cache, table, runs, SYNTHETIC)
    assert recorded_alphas(cache) == [0.0, 0.5, 1.0]


def test_a_setting_that_no_run_accepts_ends_the_sweep_at_once(
    suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path
) -> None:
    config = EXACT.changed({"exact": {"n_epoch": 3}})
    progress = RecordedProgress()
    with pytest.raises(SuiteError, match="n_epoch"):
        sweep(suite, cache, table, plan_runs(suite, config, [0.0, 1.0], 2, tmp_path / "runs"), SYNTHETIC, progress=progress)
    assert progress.finished == [0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--alphas", "nan"], "finite numbers from 0 on"),
        (["--alphas", "0,-0.1"], "finite numbers from 0 on"),
        (["--alphas", ""], "finite numbers from 0 on"),
        (["--alphas", ",".join(map(str, range(2000)))], "at most 1000"),
        (["--algorithm", "sarsa"], "no algorithm 'sarsa'"),
        (["--algorithm", "os.path"], "'os.path' is a module"),
        (["--runs-dir", "FOLDER/file"], "--runs-dir"),
        (["--runs-dir", "FOLDER/file/runs"], "--runs-dir"),
        (["--figure", "FOLDER/nowhere/a.png"], "mkdir -p"),
        (["--figure", "FOLDER/a.foo"], "known format"),
        (["--figure", "FOLDER"], "known format"),
        (["--figure", "FOLDER/notes.png"], "not a png picture"),
        (["--output", "FOLDER"], "is a folder"),
        (["--output", "FOLDER/nowhere/a.csv"], "mkdir -p"),
        (["--output", "FOLDER/scripted.duckdb"], "a cache"),
        (["--output", "FOLDER/a.png", "--figure", "FOLDER/a.png"], "Name two files"),
        (["--set", "exact"], "--set takes NAME=VALUE"),
        (["--set", "alpha=-1"], "train.alpha"),
        (["--set", "exact.n_epoch=3"], "n_epoch"),
        (["--holdout", "nothing"], "no benchmark 'nothing'"),
    ],
)
def test_the_command_checks_its_options_before_it_trains(
    words: list[str], message: str, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn(*arguments: object, **options: object) -> None:
        pytest.fail("a router was trained")

    monkeypatch.setattr("toolkit.routing.exact_gradient.ExactGradient.learn", learn)
    (tmp_path / "file").touch()
    (tmp_path / "notes.png").write_text("my notes")
    names = {file.name for file in tmp_path.iterdir()}
    words = [word.replace("FOLDER", str(tmp_path)) for word in words]
    fixed = ["sweep", "scripted", "--cache", str(cache.path), "--processes", "1", "--seeds", "1"]
    if "--runs-dir" not in words:
        fixed += ["--runs-dir", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, [*fixed, *words])
    assert isinstance(result.exception, ToolkitError), result.output
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert {file.name for file in tmp_path.iterdir()} == names


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_questions_is_reported_before_training(
    split: str, cache: Cache, table: TransitionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holding out the only benchmark leaves nothing to train on."""
    emptied = replace(table, split=np.where(table.split == split, "validation", table.split))
    monkeypatch.setattr("toolkit.replay.table.load_table", lambda *_: emptied)
    words = ["sweep", "scripted", "--cache", str(cache.path), "--runs-dir", str(tmp_path / "runs"), "--processes", "1"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SuiteError)
    assert f"The {split} split of suite scripted has no questions" in str(result.exception)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seeds", ["0", "-1", "1001", "many"])
def test_seeds_are_a_number_in_range(seeds: str, cache: Cache) -> None:
    assert CliRunner().invoke(app, ["sweep", "scripted", "--cache", str(cache.path), "--seeds", seeds]).exit_code == 2


def test_a_sweep_logs_every_router_for_tensorboard(suite: Suite, cache: Cache, table: TransitionTable, tmp_path: Path) -> None:
    runs = plan_runs(suite, EXACT, [0.0, 0.5], 1, tmp_path)
    sweep(suite, cache, table, runs, SYNTHETIC)
    for run in runs:
        (events,) = (run.path.parent / "tensorboard").rglob("events.out.tfevents.*")
        assert b"train/value" in events.read_bytes()
        assert b"validation/reward" in events.read_bytes()
