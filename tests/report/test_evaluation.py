"""What an evaluation says of averages, intervals, missing benchmarks and names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from rich.cells import cell_len

from tests.toy import make_table
from toolkit.core.errors import SuiteError
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.report.evaluation import render
from toolkit.report.sweep_benchmarks import render_by_benchmark
from toolkit.report.tables import WIDTH
from toolkit.routing.comparison import OVERALL, OVERALL_QUESTIONS
from toolkit.routing.evaluate import Evaluation, check_names, evaluate, evaluation_rows
from toolkit.routing.router import Router

ALPHA = 0.1


def split_table(sizes: Mapping[str, int], models: tuple[str, ...] = ("weak", "strong")) -> TransitionTable:
    """Make a table of one hop whose benchmarks have given numbers of test questions, and ten for training each."""
    rng = np.random.default_rng(0)
    benchmark = np.repeat(np.arange(len(sizes)), [10 + n for n in sizes.values()])
    split = np.concatenate([["train"] * 10 + ["test"] * n for n in sizes.values()])
    scores = (rng.random((len(split), len(models))) < np.linspace(0.4, 0.8, len(models))).astype(float)
    quality, cost = (np.concatenate([np.zeros((len(split), 1)), part], axis=1) for part in (scores, 0.1 + scores))
    table = make_table(quality, cost, 1, models, benchmark=benchmark, split=split)
    return replace(table, benchmarks=tuple(sizes))


class RandomRouter:
    """Stands in for a trained router."""

    def __init__(self, alpha: float = ALPHA) -> None:
        self.card = {"run": "run", "suite": "suite", "alpha": alpha}

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float) -> Floats:
        return np.random.default_rng(1).dirichlet([1.0] * table.n_models, (len(rows), table.n_decision_nodes))


def evaluate_sizes(sizes: Mapping[str, int]) -> Evaluation:
    router = cast("Router", RandomRouter())
    return evaluate(split_table(sizes), router, "test", dict.fromkeys(sizes, False))[0]


@pytest.mark.parametrize(
    "sizes", [{"a": 1, "b": 1}, {"a": 1, "b": 0, "c": 40}, {f"b{n}": 1 for n in range(30)}, {"a": 2}, {"a": 3, "b": 2}]
)
def test_averages_have_intervals_as_soon_as_there_are_two_questions(sizes: dict[str, int]) -> None:
    evaluation = evaluate_sizes(sizes)
    for average in (OVERALL, OVERALL_QUESTIONS):
        for policy in evaluation.policies:
            result = evaluation.result(policy, average)
            for estimate in (result.quality, result.cost, result.reward, result.lead, result.improvement):
                assert estimate.low <= estimate.mean + 1e-9
                assert estimate.high >= estimate.mean - 1e-9
        assert evaluation.result("router", average).questions == sum(sizes.values())
        assert evaluation.result("random", average).cost.high > evaluation.result("random", average).cost.low
    assert "[-, -]" not in render(evaluation, full=True)
    assert "nan" not in render_by_benchmark([evaluation])


def test_one_test_question_has_no_interval_and_says_so_by_leaving_it_out() -> None:
    evaluation = evaluate_sizes({"a": 1, "b": 0})
    assert math.isnan(evaluation.result("router").quality.low)
    text = render(evaluation, full=True)
    assert "1 question, 1 benchmark," in text
    assert "±-" not in text
    assert "[-, -]" not in text


def test_the_two_averages_weigh_benchmarks_and_questions_equally() -> None:
    sizes = {"small": 2, "large": 50, "none": 0}
    evaluation, table = evaluate_sizes(sizes), split_table(sizes)
    rows = table.rows("test")
    for node, model in enumerate(table.models, 1):
        scores = table.quality[rows, node]
        small, large = scores[table.benchmark[rows] == 0], scores[table.benchmark[rows] == 1]
        assert evaluation.result(model, OVERALL).quality.mean == pytest.approx((small.mean() + large.mean()) / 2)
        assert evaluation.result(model, OVERALL_QUESTIONS).quality.mean == pytest.approx(scores.mean())
    assert evaluation.benchmarks == ["small", "large"]
    shares = evaluation.result("router", OVERALL_QUESTIONS).paths
    assert sum(shares.values()) == pytest.approx(1)
    rows_by_name = {(row["policy"], row["benchmark"]): row for row in evaluation_rows(evaluation)}
    assert rows_by_name["router", OVERALL_QUESTIONS]["questions"] == 52


def test_benchmarks_without_questions_or_with_one_are_named() -> None:
    text = render(evaluate_sizes({"many": 40, "single": 1, "none": 0, "\x1bnone": 0}), full=True)
    assert r"Without test questions, and so in no average: none, \x1bnone." in text
    assert "With one question, and so without an interval of its own: single." in text
    assert OVERALL_QUESTIONS in text
    plain = render(evaluate_sizes({"many": 40}), full=True)
    assert "Without test questions" not in plain
    assert "overall (questions)  " not in plain  # it is the same as overall


@pytest.mark.parametrize(
    ("models", "benchmarks"),
    [
        (("router", "b"), ("x",)),
        (("router (sampled)", "b"), ("x",)),
        (("stop", "b"), ("x",)),
        (("a", "kNN"), ("x",)),
        (("oracle", "b"), ("x",)),
        (("abstained", "b"), ("x",)),
        (("a > b", "b"), ("x",)),
        (("a", "b"), ("x", "overall")),
        (("a", "b"), ("x", "overall (questions)")),
    ],
)
def test_names_that_results_give_another_meaning_are_refused(models: tuple[str, ...], benchmarks: tuple[str, ...]) -> None:
    table = split_table(dict.fromkeys(benchmarks, 5), models)
    with pytest.raises(SuiteError, match="Rename the"):
        evaluate(table, cast("Router", RandomRouter()), "test", dict.fromkeys(benchmarks, False))


def test_a_model_named_like_another_one_repeated_is_refused() -> None:
    check_names(split_table({"x": 5}, ("a", "a x2")))  # one hop: nothing is repeated
    with pytest.raises(SuiteError, match="'a x2'"):
        check_names(replace(split_table({"x": 5}, ("a", "a x2")), horizon=2))


LONG = "a model of the pool whose name is so long that no table could show it beside its figures " * 2


@pytest.mark.parametrize(
    ("models", "benchmarks"),
    [
        (("weak", "strong"), ("x",)),
        ((LONG, LONG + "b"), (LONG, LONG + "2")),
        (tuple(f"model {n}" for n in range(30)), tuple(f"benchmark {n}" for n in range(30))),
        (("模型" * 40, "b"), ("基准" * 40, "y")),
    ],
)
def test_an_evaluation_fits_120_columns_whatever_its_names(models: tuple[str, ...], benchmarks: tuple[str, ...]) -> None:
    sizes = dict.fromkeys(benchmarks, 35)
    evaluation, _ = evaluate(split_table(sizes, models), cast("Router", RandomRouter()), "test", dict.fromkeys(sizes, True))
    brief, full = (render(evaluation, full) for full in (False, True))
    for line in "\n".join([brief, full, render_by_benchmark([evaluation])]).splitlines():
        assert cell_len(line) <= WIDTH, line
    assert len([line for line in brief.splitlines() if line.startswith("---")]) == 1
    assert len(brief.splitlines()) < 50


def test_an_evaluation_begins_with_its_verdict_and_marks_what_was_chosen_and_what_is_hindsight() -> None:
    evaluation = evaluate_sizes({"a": 40, "b": 60})
    first, table, notes, *_ = render(evaluation).split("\n\n")
    assert first.startswith("The router's R, ")
    assert "significantly" in first
    assert f"{evaluation.result('router').reward.mean:.3f}" in first
    assert "router's R - this R" in table
    rows = [line.split("  ")[0] for line in table.splitlines()[2:]]
    assert {"best model†", "best fixed path†", "best model per benchmark†", "best path per benchmark†", "oracle‡"} <= set(rows)
    assert "† chosen on the training split" in notes
    assert "‡ hindsight" in notes
    assert f"best model = {evaluation.best_model}" in notes


class Abstaining(RandomRouter):
    """Stops before any model responds."""

    def probabilities(self, table: TransitionTable, rows: Ints, alpha: float) -> Floats:
        return np.broadcast_to([0.0] * table.n_models + [1.0], (len(rows), table.n_decision_nodes, table.n_models + 1))


@pytest.mark.parametrize("size", [4, 60])
def test_abstentions_are_reported_with_few_questions_and_many(size: int) -> None:
    sizes = {"a": size}
    router = cast("Router", Abstaining())
    evaluation, _ = evaluate(split_table(sizes), router, "test", dict.fromkeys(sizes, False))
    text = " ".join(render(evaluation).split())
    assert "On 100% of the questions it stops before any model responds, so that Q = C = 0." in text
    assert "stops before" not in render(evaluate_sizes(sizes))
