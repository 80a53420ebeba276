"""The recipes of docs/guides/results.md, run as a user types them, with baselines recomputed from the files themselves."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from tests.cli.session import Session, session
from tests.docs.page import bodies
from tests.outcomes import published_logs as logs
from tests.outcomes import published_tables as tables
from tests.outcomes.published import MODELS, Cell, lines
from tests.outcomes.recomputed import Array, Recomputed
from tests.outcomes.wide import write_lines
from tests.scripted import encode
from toolkit.core.registry import OUTCOMES
from toolkit.outcomes import inspect_log
from toolkit.outcomes.formats import find_files, format_of
from toolkit.routing.baselines import registered_baselines
from toolkit.store import Cache

__all__ = ["session"]

PAGE = (Path(__file__).parents[2] / "docs/guides/results.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^##+ ([^\n]+)\n(.*?)(?=^##+ |\Z)", PAGE, re.DOTALL | re.MULTILINE))
ALPHA = 0.1
TRAIN = f"--algorithm exact --alpha {ALPHA} --set exact.n_epochs=2"
ROWS = """
SELECT q.benchmark, q.item, s.sample, q.prompt, s.split
FROM suite_questions AS s JOIN questions AS q USING (question) ORDER BY s.position, s.sample
"""


class Layout(NamedTuple):
    """What writes the results of a recipe into a folder, small and larger ones, and what reads them plainly."""

    small: Callable[[Path], None] | None
    large: Callable[[Path], None]
    cells: Callable[[Path], Iterator[Cell]]


LAYOUTS = {
    "RouterBench": Layout(tables.small_routerbench, tables.large_routerbench, tables.wide_cells),
    "LLMRouterBench and OpenRouterBench": Layout(
        tables.small_llmrouterbench, tables.large_llmrouterbench, tables.llmrouterbench_cells
    ),
    "LLMRouter and xRouteBench": Layout(tables.small_llmrouter, tables.large_llmrouter, tables.llmrouter_cells),
    "RouterDC": Layout(tables.small_routerdc, tables.large_routerdc, tables.routerdc_cells),
    "RouteLLM": Layout(None, tables.large_routellm, tables.routellm_cells),
    "RouterArena": Layout(None, tables.large_routerarena, tables.routerarena_cells),
    "lm-evaluation-harness": Layout(logs.small_lm_eval, logs.large_lm_eval, logs.lm_eval_cells),
    "Inspect": Layout(logs.small_inspect, logs.large_inspect, logs.inspect_cells),
    "HELM": Layout(None, logs.large_helm, logs.helm_cells),
    "Any other table": Layout(None, tables.large_long, tables.long_cells),
    "A comparison of routers": Layout(None, tables.large_routerdc_tables, tables.wide_cells),
}
"""By the heading of the recipe."""
CASES = [
    pytest.param(name, write, number == 0, id=f"{name}, {size}")
    for name, layout in LAYOUTS.items()
    for number, (size, write) in enumerate(
        sized for sized in (("as published", layout.small), ("larger", layout.large)) if sized[1]
    )
]
"""Name, what writes the files, and whether a router is trained: once for each recipe."""


def commands_of(section: str) -> list[str]:
    """Return the commands that a section shows."""
    blocks = bodies(SECTIONS[section], "sh", "bash")
    words = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [shlex.join(line) for line in words if line]


def import_of(section: str) -> str:
    """Return the command that imports the results of a recipe."""
    return next(line for line in commands_of(section) if line.startswith("toolkit import "))


def suite_of(command: str) -> str:
    words = shlex.split(command)
    return words[words.index("--suite") + 1]


def rates_of(command: str) -> Mapping[str, tuple[float, float]]:
    words = shlex.split(command)
    rates = [words[n + 1].rpartition("=") for n, word in enumerate(words) if word == "--rate"]
    return {model: (float(prices.split(",")[0]), float(prices.split(",")[1])) for model, _, prices in rates}


def recompute(command: str, layout: Layout, folder: Path) -> Recomputed:
    """Read the files plainly; questions, which the toolkit takes from prompts, are those of the cache."""
    cache = Cache(Path("cache") / f"{suite_of(command)}.duckdb")
    models = cache.arrow("SELECT name FROM suite_models ORDER BY position")["name"].to_pylist()
    return Recomputed(layout.cells(folder), cache.arrow(ROWS).to_pylist(), models, rates_of(command))


def evaluated(session: Session, line: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of an evaluation by policy and benchmark."""
    session.succeeds(f"{line} --format json --output evaluation.json --force")
    rows: list[dict[str, Any]] = json.loads(Path("evaluation.json").read_text("utf-8"))
    return {(row["policy"], row["benchmark"]): row for row in rows}


