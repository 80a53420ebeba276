"""`toolkit runs` lists, shows, compares and deletes runs, by names that can be typed; `toolkit train --name` gives them."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from toolkit.cli.common import app
from toolkit.core.errors import ToolkitError
from toolkit.replay.table import TransitionTable, load_table
from toolkit.routing.paired import compare_routers
from toolkit.routing.policies import ROUTER, router_policies
from toolkit.routing.router import load_router
from toolkit.routing.run_settings import as_options, settings_that_differ
from toolkit.store import Cache
from toolkit.store.runs import short_name
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

FAST = ("--algorithm", "exact", "--set", "exact.n_epochs=1")


def toolkit(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def succeeds(*words: str | Path) -> str:
    """Return what a command prints, notes included."""
    result = toolkit(*words)
    assert result.exit_code == 0, (words, result.exception, result.output)
    return result.output


def refusal(*words: str | Path) -> str:
    error = toolkit(*words).exception
    assert isinstance(error, ToolkitError), error
    return str(error)


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a cache in which two routers have been trained: `first`, and one without a given name."""
    (tmp_path / "cache").mkdir()
    shutil.copy(whole, tmp_path / "cache/scripted.duckdb")
    monkeypatch.delenv("TOOLKIT_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert "is called first" in succeeds("train", "scripted", *FAST, "--name", "first")
    succeeds("train", "scripted", *FAST, "--seed", "1")
    return tmp_path


def cache() -> Cache:
    return Cache(Path("cache/scripted.duckdb"))


def second() -> str:
    (run,) = [name for name in cache().runs.names() if name != "first"]
    return run


def test_runs_are_listed_newest_first_with_names_that_commands_take(folder: Path) -> None:
    succeeds("evaluate", "first")
    listed = succeeds("runs")
    assert listed == succeeds("runs", "list")
    lines = [line.split() for line in listed.splitlines()[2:4]]
    assert [line[0] for line in lines] == [short_name(second()), "first"]
    assert max(map(cell_len, listed.splitlines())) <= 120
    rows = json.loads(succeeds("runs", "list", "--format", "json"))
    named = next(row for row in rows if row["name"] == "first")
    assert f"{named['reward']:.3f}" in listed
    reward = (
        cache()
        .arrow("SELECT reward FROM evaluations WHERE policy = 'router' AND benchmark = 'overall' AND split = 'test'")
        .to_pylist()
    )
    assert reward == [{"reward": named["reward"]}]
    for name in ("first", short_name(second()), second()):
        assert succeeds("runs", "show", name).startswith("run ")
        assert "test split" in succeeds("evaluate", name)


def test_a_list_fits_however_long_the_settings_are(folder: Path) -> None:
    succeeds("train", "scripted", *FAST, "--set", "exact.learning_rate=0.00123456", "--set", "net_arch=[64,64,64]", "--holdout",
             "geography", "--set", "projection=3", "--name", "x" * 32)  # fmt: skip
    listed = succeeds("runs")
    assert "x" * 32 in listed
    assert max(map(cell_len, listed.splitlines())) <= 120


def test_equal_settings_are_not_trained_twice_and_the_run_is_named(folder: Path) -> None:
    again = succeeds("train", "scripted", *FAST, "--name", "other")
    assert "Already trained with the same settings, as first" in again
    [row] = json.loads(succeeds("train", "scripted", *FAST, "--format", "json"))
    assert (row["name"], row["trained_now"], row["steps"]) == ("other", False, 0)
    assert Path(row["path"]).is_file()
    assert len(cache().runs.names()) == 2
    assert cache().runs.get("first") is None
    forced = succeeds("train", "scripted", *FAST, "--force")
    assert "Trained" in forced
    assert "other" in cache().runs.names()  # the name stays with the run


def test_a_name_that_two_runs_have_after_an_import_is_not_guessed(folder: Path) -> None:
    cache().runs.rename(second(), "first")
    message = refusal("evaluate", "first")
    runs = [row["run"] for row in cache().arrow("SELECT run FROM runs").to_pylist()]
    assert all(run in message for run in runs)
    for run in runs:
        assert f"Run {run}, test split" in succeeds("evaluate", run)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("first", "already called 'first'"),
        ("scripted", "name of a suite"),
        ("quickstart", "name of a suite"),
        ("0123abcd", "hash of a run"),
        ("a.toml", "hash of a run"),
        ("a/b", "at most 32"),
        ("", "at most 32"),
        ("x" * 33, "at most 32"),
    ],
)
def test_names_that_are_taken_or_mean_something_else_are_refused_before_training(name: str, reason: str, folder: Path) -> None:
    before = cache().runs.names(), sorted(folder.rglob("*"))
    assert reason in refusal("train", "scripted", *FAST, "--seed", "7", "--name", name)
    assert (cache().runs.names(), sorted(folder.rglob("*"))) == before


