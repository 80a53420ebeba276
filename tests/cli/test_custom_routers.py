"""Routers that the toolkit has not trained: a class, a function, a table of decisions, and baselines alone."""

from __future__ import annotations

import json
import math
import shlex
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from toolkit.cli.common import app
from toolkit.core.errors import ToolkitError
from toolkit.core.files import content_sha256
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

READER = '''
class Reader:
    """Repeats the right model, and asks the other one if the response is of no use."""

    def fit(self, table, alpha):
        assert set(table.split) == {"train", "validation"}
        assert alpha == 0.3

    def decide(self, observation):
        assert observation.hop == len(observation.path) == len(observation.responses) < observation.horizon == 2
        assert observation.alpha == 0.3
        assert observation.models == ("sums", "words")
        assert (observation.cost > 0) == (observation.response_embedding.any()) == bool(observation.hop)
        assert observation.question_embedding.shape == (8,)
        if not observation.hop:
            return 0 if "What is" in observation.question else "sums" if len(observation.question) % 2 else "words"
        helpless = "no idea" in observation.responses[-1]
        return (observation.models.index(observation.path[-1]) + helpless) % 2


def stopping(observation):
    if "words" in observation.question:
        return None if observation.hop else "words"
    return "stop" if not observation.hop and "What is" not in observation.question else "sums"


def first(observation):
    return "sums"
'''
Tree = dict[tuple[str, ...], dict[str, Any]]


def reader(prompt: str, tree: Tree) -> tuple[str, ...]:
    """Return the path that `Reader` takes in a tree."""
    first = "sums" if "What is" in prompt or len(prompt) % 2 else "words"
    other = {"sums": "words", "words": "sums"}[first]
    return (first, other if "no idea" in tree[first,]["response"] else first)


def stopping(prompt: str, tree: Tree) -> tuple[str, ...]:
    """Return the path that `stopping` takes."""
    return ("words",) if "words" in prompt else ("sums", "sums") if "What is" in prompt else ()


@pytest.fixture
def folder(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a router's file, which is the current one."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_router.py").write_text(READER)
    monkeypatch.chdir(folder)
    return folder


def evaluate(cache: Cache, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words), "--cache", str(cache.path)])


def refusal(cache: Cache, *words: str | Path) -> str:
    """Return the message of a command that is refused."""
    error = evaluate(cache, *words).exception
    assert isinstance(error, ToolkitError), error
    assert "Traceback" not in str(error)
    return str(error)


def trees(cache: Cache, split: str = "test") -> dict[str, tuple[str, str, Tree]]:
    """Return benchmark, prompt and nodes of every question of a split."""
    nodes: dict[str, Tree] = defaultdict(dict)
    questions = {}
    for row in cache.arrow(f"SELECT * FROM transitions WHERE suite = 'scripted' AND split = '{split}'").to_pylist():
        nodes[row["question"]][tuple(row["path"])] = row
        questions[row["question"]] = row["benchmark"], row["question_prompt"]
    return {question: (*questions[question], tree) for question, tree in nodes.items()}


def rewards(cache: Cache, walk: Callable[[str, Tree], tuple[str, ...]], alpha: float) -> dict[str, float]:
    """Return the mean reward of a router by benchmark and overall, by walking every tree."""
    by_benchmark = defaultdict(list)
    for benchmark, prompt, tree in trees(cache).values():
        path = walk(prompt, tree)
        cost = math.fsum(tree[path[:depth]]["cost"] for depth in range(1, len(path) + 1))
        by_benchmark[benchmark].append((tree[path]["quality"] if path else 0.0) - alpha * cost)
    means = {name: math.fsum(values) / len(values) for name, values in by_benchmark.items()}
    return means | {"overall": math.fsum(means.values()) / len(means)}


def recorded_rewards(cache: Cache, algorithm: str, policy: str = "router") -> dict[str, float]:
    rows = cache.arrow(
        "SELECT benchmark, reward FROM evaluations AS e JOIN runs USING (run)"
        " WHERE algorithm = $algorithm AND e.policy = $policy AND benchmark <> 'overall (questions)'",
        {"algorithm": algorithm, "policy": policy},
    ).to_pylist()
    return {row["benchmark"]: row["reward"] for row in rows}


