"""`toolkit evaluate` finds a router by suite, run, folder or file, wherever its files have been moved."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest
from stable_baselines3 import PPO
from typer.testing import CliRunner, Result

from toolkit.cli.common import app
from toolkit.core.errors import PolicyError, ToolkitError
from toolkit.routing.router import load_router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

CONFIG = TrainConfig(algorithm="exact", exact={"n_epochs": 1})


def toolkit(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def refusal(*words: str | Path) -> str:
    """Return the message of a command that is refused."""
    error = toolkit(*words).exception
    assert isinstance(error, ToolkitError), error
    return str(error)


@pytest.fixture
def pair(whole: Path, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `cache/` and `runs/`, in which one router has been trained; it is the current folder."""
    folder = tmp_path / "pair"
    (folder / "cache").mkdir(parents=True)
    shutil.copy(whole, folder / "cache/scripted.duckdb")
    monkeypatch.delenv("TOOLKIT_CACHE", raising=False)
    monkeypatch.chdir(folder)
    train(suite, Cache(Path("cache/scripted.duckdb")), CONFIG, 0, Path("runs"))
    return folder


def run_of(folder: Path) -> Path:
    (run,) = (folder / "runs").glob("scripted-exact-*-seed0-*")
    return run


def test_a_run_is_found_by_suite_name_folder_and_file(pair: Path) -> None:
    run = run_of(pair)
    for target in ("scripted", run.name, f"runs/{run.name}", run, run / "router.safetensors"):
        result = toolkit("evaluate", target)
        assert result.exit_code == 0, (target, result.exception)
        assert f"Run {run.name}, test split" in result.output
        assert not result.stderr