def test_two_runs_are_compared_on_the_same_questions(folder: Path, suite: Suite) -> None:
    rows = json.loads(succeeds("runs", "compare", "first", second(), "--format", "json"))
    table = load_table(cache(), suite)
    routers = [load_router(next(Path("runs").glob(f"*seed{seed}*"))) for seed in (0, 1)]
    recomputed = differences(table, routers[0], routers[1])
    for row in rows:
        assert [row["quality"], row["cost"], row["reward"]] == pytest.approx(recomputed[row["benchmark"]])
        assert row["reward_low"] <= row["reward"] + 1e-9
        assert row["reward"] <= row["reward_high"] + 1e-9
    back = json.loads(succeeds("runs", "compare", second(), "first", "--format", "json"))
    assert [row["reward"] for row in back] == pytest.approx([-row["reward"] for row in rows])
    text = succeeds("runs", "compare", "first", second())
    assert max(map(cell_len, text.splitlines())) <= 120


def differences(table: TransitionTable, first: object, other: object) -> dict[str, list[float]]:
    """Return mean differences of Q, C and R by benchmark and on average, by plain means."""
    rows = table.rows("test")
    outcomes = [
        router_policies(table, rows, [router.probabilities(table, rows, 0.05)])[ROUTER].outcome  # type: ignore[attr-defined]
        for router in (first, other)
    ]
    quality = outcomes[0].quality - outcomes[1].quality
    cost = outcomes[0].cost - outcomes[1].cost
    values = np.stack([quality, cost, quality - 0.05 * cost])
    benchmark = table.benchmark[rows]
    means = {table.benchmarks[n]: values[:, benchmark == n].mean(1) for n in np.unique(benchmark)}
    means["overall"], means["overall (questions)"] = np.mean(list(means.values()), axis=0), values.mean(1)
    return {name: mean.tolist() for name, mean in means.items()}


def test_a_router_compared_with_itself_differs_nowhere(folder: Path, suite: Suite) -> None:
    router = load_router(next(Path("runs").glob("*seed0*")))
    for difference in compare_routers(load_table(cache(), suite), router, router, "test", 0.05):
        assert difference.reward.mean == difference.quality.mean == 0
        assert difference.same_paths == pytest.approx(1)


def test_runs_of_different_alphas_or_splits_are_refused_with_a_remedy_that_works(folder: Path) -> None:
    succeeds("train", "scripted", *FAST, "--alpha", "0.5", "--name", "dear")
    message = refusal("runs", "compare", "first", "dear")
    assert "different alphas (0.05 and 0.5)" in message
    command = shlex.split(message.partition("compare both: toolkit ")[2])
    assert "at alpha = 0.05" in succeeds(*command)
    succeeds("train", "scripted", *FAST, "--holdout", "geography", "--name", "held")
    assert "hold out different benchmarks" in refusal("runs", "compare", "first", "held")
    assert "Both names mean" in refusal("runs", "compare", "first", "first")
    assert "did you mean 'first'?" in refusal("runs", "show", "frist")


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--dry-run", "--yes"]])
def test_nothing_is_deleted_without_yes(options: list[str], folder: Path) -> None:
    before = sorted(folder.rglob("*")), cache().runs.names()
    assert "nothing was changed" in succeeds("runs", "delete", "first", *options)
    assert (sorted(folder.rglob("*")), cache().runs.names()) == before