def test_a_class_and_a_function_score_what_walking_the_trees_gives(cache: Cache, folder: Path) -> None:
    words = ["scripted", "--router", "my_router.py:Reader", "--router", "my_router.py:first", "--alpha", "0.3"]
    result = evaluate(cache, *words)
    assert result.exit_code == 0, result.exception
    assert "my_router.py:first" in result.output
    assert recorded_rewards(cache, "my_router.py:Reader") == pytest.approx(rewards(cache, reader, 0.3))
    first = rewards(cache, lambda prompt, tree: ("sums", "sums"), 0.3)
    assert recorded_rewards(cache, "my_router.py:first") == pytest.approx(first)
    assert recorded_rewards(cache, "my_router.py:Reader", "my_router.py:first") == pytest.approx(first)
    [run] = cache.arrow("FROM runs WHERE algorithm = 'my_router.py:Reader'").to_pylist()
    assert run["policy"] == str(folder / "my_router.py")
    assert run["policy_sha256"] == content_sha256(folder / "my_router.py")
    assert (run["seed"], run["alpha"]) == (None, 0.3)
    assert json.loads(run["config"])["alpha"] == 0.3
    routes = {
        row["question"]: tuple(row["path"]) for row in cache.arrow("FROM routes WHERE run = $r", {"r": run["run"]}).to_pylist()
    }
    assert routes == {question: reader(prompt, tree) for question, (_, prompt, tree) in trees(cache).items()}
    decided = cache.arrow("SELECT node, sum(probability) AS n FROM decisions WHERE run = $r GROUP BY ALL", {"r": run["run"]})
    assert decided["n"].to_pylist() == [1.0] * 2 * len(routes)


def test_an_evaluation_that_is_repeated_replaces_the_former(cache: Cache, folder: Path) -> None:
    words = ["scripted", "--router", "my_router.py:first"]
    for split in ("test", "validation", "test"):
        assert evaluate(cache, *words, "--split", split).exit_code == 0
    assert cache.arrow("FROM runs").num_rows == 1
    counts = "SELECT split, count(*) AS n, count(DISTINCT (policy, benchmark)) AS different FROM evaluations GROUP BY split"
    assert {row["split"]: row["n"] == row["different"] for row in cache.arrow(counts).to_pylist()} == {
        "test": True,
        "validation": True,
    }


def test_a_router_may_stop_where_the_suite_or_the_option_lets_it(cache: Cache, folder: Path) -> None:
    words = ["scripted", "--router", "my_router.py:stopping", "--alpha", "0.2"]
    message = refusal(cache, *words)
    assert "is no action here. Let routers stop with --allow-stop." in message
    assert evaluate(cache, *words, "--allow-stop").exit_code == 0
    assert recorded_rewards(cache, "my_router.py:stopping") == pytest.approx(rewards(cache, stopping, 0.2))
    hops = "SELECT hops, count(*) AS n FROM routes GROUP BY hops"
    by_hops = {row["hops"]: row["n"] for row in cache.arrow(hops).to_pylist()}
    lengths = [len(stopping(prompt, tree)) for _, prompt, tree in trees(cache).values()]
    assert by_hops == {n: lengths.count(n) for n in set(lengths)}


def test_a_trained_router_is_the_reference_of_all_others(cache: Cache, suite: Suite, folder: Path) -> None:
    trained = train(suite, cache, TrainConfig(algorithm="exact", alpha=0.3, exact={"n_epochs": 1}), 0, folder / "runs")
    result = evaluate(cache, trained.run, "--router", "my_router.py:Reader")
    assert result.exit_code == 0, result.exception
    assert f"Run {trained.run}" in result.output
    rows = cache.arrow(
        "SELECT policy, reward, lead, reference FROM evaluations WHERE run = $run AND benchmark = 'overall'",
        {"run": trained.run},
    ).to_pylist()
    by_policy = {row["policy"]: row for row in rows}
    reader_row = by_policy["my_router.py:Reader"]
    assert reader_row["reward"] == pytest.approx(rewards(cache, reader, 0.3)["overall"])
    assert reader_row["lead"] == pytest.approx(by_policy["router"]["reward"] - reader_row["reward"])
    assert {row["reference"] for row in rows} == {"router"}
    assert recorded_rewards(cache, "my_router.py:Reader")["overall"] == reader_row["reward"]
    assert f"Run {trained.run}" in evaluate(cache, "scripted").output  # the newest trained run
    [run] = cache.arrow("SELECT run FROM runs WHERE seed IS NULL")["run"].to_pylist()
    assert "is the evaluation of my_router.py:Reader, which the toolkit has not trained" in refusal(cache, run)