@pytest.mark.parametrize("link", [False, True])
def test_a_moved_pair_just_works(link: bool, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, moved = run_of(pair).name, tmp_path / "elsewhere/moved"
    moved.parent.mkdir()
    pair.rename(moved)
    if link:
        (moved / "cache").rename(tmp_path / "elsewhere/cache")
        (moved / "runs").rename(tmp_path / "elsewhere/runs")
        (moved / "cache").symlink_to(tmp_path / "elsewhere/cache")
    monkeypatch.chdir(moved)
    assert toolkit("evaluate", "scripted").exit_code == 0
    assert toolkit("evaluate", name).exit_code == 0
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    assert toolkit("evaluate", "scripted", "--cache", moved / "cache/scripted.duckdb").exit_code == 0
    if not link:
        assert toolkit("evaluate", moved / "runs" / name).exit_code == 0


def test_runs_that_moved_alone_are_found_with_their_folder(pair: Path, tmp_path: Path) -> None:
    (pair / "runs").rename(tmp_path / "routers")
    message = refusal("evaluate", "scripted")
    assert all(part in message for part in ("is not there", str(pair / "runs"), "--runs-dir FOLDER", "toolkit train scripted"))
    assert toolkit("evaluate", "scripted", "--runs-dir", tmp_path / "routers").exit_code == 0


def test_another_file_at_the_recorded_place_is_not_taken_for_the_router(pair: Path, suite: Suite) -> None:
    run = run_of(pair)
    cache = Cache(Path("cache/scripted.duckdb"))
    other = train(suite, cache, CONFIG, 1, pair / "others")
    shutil.copy(other.path, run / "router.safetensors")
    message = refusal("evaluate", run.name)
    assert "has changed since it was recorded" in message
    command = shlex.split(message.partition("as it is: toolkit ")[2])
    assert toolkit(*command).exit_code == 0


def test_runs_that_cannot_be_opened_do_not_block_the_others(pair: Path, suite: Suite) -> None:
    """The newest has no file, the next needs a class that is not installed; both are named, and why."""
    cache = Cache(Path("cache/scripted.duckdb"))
    trained = {seed: train(suite, cache, CONFIG, seed, pair / "runs") for seed in (1, 2, 3)}
    os.remove(trained[3].path)
    router = load_router(trained[2].path)
    router.card["algorithm"] = "not_installed.MyPPO"
    router.card["settings"]["sb3"] = {}
    from toolkit.core.files import content_sha256
    from toolkit.routing.architecture import Architecture
    from toolkit.routing.router_file import write_router

    card = router.card | {"architecture": Architecture.of(router.algorithm.policy).model_dump(mode="json")}
    write_router(trained[2].path, router.algorithm.policy.state_dict(), card)
    with cache.write() as con:
        con.execute("UPDATE runs SET policy_sha256 = ? WHERE run = ?", [content_sha256(trained[2].path), trained[2].run])
    result = toolkit("evaluate", "scripted")
    assert result.exit_code == 0
    assert f"Run {trained[1].run}" in result.output
    assert f"Skipped {trained[3].run}: The file of run" in result.stderr
    assert f"Skipped {trained[2].run}: " in result.stderr
    assert "'not_installed.MyPPO', which is neither registered" in result.stderr
    assert f"Using {trained[1].run}, the newest of 2 runs that can be opened; others: " in result.stderr
    assert run_of(pair).name in result.stderr
    assert "No module named 'not_installed'" in refusal("evaluate", trained[2].path, "--trust")


def test_of_runs_that_cannot_be_opened_the_newest_is_explained(pair: Path, suite: Suite) -> None:
    trained = train(suite, Cache(Path("cache/scripted.duckdb")), CONFIG, 1, pair / "runs")
    shutil.rmtree(pair / "runs")
    message = refusal("evaluate", "scripted")
    assert "None of the 2 runs" in message
    assert trained.run in message


def test_a_run_that_two_caches_have_is_asked_for_with_its_cache(pair: Path) -> None:
    name = run_of(pair).name
    shutil.copy("cache/scripted.duckdb", "cache/copy.duckdb")
    assert "Several caches have a run" in refusal("evaluate", name)
    for cache in ("cache/copy.duckdb", "cache/scripted.duckdb"):
        assert toolkit("evaluate", name, "--cache", cache).exit_code == 0
        assert toolkit("evaluate", "scripted", "--cache", cache).exit_code == 0


def test_what_is_neither_suite_run_nor_file_is_refused(pair: Path) -> None:
    (pair / "cache/foreign.duckdb").write_text("not a cache")
    assert "did you mean 'scripted'?" in refusal("evaluate", "scriptd")
    assert "did you mean 'scripted'?" in refusal("evaluate", "scriptd", "--cache", "cache/scripted.duckdb")
    assert "holds no router.safetensors" in refusal("evaluate", "runs/")
    assert "There is no policy file" in refusal("evaluate", "runs/none")
    os.mkfifo("pipe")
    assert "pipe or socket" in refusal("evaluate", "pipe")


def test_a_zip_is_opened_by_the_command_that_the_refusal_prints(pair: Path, suite: Suite) -> None:
    cache = pair / "the cache.duckdb"
    shutil.move("cache/scripted.duckdb", cache)
    assert toolkit("train", "scripted", "--cache", cache, "--algorithm", "EXACT", "--sb3-zip").exit_code == 0
    (path,) = (pair / "runs").glob("*/sb3.zip")
    os.remove(path.with_name("router.safetensors"))
    for target in (path, path.parent):
        message = refusal("evaluate", target, "--cache", cache)
        command = shlex.split(message.partition("or: toolkit ")[2])
        assert command[-2:] == ["--cache", str(cache)]
        assert toolkit(*command).exit_code == 0


def test_a_plain_model_is_told_what_it_is(pair: Path) -> None:
    PPO("MlpPolicy", "CartPole-v1", device="cpu").save("plain.zip")
    for words in (["evaluate", "plain.zip"], ["evaluate", "plain.zip", "--trust"]):
        assert "toolkit train SUITE --algorithm NAME" in refusal(*words)
    assert "is a file, and not the name of an algorithm" in refusal("train", "scripted", "--algorithm", "plain.zip")


@pytest.mark.parametrize(
    "options",
    [
        ["--alpha", "nan"],
        ["--alpha", "inf"],
        ["--overhead-rate", "nan"],
        ["--output", "nowhere/o.csv"],
        ["--output", "cache"],
        ["--split", "tests"],
        ["--alpha", "-1"],
        ["--alpha", "abc"],
    ],
)
def test_options_are_checked_before_the_router_is_opened(
    options: list[str], pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("toolkit.cli.evaluate.open_router", fail)
    result = toolkit("evaluate", "scripted", *options)
    assert result.exit_code == 2 or isinstance(result.exception, ToolkitError)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--algorithm", "sklearn.svm.SVC"], "does not learn like"),
        (["--holdout", "none"], "no benchmark 'none'"),
        (["--set", "ppo.batch_size=abc"], "whole number"),
        (["--set", "ppo.learning_rate=1e30", "--timesteps", "4000"], "Training with ppo has"),
        (["--runs-dir", "cache/scripted.duckdb"], "--runs-dir"),
    ],
)
def test_training_that_is_refused_or_fails_prints_nothing_else_and_leaves_nothing(
    options: list[str], fragment: str, pair: Path
) -> None:
    before = sorted(pair.rglob("*"))
    result = toolkit("train", "scripted", *options)
    assert isinstance(result.exception, ToolkitError)
    assert fragment in str(result.exception)
    assert "\n\n" not in result.output
    assert not result.output.startswith("\n")
    assert sorted(pair.rglob("*")) == before


def test_train_prints_the_command_that_evaluates(pair: Path) -> None:
    (pair / "mine.py").write_text("from stable_baselines3 import A2C\n\n\nclass Learner(A2C):\n    pass\n")
    for algorithm in ("ppo", "mine.Learner"):
        result = toolkit("train", "scripted", "--algorithm", algorithm, "--timesteps", "64", "--set", "n_envs=4")
        assert result.exit_code == 0, result.exception
        command = shlex.split(result.output.rpartition("Next: toolkit ")[2])
        assert ("--trust" in command) == (algorithm == "mine.Learner")
        assert toolkit(*command).exit_code == 0


def test_a_router_of_a_superseded_suite_is_not_evaluated_on_another_pool(pair: Path) -> None:
    router = load_router(run_of(pair))
    with pytest.raises(PolicyError, match="trained for the pool"):
        router.check_pool(["sums"], 2)
