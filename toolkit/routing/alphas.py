"""Places the alphas of a sweep where decisions that can be learned change; docs/design/alphas.md says why there."""

import numpy as np

from toolkit.core.errors import SuiteError
from toolkit.replay.exact import benchmark_weights, curve, frontier, node_outcome
from toolkit.replay.table import Floats, TransitionTable
from toolkit.routing.aiq import aiq, fixed_range
from toolkit.routing.baselines import knn, knn_ngrams, linear
from toolkit.routing.baselines.predictor import lacks_terms
from toolkit.routing.baselines.predictor import predictions as baseline_predictions
from toolkit.suites.suite import Split

DEFAULT_ALPHAS = 21
"""Alphas that `auto_alphas` places by default."""
MAX_ALPHAS = 1000
"""Alphas that one sweep accepts."""
MIN_VALIDATION_QUESTIONS = 30
"""With fewer validation questions, alphas are placed on the training split."""
LAST_LEVEL = 0.99
"""Part of the whole fall in cost that the last alpha reaches; what remains may need an alpha without any limit."""
MAX_ALPHA = 1e100
"""Prices above come from differences of costs that are nothing but rounding."""
SAME_COST = 1e-9
"""Costs that differ by at most this, relative to the highest, are equal."""


def parse_alphas(text: str) -> list[float] | None:
    """Parse `0,0.05,0.1`, in ascending order and without repetitions; None for `auto`.

    Raises:
        SuiteError: The text is not a list of finite numbers from 0 on, or the list is too long.
    """
    if text.strip().lower() == "auto":
        return None
    try:
        alphas = sorted({float(part) + 0.0 for part in text.split(",")})  # -0.0 is 0
    except ValueError:
        alphas = []
    if not alphas or not all(0 <= alpha < np.inf for alpha in alphas):
        raise SuiteError(f"--alphas takes auto, or finite numbers from 0 on, e.g. --alphas 0,0.05,0.1; given: {text!r}.")
    if len(alphas) > MAX_ALPHAS:
        raise SuiteError(f"--alphas takes at most {MAX_ALPHAS} numbers, and each is a router to train; given: {len(alphas)}.")
    return alphas


def auto_alphas(table: TransitionTable, n: int = DEFAULT_ALPHAS, allow_stop: bool = False) -> list[float]:
    """Place alphas at even steps in the cost of decisions that can be learned, from 0 to where they are cheapest.

    Returns:
        `n` alphas in ascending order, the first 0; 0 alone if no alpha changes the cost.
    """
    starts, cost = predicted_costs(table, allow_stop)
    lowest = np.minimum.accumulate(cost)
    falls = (np.diff(lowest, prepend=np.inf) < -SAME_COST * max(float(cost.max()), 1e-300)) & (starts < MAX_ALPHA)
    starts, lowest = starts[falls], lowest[falls]
    if len(starts) < 2:
        return [0.0]
    # A step function is interpolated between the middles of its steps, so that alphas lie on both sides of a jump.
    middles = np.array([0.0, *(starts[1:-1] + starts[2:]) / 2, 2 * starts[-1]])
    fall = (lowest[0] - lowest) / (lowest[0] - lowest[-1])
    alphas = np.interp(np.linspace(0, LAST_LEVEL, n), fall, middles)
    return sorted({float(f"{alpha:.3g}") for alpha in alphas})


def predicted_costs(table: TransitionTable, allow_stop: bool = False) -> tuple[Floats, Floats]:
    """Return where the mean cost of the predictors changes, and that cost from there on, `(segments,)` each.

    The predictors are those of one baseline, with all of its settings: kNN on embeddings or on n-grams, or linear, whichever
    has the highest AIQ. They are fitted on the training split, and their choices are measured on the validation split, exactly
    for all alphas at once.
    """
    split: Split = "validation" if len(table.rows("validation")) >= MIN_VALIDATION_QUESTIONS else "train"
    rows, fits = table.rows(split), [knn.fit, linear.fit_one, *([] if lacks_terms(table, allow_stop) else [knn_ngrams.fit])]
    families = [
        [curve(table, rows, frontier(table, rows, allow_stop, predicted)) for predicted in predictions]
        for predictions in (baseline_predictions(table, split, allow_stop, fit).predicted for fit in fits)
    ]
    cheapest, dearest = node_outcome(table, rows, fixed_range(table, rows, allow_stop)).cost @ benchmark_weights(table, rows)
    if cheapest < dearest:
        areas = [
            np.mean([aiq(each.outcome.cost, each.outcome.quality, cheapest, dearest) for each in curves]) for curves in families
        ]
        families = [families[int(np.argmax(areas))]]
    curves = families[0]
    starts = np.unique(np.concatenate([each.alphas for each in curves]))
    return starts, np.mean([each.at(starts).cost for each in curves], axis=0)
