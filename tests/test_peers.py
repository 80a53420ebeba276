"""`just peers` compares routers of other projects fairly: the files that they read, and what is made of their choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import peers
from tests.benchmarks.peer_data import first_hop, fitted_rows, pair, rewards, write_job
from tests.toy import make_table
from toolkit.core.errors import SuiteError
from toolkit.outcomes.formats import Source
from toolkit.outcomes.llmrouter import FORMAT
from toolkit.replay.exact import node_outcome
from toolkit.replay.table import TransitionTable
from toolkit.routing.baselines.predictor import predictions

SPLITS = np.repeat(["train", "validation", "test"], [12, 6, 6])
ALPHA = 0.1


@pytest.fixture(scope="module")
def table() -> TransitionTable:
    """Make a table of two hops: of three models, the dear one is right on even questions and the middle one on others."""
    rng, rows, nodes = np.random.default_rng(0), len(SPLITS), 13
    quality, cost = rng.random((rows, nodes)), rng.random((rows, nodes))
    right = np.where(np.arange(rows) % 2, 2, 3)
    quality[:, :4], cost[:, :4] = 0, [0, 1, 2, 3]
    quality[np.arange(rows), right] = 1
    vectors = np.stack([right - 2.0, 3.0 - right, rng.random(rows)], axis=1).astype(np.float32)
    benchmark = np.arange(rows) % 2
    questions = tuple(f"What is question {row} about?" for row in range(rows))
    return make_table(quality, cost, 2, ["cheap", "middle", "dear"], vectors, benchmark, SPLITS, questions)


@pytest.fixture(scope="module")
def hop(table: TransitionTable) -> TransitionTable:
    return first_hop(table)


@pytest.fixture(scope="module")
def job(hop: TransitionTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    write_job(folder, hop, [0.0, ALPHA], seeds=2)
    return folder


def read_json(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def test_only_first_responses_count(table: TransitionTable, hop: TransitionTable) -> None:
    rows = hop.rows("test")
    assert hop.horizon == 1
    assert hop.leaves.tolist() == [1, 2, 3]
    for node in (1, 2, 3):
        assert node_outcome(hop, rows, node).reward(ALPHA) == pytest.approx(node_outcome(table, rows, node).reward(ALPHA))


def test_a_suite_without_validation_questions_gets_some_of_its_training_questions(table: TransitionTable) -> None:
    split = np.where(table.split == "test", "test", "train")
    parts = make_table(table.quality, table.cost, 2, table.models, split=split, questions=table.questions)
    assert [len(first_hop(parts).rows(name)) for name in ("train", "validation", "test")] == [16, 2, 6]


def test_questions_with_one_text_are_refused(table: TransitionTable) -> None:
    twins = make_table(table.quality[:2, :4], table.cost[:2, :4], 1, table.models, questions=("Which?", "Which?"))
    with pytest.raises(SuiteError, match="same text"):
        first_hop(twins)


def test_llmrouter_reads_rewards(job: Path, hop: TransitionTable) -> None:
    """The routing data are what this toolkit reads as LLMRouter's format, without any test question, the best model first."""
    file = job / f"alpha-{ALPHA}/routing_data_train.jsonl"
    parts = list(FORMAT.read(Source(label=str(file), folder=file.parent, files=(file,), columns=frozenset())))
    results = {
        (question, model): score
        for part in parts
        for question, model, score in zip(*(part.columns[name] for name in ("question", "model", "score")), strict=True)
    }
    rows = fitted_rows(hop)
    expected = rewards(hop, rows, ALPHA)
    assert len(results) == len(rows) * 3 == 54
    for place, row in enumerate(rows):
        assert [results[hop.questions[row], model] for model in hop.models] == pytest.approx(expected[place])
    first = json.loads(file.read_text("utf-8").partition("\n")[0])
    assert first["model_name"] == "middle"