def test_baselines_need_no_router(cache: Cache, folder: Path) -> None:
    message = refusal(cache, "scripted")
    assert "--router" in message
    command = shlex.split(message.partition("baselines alone: toolkit ")[2].splitlines()[0])
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    assert "this R - best fixed path's R" in result.output
    rows = cache.arrow("SELECT policy, lead, reward, reference FROM evaluations WHERE benchmark = 'overall'").to_pylist()
    reward = {row["policy"]: row["reward"] for row in rows}
    assert {"best fixed path", "kNN", "linear", "random", "oracle"} <= reward.keys()
    assert not any(policy.startswith("router") for policy in reward)
    for row in rows:
        assert row["lead"] == pytest.approx(reward["best fixed path"] - row["reward"])
        assert row["reference"] == "best fixed path"
    assert cache.arrow("SELECT algorithm, alpha, seed, policy FROM runs").to_pylist() == [
        {"algorithm": "baselines", "alpha": 0.05, "seed": None, "policy": None}
    ]
    rows = json.loads(evaluate(cache, "scripted", "--baselines", "--alpha", "0.5", "--format", "json").stdout)
    assert {row["alpha"] for row in rows} == {0.5}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("called", ["question_prompt", "question", "label"])
def test_a_table_of_decisions_scores_what_its_paths_score(suffix: str, called: str, cache: Cache, folder: Path) -> None:
    paths = {question: reader(prompt, tree) for question, (_, prompt, tree) in trees(cache).items()}
    questions = cache.arrow(
        "SELECT DISTINCT question, question_prompt, benchmark || '/' || item AS label FROM transitions WHERE split = 'test'"
    ).to_pylist()
    lists = [list(paths[row["question"]]) for row in questions]
    file = folder / f"choices{suffix}"
    frame = pl.DataFrame({"question": [row[called] for row in questions], "path": lists})
    if suffix == ".csv":
        frame.with_columns(pl.col("path").list.join(" > ")).write_csv(file)
    else:
        (frame.write_ndjson if suffix == ".jsonl" else frame.write_parquet)(file)
    result = evaluate(cache, "scripted", "--decisions", file, "--alpha", "0.3")
    assert result.exit_code == 0, result.exception
    assert recorded_rewards(cache, file.name) == pytest.approx(rewards(cache, reader, 0.3))
    recorded = "SELECT question, path FROM routes"
    assert {row["question"]: tuple(row["path"]) for row in cache.arrow(recorded).to_pylist()} == paths


DECISION_MISTAKES: dict[str, tuple[Callable[[list[dict[str, Any]]], object], list[str]]] = {
    "missing": (lambda rows: rows.pop(), ["1 of ", "test questions have no decision"]),
    "unknown": (lambda rows: rows.append({"question": "Who?", "path": "sums > sums"}), ["1 of its questions", "'Who?'"]),
    "contradictory": (
        lambda rows: rows.append({**rows[0], "path": "words > words"}),
        ["1 have decisions that contradict each other"],
    ),
    "no model": (lambda rows: rows[0].update(path="sum > sums"), ["row 1", "no model 'sum'; did you mean 'sums'?"]),
    "too short": (lambda rows: rows[0].update(path="sums"), ["row 1", "1 of 2 hops", "--allow-stop"]),
    "too long": (lambda rows: rows[0].update(path="sums > sums > sums"), ["row 1", "3 models"]),
    "empty": (lambda rows: rows[1].update(path=None), ["row 2", "a path or an action"]),
    "a number": (lambda rows: rows[0].update(path=3), ["row 1", "neither text (a > b) nor a list"]),
    "no question": (lambda rows: rows[0].update(question=None), ["row 1", "not a text"]),
}


@pytest.mark.parametrize("mistake", DECISION_MISTAKES)
def test_a_wrong_table_of_decisions_is_refused_with_its_place(mistake: str, cache: Cache, folder: Path) -> None:
    rows = [{"question": question, "path": "sums > sums"} for question in trees(cache)]
    rows.append(rows[0].copy())  # the same decision twice is one decision
    rows.append({"question": next(iter(trees(cache, "train"))), "path": "sums > sums"})  # of another split
    file = folder / "choices.json"
    file.write_text(json.dumps(rows))
    assert evaluate(cache, "scripted", "--decisions", file).exit_code == 0
    rows.pop(-2)
    last = rows.pop()
    change, fragments = DECISION_MISTAKES[mistake]
    change(rows)
    file.write_text(json.dumps([*rows, last]))
    message = refusal(cache, "scripted", "--decisions", file)
    for fragment in fragments:
        assert fragment in message
    assert cache.arrow("FROM runs").num_rows == 1


