"""What reports say of missing responses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.test_plots import draw, legend_texts
from tests.routing.test_swept import AvailableChooser, choosers, masked_table
from toolkit.replay.table import EXCLUDED, TransitionTable
from toolkit.report.coverage import masked_sentence
from toolkit.report.evaluation import render
from toolkit.report.sweep import render as render_sweep
from toolkit.report.sweep import rows
from toolkit.report.sweep_benchmarks import render_by_benchmark
from toolkit.report.tables import WIDTH
from toolkit.routing.baselines import mlp
from toolkit.routing.coverage import COMPLETE, Coverage, coverage
from toolkit.routing.evaluate import Evaluation, evaluate_policies, policies
from toolkit.routing.sweep_metrics import scores_of
from toolkit.routing.swept import Swept, swept


@pytest.fixture(scope="module")
def table() -> TransitionTable:
    return masked_table()


@pytest.fixture(scope="module", autouse=True)
def short_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(mlp, "MAX_SAMPLES", 1000)
        yield


@pytest.fixture(scope="module")
def evaluation(table: TransitionTable) -> Evaluation:
    probabilities = AvailableChooser().probabilities(table, table.rows("test"))
    synthetic = dict.fromkeys(table.benchmarks, False)
    return evaluate_policies(table, policies(table, "test", 0.2, [probabilities]), "test", synthetic, 0.2, "run", "suite")


@pytest.fixture(scope="module")
def sweep(table: TransitionTable) -> Swept:
    return swept(table, choosers(), "test")


def test_the_share_of_masked_responses_is_counted_on_the_split(table: TransitionTable) -> None:
    available = np.asarray(table.available)
    missing = [not available[row, node] for row in range(len(available)) if table.split[row] == "test" for node in (1, 2, 3)]
    split = table.split.astype("<U10")
    split[:2] = EXCLUDED
    test = coverage(table, "test")
    assert test == Coverage(test.masked, 0, True)
    assert test.masked == pytest.approx(np.mean(missing))
    assert coverage(replace(table, split=split), "test").left_out == 2
    assert coverage(replace(table, available=None), "test") == COMPLETE


def test_what_is_masked_is_said_once() -> None:
    assert masked_sentence(COMPLETE) == ""
    assert masked_sentence(Coverage(0.0423, 0, True)).startswith("4.23% of its responses are masked")
    assert "1 question is left out: it has no complete path" in masked_sentence(Coverage(0.5, 1, True))
    assert "3 questions are left out: they have no complete path" in masked_sentence(Coverage(0.5, 3, True))


def test_an_evaluation_says_on_which_questions_a_model_s_row_is(evaluation: Evaluation, table: TransitionTable) -> None:
    text = render(evaluation, full=True)
    assert text.count("masked") == 1
    assert "nan" not in text
    total = len(table.rows("test"))
    own = {name: int(np.asarray(table.available)[table.rows("test"), 1 + n].sum()) for n, name in enumerate("abc")}
    assert text.count(f"A row of fewer than {total} questions is over those that the model was asked") == 1
    lines = [line.split() for line in text.split("\n\n")[1].splitlines()]
    assert lines[0][:2] == ["overall", "questions"]
    assert [line[1] for line in lines if line[0] in own] == [str(count) for count in own.values()]
    assert [line[1] for line in lines if line[0] in ("random", "oracle‡")] == [str(total)] * 2
    assert "- no question of the benchmark has the model's response" in text  # of the first model
    assert "best model = " in text
    assert "nan" not in render_by_benchmark([evaluation])


def test_a_best_model_that_is_not_always_available_is_named_with_its_share(evaluation: Evaluation) -> None:
    shares = evaluation.result("best model").paths
    assert len(shares) > 1
    (first, share), (second, _), *_ = shares.items()
    assert f"best model = {first} ({share:.0%}) or {second} (" in render(evaluation)


def test_complete_evaluations_say_nothing_of_it(table: TransitionTable) -> None:
    complete = replace(table, available=None)
    probabilities = AvailableChooser().probabilities(complete, complete.rows("test"))
    evaluated = policies(complete, "test", 0.2, [probabilities])
    text = render(evaluate_policies(complete, evaluated, "test", dict.fromkeys(table.benchmarks, False), 0.2, "run", "suite"))
    assert "masked" not in text
    assert "A row of fewer" not in text
    assert text.split("\n\n")[1].split()[:2] == ["overall", "Q"]


def test_a_sweep_says_what_is_masked(sweep: Swept) -> None:
    scores = scores_of(sweep)
    text = render_sweep(scores, [], 3, "exact", full=True)
    assert text.count("masked") == 1
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "nan" not in text
    written = {row["policy"]: row["questions"] for row in rows(scores) if row["alpha"] == 0.0}
    assert written["router"] == written["oracle"] == sweep.questions
    assert written["a"] < sweep.questions


def test_the_plot_says_which_models_lack_questions(
    sweep: Swept, table: TransitionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_train = replace(table, split=np.where(table.split == "test", "train", "test"))
    figure = draw(as_train, sweep)
    assert f"a ({sweep.fixed['a'].questions} of {sweep.questions} questions)" in legend_texts(figure)
