"""RouterArena's score and CostSave: single numbers for the trade-off between quality and cost (pure)."""

import numpy as np

from toolkit.replay.table import Floats

ARENA_WEIGHT = 0.1
"""RouterArena's beta: the weight of quality in its harmonic mean with cheapness."""
ARENA_COSTS = (0.0044, 200.0)
"""The prices of 1,000 questions, in US dollars, at which RouterArena's cheapness is 1 and 0."""


def arena_score(quality: Floats, price: Floats) -> Floats:
    """Return RouterArena's score, in [0, 1]: a weighted harmonic mean of quality and cheapness.

    `S = (1 + beta) * A * C / (beta * A + C)`, with quality A, `C = log2(high / price) / log2(high / low)`, and prices clipped
    to `ARENA_COSTS` (Lu et al. 2025, arXiv 2510.00202; `compute_arena_score` of `llm_evaluation/run.py` in
    RouteWorks/RouterArena). Its leaderboard shows it in percent.

    Args:
        quality: Mean quality.
        price: Mean price of 1,000 questions in US dollars, of the same shape.
    """
    low, high = ARENA_COSTS
    cheapness = np.log2(high / np.clip(price, low, high)) / np.log2(high / low)
    total = ARENA_WEIGHT * quality + cheapness
    score = (1 + ARENA_WEIGHT) * quality * cheapness
    scores: Floats = np.divide(score, total, out=np.zeros(np.shape(total)), where=total > 0)
    return scores


def cost_save(quality: Floats, cost: Floats, model_quality: float, model_cost: float) -> float:
    """Return CostSave: the largest saving in cost, as a part of the best single model's, among points of at least its quality.

    LLMRouterBench (Li et al. 2026, arXiv 2601.07206) defines it as the maximal reduction in cost while the accuracy of the best
    single model is maintained. It is nan if no point has that quality, or if the model costs nothing; below 0 if all points
    that have it cost more.

    Args:
        quality: Mean quality of each point, `(points,)`.
        cost: Mean cost of each.
        model_quality: Mean quality of the best single model.
        model_cost: Its mean cost, in the same unit.
    """
    costs = cost[quality >= model_quality - 1e-9]
    return float(1 - costs.min() / model_cost) if len(costs) and model_cost > 0 else float("nan")