ROUTER_MISTAKES = {
    "no colon": ("", "my_router.py", ["FILE:NAME"]),
    "no file": ("", "your_router.py:Reader", ["your_router.py cannot be read: No such file"]),
    "no such name": ("", "my_router.py:Writer", ["has no 'Writer'"]),
    "neither": ("wrong = 3", "my_router.py:wrong", ["neither a function nor a class"]),
    "no decide": ("class Wrong: pass", "my_router.py:Wrong", ["neither a function nor a class"]),
    "syntax": ("def", "my_router.py:wrong", ["my_router.py, line 1: SyntaxError"]),
    "import": ("import nothing_of_that_name", "my_router.py:wrong", ["line 1: ModuleNotFoundError"]),
    "exit": ("raise SystemExit(1)", "my_router.py:wrong", ["line 1: SystemExit"]),
    "constructor": ("class Wrong:\n def __init__(self, x): 0\n def decide(self, o): 0", "my_router.py:Wrong", ["TypeError"]),
    "fit": (
        "class Wrong:\n def fit(self, table):\n  table.nothing\n def decide(self, o): 0",
        "my_router.py:Wrong",
        ["cannot be fitted: my_router.py, line 3: AttributeError"],
    ),
    "decide": ("import json\ndef wrong(o):\n return json.loads('x')", "my_router.py:wrong", ["line 3: JSONDecodeError"]),
    "no model": ("def wrong(o): return 'sum'", "my_router.py:wrong", ["returned 'sum' at hop 0", "sums, words"]),
    "no position": ("def wrong(o): return 2", "my_router.py:wrong", ["returned 2"]),
    "negative": ("def wrong(o): return -1", "my_router.py:wrong", ["returned -1"]),
    "truth": ("def wrong(o): return True", "my_router.py:wrong", ["returned True"]),
}


@pytest.mark.parametrize("mistake", ROUTER_MISTAKES)
def test_a_wrong_router_is_one_paragraph_with_its_line(mistake: str, cache: Cache, folder: Path) -> None:
    source, reference, fragments = ROUTER_MISTAKES[mistake]
    (folder / "my_router.py").write_text(source)
    message = refusal(cache, "scripted", "--router", reference)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
    assert cache.arrow("FROM runs").num_rows == 0


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["--baselines", "--router", "my_router.py:first"], "Leave --baselines out"),
        (["--router", "my_router.py:first", "--overhead"], "Only the overhead of a trained router"),
        (["--baselines", "--overhead-rate", "1"], "Only the overhead of a trained router"),
        (["--allow-stop"], "A trained router stops if it was trained to"),
        (["--router", "my_router.py:first", "--router", "my_router.py:first"], "Two of the routers have one name"),
    ],
)
def test_options_that_do_not_fit_are_refused(words: list[str], fragment: str, cache: Cache, folder: Path) -> None:
    assert fragment in refusal(cache, "scripted", *words)


def test_a_table_of_another_format_is_refused(cache: Cache, folder: Path) -> None:
    (folder / "choices.txt").write_text("x")
    assert "of an unknown kind" in refusal(cache, "scripted", "--decisions", "choices.txt")


def test_a_sweep_has_a_line_of_the_users_router(cache: Cache, folder: Path) -> None:
    words = ["sweep", "scripted", "--cache", str(cache.path), "--alphas", "0,0.3", "--seeds", "1", "--processes", "1"]
    words += ["--set", "exact.n_epochs=1", "--router", "my_router.py:first"]
    shown = CliRunner().invoke(app, [*words, "--figure", "plot.svg"])
    assert shown.exit_code == 0, shown.exception
    assert "my_router.py:first" in shown.output
    assert "my_router.py:first" in (folder / "plot.svg").read_text()
    rows = json.loads(CliRunner().invoke(app, [*words, "--format", "json"]).stdout)
    recorded = "SELECT e.reward FROM evaluations AS e JOIN runs AS r USING (run) WHERE r.algorithm = 'my_router.py:first'"
    for alpha in (0.0, 0.3):
        expected = rewards(cache, lambda prompt, tree: ("sums", "sums"), alpha)["overall"]
        [row] = [row for row in rows if row["policy"] == "my_router.py:first" and row["alpha"] == alpha]
        assert row["reward"] == pytest.approx(expected)
        [value] = cache.arrow(
            f"{recorded} AND e.alpha = $alpha AND e.policy = 'router' AND e.benchmark = 'overall'", {"alpha": alpha}
        )["reward"].to_pylist()
        assert value == pytest.approx(expected)