def test_deleting_a_run_leaves_everything_else(folder: Path) -> None:
    succeeds("evaluate", "first")
    succeeds("evaluate", second())
    deleted, other = cache().runs.get("first"), second()
    assert deleted
    before = cache().arrow("SELECT (SELECT count(*) FROM nodes) AS nodes, (SELECT count(*) FROM generations) AS g").to_pylist()
    kept = {path: path.read_bytes() for path in (folder / "runs" / other).rglob("*") if path.is_file()}
    (folder / "runs" / deleted.run / "my notes.txt").write_text("mine")
    succeeds("runs", "delete", "first", "--yes")
    assert [path.name for path in (folder / "runs" / deleted.run).iterdir()] == ["my notes.txt"]
    assert cache().runs.names() == [other]
    for table in ("evaluations", "decisions"):
        assert cache().arrow(f"SELECT DISTINCT run FROM {table}").to_pylist() == [{"run": other}]
    assert (
        cache().arrow("SELECT (SELECT count(*) FROM nodes) AS nodes, (SELECT count(*) FROM generations) AS g").to_pylist()
        == before
    )
    assert {path: path.read_bytes() for path in (folder / "runs" / other).rglob("*") if path.is_file()} == kept
    succeeds("runs", "delete", short_name(other), "--yes")
    assert not (folder / "runs" / other).exists()
    assert "no runs yet" in succeeds("runs")


def test_a_folder_that_is_not_the_run_s_is_not_deleted(folder: Path) -> None:
    run = cache().runs.get("first")
    assert run
    file = folder / "runs" / run.run / "router.safetensors"
    file.write_bytes(b"another training")
    assert "not found" in succeeds("runs", "delete", "first")
    succeeds("runs", "delete", "first", "--yes")
    assert file.read_bytes() == b"another training"


def test_settings_that_tell_runs_apart_are_those_that_are_rare_or_not_the_default() -> None:
    default = TrainConfig().model_dump(mode="json") | {"exact": {"learning_rate": 0.01}, "algorithm": "exact"}
    changed = default | {"exact": {"learning_rate": 0.5}}
    longer = default | {"timesteps": 7, "name": "mine"}
    differing = settings_that_differ([default, default, changed, longer])
    assert differing == [{}, {}, {"exact.learning_rate": 0.5}, {"timesteps": 7}]
    assert as_options(differing[2] | {"holdout": "geography"}) == "exact.learning_rate=0.5 holdout=geography"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("toolkit evaluate fi", ["first"]),
        ("toolkit runs show fi", ["first"]),
        ("toolkit runs compare first fi", ["first"]),
        ("toolkit train script", ["scripted"]),
        ("toolkit sweep quick", ["quickstart"]),
        ("toolkit run", ["runs"]),
    ],
)
def test_a_shell_completes_names_of_runs_and_suites(words: str, expected: list[str], folder: Path) -> None:
    (folder / "cache/foreign.duckdb").write_text("not a cache")
    environment = {"_TOOLKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    completed = CliRunner().invoke(app, [], prog_name="toolkit", env=environment)
    assert completed.output.split() == expected


def test_quiet_shows_results_and_errors_alone(folder: Path) -> None:
    loud, quiet = (toolkit(*options, "evaluate", "scripted") for options in ([], ["-q"]))
    assert "the newest of 2 runs" in loud.stderr
    assert quiet.stderr == ""
    assert quiet.stdout == loud.stdout
    assert "contradict each other" in toolkit("-q", "-v", "runs", "list").output
    verbose = toolkit("-v", "runs", "list")
    assert verbose.exit_code == 0
    assert logging.getLogger("toolkit").level == logging.DEBUG
    succeeds("runs")
    assert logging.getLogger("toolkit").level == logging.INFO
