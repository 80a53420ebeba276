"""Results of policies that have some of the questions only, recomputed question by question in plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.routing.baselines.tables import random_table
from tests.toy import with_missing
from toolkit.replay.table import TransitionTable
from toolkit.routing.baselines import mlp
from toolkit.routing.comparison import OVERALL, OVERALL_QUESTIONS, Result, compare
from toolkit.routing.evaluate import evaluate_policies, evaluation_rows, policies
from toolkit.routing.policies import Policy

ALPHA = 0.2
BENCHMARKS = ("toy0", "toy1")


def masked_table(seed: int = 0) -> TransitionTable:
    """Make a table of four models, the third of which has one question of the second benchmark, and the last none."""
    complete = random_table(rows=200, n_models=4, horizon=1, seed=seed)
    table = with_missing(complete, seed, share=0.3)
    assert table.available is not None
    available = table.available.copy()
    available[table.benchmark == 1, 3:] = False
    available[table.benchmark == 1, 1] = True
    available[np.flatnonzero((table.benchmark == 1) & (table.split == "test"))[0], 3] = True
    quality, cost = np.where(available, complete.quality, 0), np.where(available, complete.hop_cost, 0)
    return replace(table, available=available, quality=quality, hop_cost=cost)


def evaluated(table: TransitionTable, seeds: int = 1) -> dict[str, Policy]:
    """Return the policies of routers that take random available actions, and the baselines."""
    assert table.available is not None
    rows = np.flatnonzero(table.split == "test")
    probabilities = []
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).random((len(rows), 1, 4)) * table.available[rows, None, 1:]
        probabilities.append(drawn / drawn.sum(-1, keepdims=True))
    return policies(table, "test", ALPHA, probabilities)


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlp, "MAX_SAMPLES", 1000)


def results(table: TransitionTable, policies: dict[str, Policy]) -> dict[tuple[str, str], Result]:
    rows, synthetic = np.flatnonzero(table.split == "test"), dict.fromkeys(BENCHMARKS, False)
    return {(result.policy, result.benchmark): result for result in compare(table, rows, ALPHA, policies, synthetic)}


def mean(groups: list[list[float]]) -> float:
    """Return the mean of the means of the groups that have values; nan if none has."""
    means = [math.fsum(group) / len(group) for group in groups if group]
    return math.fsum(means) / len(means) if means else math.nan


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_model_s_row_is_over_its_questions_and_compared_on_the_same_ones(seed: int, seeds: int) -> None:
    table = masked_table(seed)
    assert table.available is not None
    rows, chosen = np.flatnonzero(table.split == "test"), evaluated(table, seeds)
    rewards = {
        name: dict(zip(rows.tolist(), chosen[name].outcome.reward(ALPHA).tolist(), strict=True))
        for name in ("router", "best fixed path", "oracle")
    }
    router_quality = dict(zip(rows.tolist(), chosen["router"].outcome.quality.tolist(), strict=True))
    compared = results(table, chosen)
    for model in range(4):
        node = 1 + model
        own = [
            [row for row in rows.tolist() if table.available[row, node] and table.benchmark[row] == group] for group in (0, 1)
        ]
        assert len(own[1]) == (1 if model == 2 else 0 if model == 3 else len(own[1]))
        parts = {OVERALL: own, OVERALL_QUESTIONS: [own[0] + own[1]], "toy0": own[:1], "toy1": own[1:]}
        for benchmark, groups in parts.items():
            result = compared[f"m{model}", benchmark]
            reward = {row: float(table.quality[row, node] - ALPHA * table.cost[row, node]) for row in own[0] + own[1]}
            lead = [[rewards["router"][row] - reward[row] for row in group] for group in groups]
            assert result.questions == sum(map(len, groups))
            means = [mean([[float(v[row, node]) for row in group] for group in groups]) for v in (table.quality, table.cost)]
            assert (result.quality.mean, result.cost.mean) == pytest.approx(means, nan_ok=True)
            own_reward = mean([[reward[row] for row in group] for group in groups])
            assert result.reward.mean == pytest.approx(own_reward, nan_ok=True)
            assert result.lead.mean == pytest.approx(mean(lead), nan_ok=True)
            if not result.questions:
                assert math.isnan(result.multiple.mean)
                continue
            of_others = {name: mean([[values[row] for row in group] for group in groups]) for name, values in rewards.items()}
            gap = of_others["oracle"] - of_others["best fixed path"]
            recovered = (own_reward - of_others["best fixed path"]) / gap if gap > 1e-9 else math.nan
            assert result.gap_recovered.mean == pytest.approx(recovered, nan_ok=True)
            of_router = mean([[router_quality[row] for row in group] for group in groups])
            assert result.multiple.mean == pytest.approx(of_router / means[0])
            if own_reward >= 0:
                assert result.share.mean == pytest.approx(of_others["router"] / own_reward)
            assert math.isnan(result.p_value) == (result.questions < 2)
            for estimate in (result.quality, result.cost, result.reward, result.lead, result.improvement):
                assert math.isnan(estimate.low) == (result.questions < 2)
                assert result.questions < 2 or estimate.low <= estimate.mean <= estimate.high


def test_improvement_counts_the_questions_that_both_have() -> None:
    table = masked_table()
    assert table.available is not None
    rows, chosen = np.flatnonzero(table.split == "test"), evaluated(table)
    router = chosen["router"].outcome.reward(ALPHA)
    own = [n for n, row in enumerate(rows) if table.available[row, 1]]
    reward = table.quality[rows, 1] - ALPHA * table.cost[rows, 1]
    wins = [0.5 if abs(router[n] - reward[n]) < 1e-9 else float(router[n] > reward[n]) for n in own]
    assert results(table, chosen)["m0", OVERALL_QUESTIONS].improvement.mean == pytest.approx(np.mean(wins))


def test_policies_that_have_all_questions_do_not_depend_on_those_that_lack_some() -> None:
    table = masked_table()
    chosen = evaluated(table)
    complete = {name: policy for name, policy in chosen.items() if not np.isnan(policy.outcome.quality).any()}
    assert chosen.keys() - complete.keys() == {"m0", "m1", "m2", "m3"}
    with_models, without = results(table, chosen), results(table, complete)
    for key, result in without.items():
        assert result.questions == with_models[key].questions
        np.testing.assert_allclose(result.lead, with_models[key].lead, atol=1e-12)
        np.testing.assert_allclose(result.gap_recovered, with_models[key].gap_recovered, atol=1e-9)


def test_results_of_no_question_are_not_recorded() -> None:
    table = masked_table()
    evaluation = evaluate_policies(table, evaluated(table), "test", dict.fromkeys(BENCHMARKS, False), ALPHA, "run", "suite")
    rows = {(row["policy"], row["benchmark"]): row for row in evaluation_rows(evaluation)}
    assert ("m3", "toy1") not in rows
    assert len(rows) == len(evaluation.results) - 1
    assert rows["m2", "toy1"]["questions"] == 1
    assert all(math.isfinite(row["quality"]) and math.isfinite(row["lead"]) for row in rows.values())