def check(rows: Mapping[tuple[str, str], Mapping[str, Any]], ours: Recomputed, split: str, features: Array, knn: str) -> None:
    """Compare an evaluation with what is recomputed."""
    at = ours.rows(split)
    [alpha] = {row["alpha"] for row in rows.values()}

    def compare(policy: str, outcome: tuple[float, float]) -> None:
        row = rows[policy, "overall"]
        reward = outcome[0] - alpha * outcome[1]
        assert (row["quality"], row["cost"], row["reward"]) == pytest.approx((*outcome, reward), abs=1e-6), policy

    for model in ours.models:
        n_asked = int((~np.isnan(ours.quality[at, ours.models.index(model)])).sum())
        assert ((model, "overall") in rows) == bool(n_asked)
        if n_asked:
            assert rows[model, "overall"]["questions"] == n_asked
            compare(model, ours.single(model, at))
    compare("best model", ours.of(ours.best_single(at, alpha), at))
    assert rows["oracle", "overall"]["reward"] == pytest.approx(ours.oracle(at, alpha), abs=1e-6)
    compare(knn, ours.of(ours.nearest(features, at, alpha), at))


def check_router(rows: Mapping[tuple[str, str], Mapping[str, Any]], ours: Recomputed, split: str, cache: Cache) -> None:
    """Compare a router's outcome with that of the models that it is recorded to choose."""
    routes = cache.arrow("SELECT benchmark, item, sample, path, split FROM routes").to_pylist()
    chosen = {(row["benchmark"], row["item"], row["sample"]): row["path"][0] for row in routes if row["split"] == split}
    at = ours.rows(split)
    outcome = ours.of(np.array([ours.models.index(chosen[ours.keys[row]]) for row in at]), at)
    row = rows["router", "overall"]
    assert (row["quality"], row["cost"]) == pytest.approx(outcome, abs=1e-6)


@pytest.fixture
def without_inspect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without inspect-ai, read its .json logs as the documents that they are."""
    if importlib.util.find_spec("inspect_ai") is None:

        def read_log(path: Path) -> inspect_log.Log:
            document = json.loads(path.read_text("utf-8"))
            return inspect_log.Log(path, document, document["samples"])

        monkeypatch.setattr(inspect_log, "read_log", read_log)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the baselines that are not recomputed here; their own tests are in tests/routing/baselines."""
    kept = [baseline for baseline in registered_baselines() if not baseline.fitted or baseline.name.startswith("kNN")]
    monkeypatch.setattr("toolkit.routing.policies.registered_baselines", lambda slow=False: kept)


@pytest.mark.parametrize(("name", "write", "is_trained"), CASES)
@pytest.mark.usefixtures("few", "without_inspect")
def test_a_recipe_imports_trains_and_evaluates(
    name: str, write: Callable[[Path], None], is_trained: bool, session: Session, tmp_path: Path
) -> None:
    write(tmp_path)
    command = import_of(name)
    session.succeeds(command)
    suite, ours = suite_of(command), recompute(command, LAYOUTS[name], tmp_path)
    split = next(split for split in ("test", "train") if len(ours.rows(split)))
    if is_trained:
        session.succeeds(f"toolkit train {suite} {TRAIN}")
    rows = evaluated(session, f"toolkit evaluate {suite} --split {split}" + " --baselines" * (not is_trained))
    check(rows, ours, split, encode(ours.texts), "kNN")
    if is_trained:
        check_router(rows, ours, split, Cache(Path(f"cache/{suite}.duckdb")))


def write_first_table() -> None:
    [table] = bodies(SECTIONS["The shortest way"], "csv", title="results.csv")
    Path("results.csv").write_text(table, "utf-8")


