"""`toolkit route`: questions from the command line, stdin, files and a conversation; routes as text and as rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.scripted import resolve_config, suite_config
from toolkit.cli.common import app
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig

SKY = "What is the colour of the sky?"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache of a suite whose models and features need nothing on this machine, and two runs."""
    folder = tmp_path_factory.mktemp("original")
    suite = resolve_config(suite_config(features={"encoder": "none"}), folder)
    cache = Cache(folder / "cache" / "scripted.duckdb")
    generate(suite, cache, Workspace(folder, folder))
    for settings in ({"alphas": (0.0, 0.5)}, {"alpha": 0.01}):
        config = TrainConfig.model_validate({"algorithm": "exact", "timesteps": 1000} | settings)
        train(suite, cache, config, 0, folder / "runs")
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOOLKIT_CACHE", raising=False)
    return tmp_path


def route(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["route", *arguments], input=stdin)


def test_each_hop_is_shown_and_asking_again_generates_nothing(folder: Path) -> None:
    first = route("scripted", SKY)
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert lines[0].startswith(("1. sums  [C ", "1. words  [C "))
    assert " tokens]  p 0." in lines[0]
    assert lines[1].startswith("   Answer: ")
    assert lines[2].startswith("2. ")
    assert "2 responses of 2 new, and cached now" in lines[-1]
    again = route("scripted", SKY)
    assert "all cached: nothing was generated" in again.stdout
    assert [line for line in again.stdout.splitlines() if "Answer" in line] == [line for line in lines if "Answer" in line]


def test_a_run_is_named_by_its_suite_its_name_its_folder_or_its_file(folder: Path) -> None:
    run = next(path for path in (folder / "runs").iterdir() if "alpha0.01" in path.name)
    names = ["scripted", run.name, f"runs/{run.name}", f"runs/{run.name}/router.safetensors"]
    shown = [route(name, SKY, "--format", "json") for name in names]
    assert [result.exit_code for result in shown] == [0] * 4, [result.output for result in shown]
    routes = [json.loads(result.stdout)[0] for result in shown]
    assert len({(tuple(row["path"]), row["response"]) for row in routes}) == 1


def test_questions_come_from_stdin_and_files(folder: Path) -> None:
    (folder / "some.txt").write_text(f"{SKY}\n\nAnd of the sea?\n", "utf-8")
    (folder / "some.jsonl").write_text(f'{json.dumps({"question": SKY})}\n"And\\nof the sea?"\n', "utf-8")
    [alone] = json.loads(route("scripted", "--format", "json", stdin=f"{SKY}\n").stdout)
    assert alone["question"] == SKY
    assert [hop["model"] for hop in alone["hops"]] == alone["path"]
    assert sum(alone["hops"][0]["probabilities"].values()) == pytest.approx(1)
    lines = json.loads(route("scripted", "--file", "some.txt", "--format", "json").stdout)
    assert [row["question"] for row in lines] == [SKY, "And of the sea?"]
    assert lines[0]["response"] == alone["response"]
    records = json.loads(route("scripted", "--file", "some.jsonl", "--format", "json").stdout)
    assert [row["question"] for row in records] == [SKY, "And\nof the sea?"]
    assert route("scripted", "--file", "some.txt").stdout.count("Path: ") == 2
    assert route("scripted", "--file", "some.txt", "--format", "csv", "--output", "out.csv").exit_code == 0
    assert (folder / "out.csv").read_text("utf-8").count(SKY) == 1


def test_a_conversation_asks_one_question_after_the_other(folder: Path) -> None:
    shown = route("scripted", "--interactive", stdin=f"{SKY}\n\nAnd of the sea?\n")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("Path: ") == 2


def test_a_conditioned_router_takes_an_alpha_and_others_do_not(folder: Path) -> None:
    conditioned = next(path.name for path in (folder / "runs").iterdir() if "2alphas" in path.name)
    rows = [json.loads(route(conditioned, SKY, "--alpha", alpha, "--format", "json").stdout)[0] for alpha in ("0", "0.5")]
    assert rows[0]["hops"][0]["probabilities"] != rows[1]["hops"][0]["probabilities"]
    refused = route("scripted", SKY, "--alpha", "0.5")
    assert refused.exception is not None
    assert "Leave --alpha out" in str(refused.exception)


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["scripted"], "", "no question, or an empty one"),
        (["scripted", " \n"], "", "no question, or an empty one"),
        (["scripted", SKY, "--interactive"], "", "one of them"),
        (["scripted", "--file", "absent.txt"], "", "cannot be read"),
        (["scripted", "--file", "bad.jsonl"], "", "bad.jsonl, line 2"),
        (["scripted", "--file", "empty.txt"], "", "no question"),
        (["scripted", "--interactive", "--format", "json"], "", "Leave --format"),
        (["nobody", SKY], "", "nobody"),
    ],
)
def test_mistakes_have_a_remedy(folder: Path, arguments: list[str], stdin: str, message: str) -> None:
    (folder / "bad.jsonl").write_text('"fine"\n{"text": 3}\n', "utf-8")
    (folder / "empty.txt").write_text("\n", "utf-8")
    result = route(*arguments, stdin=stdin)
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_a_model_that_does_not_respond_is_exit_code_3(folder: Path) -> None:
    long = "long " * 9000
    shown = route("scripted", long)
    assert shown.exit_code == 3
    assert "too long for model" in shown.stderr
    (folder / "some.txt").write_text(f"{SKY}\n{long}\n", "utf-8")
    rows = route("scripted", "--file", "some.txt", "--format", "json")
    assert rows.exit_code == 3
    first, second = json.loads(rows.stdout)
    assert first["response"]
    assert second["response"] is None
    assert "too long" in second["error"]