def test_routellm_reads_battles_of_training_questions(job: Path, hop: TransitionTable) -> None:
    document = read_json(job / "job.json")
    assert (document["weak"], document["strong"]) == ("cheap", "middle")
    winners = [(battle["idx"], battle["model_a"], battle["model_b"], battle["winner"]) for battle in document["battles"]]
    assert winners[:3] == [(0, "cheap", "middle", "tie"), (0, "cheap", "dear", "model_b"), (0, "middle", "dear", "model_b")]
    assert {battle[0] for battle in winners} == set(hop.rows("train").tolist())


def test_threshold_has_the_highest_reward_on_validation_questions(hop: TransitionTable) -> None:
    two, rates = pair(hop), np.array([0.1, 0.9, 0.3, 0.8, 0.2, 0.7])  # the strong model is right on every other question
    assert peers.best_threshold(two, rates, 0.0) == 0.1  # never worse if it costs nothing
    assert peers.best_threshold(two, rates, 0.5) == 0.7
    assert peers.best_threshold(two, rates, 2.0) == np.inf


def cells(text: str) -> dict[str, list[str]]:
    """Return the rows of a table by the name of the router."""
    lines = [[" ".join(cell.split()) for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {line[0]: line for line in lines}


def test_page_says_what_the_choices_earn(job: Path, hop: TransitionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that is always right has the oracle's reward; its lead over this toolkit's is measured question by question."""
    test = hop.rows("test")
    right = [hop.models[node - 1] for node in np.where(test % 2, 2, 3)]
    records = [
        {"alpha": alpha, "router": name, "seed": 0, "fit": 1.5, "decide": 0.002, "choices": right}
        for alpha in (0.0, ALPHA)
        for name in ("knnrouter", "svmrouter", "mlprouter")
    ]
    (job / "llmrouter.json").write_text(json.dumps(records), "utf-8")
    rates = [{"router": "mf", "seed": seed, "fit": 1.0, "decide": 0.001, "win_rates": [0.5] * 12} for seed in (0, 1)]
    (job / "routellm.json").write_text(json.dumps(rates), "utf-8")
    knn = peers.OURS["kNN"]
    monkeypatch.setattr(peers, "OURS", {"kNN": knn})
    monkeypatch.setattr(peers, "ON_LABELS", dict.fromkeys(peers.ON_LABELS, (knn, 0)))
    introduction, free, priced, pair_free, _ = peers.section("just peers", hop, [0.0, ALPHA], 2, job).split("#### ")
    assert "12 train, 6 validation, 6 test questions of 2 benchmarks, 3 models" in " ".join(introduction.split())
    by_name = cells(free)
    assert by_name["knnrouter"][2] == by_name["oracle"][2] == "1.000 [1.000, 1.000]"
    assert "ahead: knnrouter; behind: none; not significantly different: none" in " ".join(free.split())
    cost, fit, decide = by_name["knnrouter"][5:]
    assert (cost, fit.partition(" (")[0], decide.partition(" (")[0]) == ("2.500", "1.50 s", "2.00 ms")
    assert fit.endswith(" times)")
    quality = node_outcome(hop, test, predictions(hop, "test", False, knn).choose(0.0)).quality.mean()
    assert by_name["knnrouter"][3].endswith("(kNN)")
    assert float(by_name["knnrouter"][3].split()[0]) == pytest.approx(1 - quality, abs=1e-3)
    assert cells(priced)["knnrouter on quality"][2].startswith("0.750")
    assert cells(pair_free)["mf"][5] in ("1.000", "2.000")  # one score for all questions: always the same model


def test_a_suite_has_a_block_of_its_own() -> None:
    page = "a\n<!-- peers: one -->\n1\n<!-- /peers: one -->\nb\n<!-- peers: two -->\n2\n<!-- /peers: two -->\n"
    changed = peers.replace_block(page, "two", "| new |")
    assert changed == page.replace("\n2\n", "\n\n| new |\n\n").replace("|\n\n<!-- /", "|\n<!-- /")