@pytest.mark.usefixtures("few")
def test_without_an_encoder_routers_and_knn_read_words(session: Session) -> None:
    """Twenty training questions have the same words, which only another model than the best one responds to well."""
    cells, table = [], []
    for number in range(70):
        wording, split = number % 2, "train" if number < 40 else "test"
        for model in range(2):
            score = (0.9 if model == wording else 0.1) + 0.002 * (number % 7) * (1 + wording) * model
            question = f"{('Spell the word', 'Add the number')[wording]} {number}."
            cells.append(Cell("b", str(number), MODELS[model], score, 0.1 * (1 + model), split=split))
            table.append(
                {"question": question} | {name: value for name, value in cells[-1]._asdict().items() if value is not None}
            )
    write_lines(Path("results.jsonl"), table)
    command = commands_of("Encoders and your own vectors")[0].replace(".csv", ".jsonl")
    session.succeeds(command)
    rows = evaluated(session, "toolkit evaluate words --baselines")
    cache = Cache(Path("cache/words.duckdb"))
    ours = Recomputed(cells, cache.arrow(ROWS).to_pylist(), MODELS[:2], {})
    features = np.array([[text.startswith("Spell"), text.startswith("Add"), 1.0] for text in ours.texts])
    check(rows, ours, "test", features, "kNN (n-grams)")
    assert rows["kNN (n-grams)", "overall"]["quality"] > rows["best model", "overall"]["quality"] + 0.3
    assert ("kNN", "overall") not in rows
    assert cache.arrow("SELECT 1 FROM embeddings").num_rows == 0


@pytest.mark.usefixtures("few")
def test_knn_reads_vectors_of_ones_own(session: Session, tmp_path: Path) -> None:
    name = "Any other table"
    LAYOUTS[name].large(tmp_path)
    texts = sorted({row["query"] for row in lines(tmp_path / "results.jsonl")})
    vectors = np.random.default_rng(3).normal(size=(len(texts), 5)).astype(np.float32)
    pd.DataFrame({"text": texts, "embedding": list(vectors)}).to_parquet("vectors.parquet")
    command = f"{import_of(name)} --embeddings vectors.parquet"
    session.succeeds(command)
    ours = recompute(command, LAYOUTS[name], tmp_path)
    rows = evaluated(session, "toolkit evaluate mine --baselines")
    check(rows, ours, "test", vectors[[texts.index(text) for text in ours.texts]], "kNN")


def test_the_commands_on_encoders_and_exports_work_after_the_first_ones(session: Session) -> None:
    write_first_table()
    frame = pd.read_csv("results.csv")[["question"]].drop_duplicates().rename(columns={"question": "text"})
    frame.assign(embedding=[[float(n), 1.0] for n in range(len(frame))]).to_parquet("vectors.parquet")
    none, hub, own = commands_of("Encoders and your own vectors")
    session.succeeds(none)
    session.succeeds(own)
    assert "--encoder BAAI/" in hub  # needs a download
    session.succeeds(import_of("The shortest way"))
    exports = commands_of("Out again")
    assert len(exports) == 4
    for command in exports:
        session.succeeds(command)
    long, wide = pd.read_csv("mine.csv.gz"), pd.read_csv("mine.csv")
    table = pd.read_csv("results.csv")
    assert sorted(zip(long["question"], long["model"], long["score"], strict=True)) == sorted(
        zip(table["question"], table["model"], table["score"], strict=True)
    )
    assert wide["large-v1"].tolist() == [1.0] * 4
    assert len(list(Path("mine-llmrouterbench").rglob("*.json"))) >= 4
    assert list(Path("mine-dataset/data").glob("*.parquet"))
    assert "8 equal" in session.succeeds("toolkit import mine.csv.gz --suite mine").text


def test_every_format_has_a_recipe_and_is_detected(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detected = set()
    for number, (name, layout) in enumerate(LAYOUTS.items()):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        layout.large(Path.cwd())
        words = shlex.split(import_of(name))
        assert "--format" not in words
        detected.add(format_of(find_files(words[2 : words.index("--suite")]))[0])
    assert detected == set(OUTCOMES)
