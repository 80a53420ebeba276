"""The verdict on an evaluation: which baseline it names, what it claims, and what it leaves open."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tests.report.test_plots import as_sweep, constant, random_sweep, random_table
from tests.toy import make_table
from toolkit.replay.table import TransitionTable
from toolkit.routing.evaluate import Evaluation, evaluate_policies, policies
from toolkit.routing.sweep_metrics import scores_of
from toolkit.routing.verdict import judge, judge_alphas, judge_curve, rivals

HINDSIGHT = ("oracle",)


def colours(questions: int = 60, benchmarks: int = 2) -> TransitionTable:
    """Two models, of which one at random is right on each question, so that no baseline can tell which."""
    n = questions * benchmarks * 2
    right = np.random.default_rng(3).permutation(np.arange(n) % 2)
    quality = np.stack([np.zeros(n), right, 1 - right], axis=1).astype(float)
    split = np.where(np.arange(n) % 2, "test", "train")
    cost = np.ones_like(quality) * [0, 1, 1]
    return make_table(quality, cost, 1, ("a", "b"), benchmark=np.arange(n) // 2 % benchmarks, split=split)


def routed(table: TransitionTable, correct: npt.NDArray[np.bool_]) -> Evaluation:
    """Evaluate a router that is right on a test question where `correct` is true."""
    rows = table.rows("test")
    best = table.quality[rows, 2].astype(int)
    action = np.where(correct, best, 1 - best)
    probabilities = np.eye(2)[action][:, None]
    evaluated = policies(table, "test", 0.1, [probabilities])
    return evaluate_policies(table, evaluated, "test", dict.fromkeys(table.benchmarks, True), 0.1, "run", "suite")


def test_the_strongest_baseline_is_the_one_of_the_highest_reward_and_never_hindsight() -> None:
    table = colours()
    evaluation = routed(table, np.ones(len(table.rows("test")), dtype=bool))
    verdict = judge(evaluation)
    assert verdict
    names = rivals(evaluation)
    assert not set(HINDSIGHT) & set(names)
    assert not {"a", "b"} & set(names)  # a model alone is picked by nobody
    rewards = {name: evaluation.result(name).reward.mean for name in names}
    assert rewards[verdict.baseline.policy] == max(rewards.values())
    assert verdict.baselines == len(names)
    assert evaluation.result("oracle").reward.mean > max(rewards.values())


def test_a_router_that_knows_everything_is_significantly_above_and_one_that_knows_nothing_is_not() -> None:
    table = colours()
    n = len(table.rows("test"))
    perfect = judge(routed(table, np.ones(n, dtype=bool)))
    assert perfect
    assert perfect.is_significant
    assert perfect.baseline.lead.low > 0
    assert perfect.above == tuple(table.benchmarks)
    assert perfect.below == ()
    ignorant = judge(routed(table, np.arange(n) // 2 % 2 == 0))
    assert ignorant
    assert not ignorant.is_significant
    assert not ignorant.above
    worst = judge(routed(table, np.zeros(n, dtype=bool)))
    assert worst
    assert worst.is_significant
    assert worst.baseline.lead.high < 0
    assert worst.below == tuple(table.benchmarks)


def test_being_ahead_is_claimed_only_of_every_baseline() -> None:
    table = colours()
    n = len(table.rows("test"))
    evaluation = routed(table, np.arange(n) % 10 < 7)
    verdict = judge(evaluation)
    assert verdict
    assert verdict.baseline.lead.mean > 0
    assert verdict.p_value == max(evaluation.result(name).p_value for name in rivals(evaluation))


def test_few_questions_get_no_verdict() -> None:
    table = colours(questions=10)
    assert len(table.rows("test")) < 30
    assert judge(routed(table, np.ones(len(table.rows("test")), dtype=bool))) is None


@pytest.mark.parametrize("seed", range(3))
def test_the_verdict_at_an_alpha_recomputes_the_difference_to_the_strongest_baseline(seed: int) -> None:
    scores = scores_of(random_sweep(random_table(seed), seed))
    verdicts = judge_alphas(scores)
    assert [verdict.alpha for verdict in verdicts] == scores.swept.alphas.tolist()
    for verdict in verdicts:
        points = {point.policy: point.reward.mean for point in scores.points if point.alpha == verdict.alpha}
        names = set(scores.swept.lines) - {"router", "oracle"}
        assert points[verdict.baseline] == max(points[name] for name in names)
        assert verdict.lead.mean == pytest.approx(points["router"] - points[verdict.baseline])


def test_the_verdict_on_a_curve_names_the_baseline_of_the_highest_aiq() -> None:
    table = random_table(1)
    scores = scores_of(as_sweep(table, np.array([0.0, 0.1]), {"router": constant(table, [(0.9, 0.6), (0.9, 0.6)])}))
    verdict = judge_curve(scores)
    assert verdict
    names = set(scores.metrics) - {"router", "oracle"}
    assert scores.metrics[verdict.baseline].aiq.mean == max(scores.metrics[name].aiq.mean for name in names)
    assert verdict.lead == scores.metrics[verdict.baseline].lead
