"""Claims about many benchmarks: p-values from a bootstrap, corrected for their number (pure)."""

from collections.abc import Mapping

import numpy as np

from toolkit.replay.table import Floats, Ints
from toolkit.routing.statistics import Resampled

LEVEL = 0.05
"""Probability of any false claim among the benchmarks that are compared."""
TOLERANCE = 1e-12
"""Values and standard errors of at most this are nothing but rounding."""


def bootstrap_p_values(resampled: Resampled, questions: int | Ints) -> Floats:
    """Return the two-sided p-value of every value against 0, `(values,)`; nan where there is no interval.

    The statistic is the value divided by its bootstrap standard error, by Student's t with `questions - 1` degrees of freedom
    (Efron and Tibshirani 1993, chapter 12). A share of resamples below 0 would be no smaller than 1 / RESAMPLES, too large to
    correct for 50 benchmarks. A value without any variance is certain: its p-value is 0, or 1 if the value is 0.

    Args:
        resampled: The values, with their resamples.
        questions: Number of questions that they are means over: one for all, or of each, `(values,)`.
    """
    from scipy.stats import t

    several = np.broadcast_to(questions, len(resampled.mean)) > 1
    freedom = np.maximum(np.asarray(questions) - 1, 1)
    error = resampled.replicates.std(axis=1) * np.sqrt((freedom + 1) / freedom)
    statistic = np.divide(
        np.abs(resampled.mean), error, out=np.where(np.abs(resampled.mean) > TOLERANCE, np.inf, 0.0), where=error > TOLERANCE
    )
    p_values: Floats = np.where(several, 2 * t.sf(statistic, freedom), np.nan)
    return p_values


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values by Holm's step-down correction (Holm 1979, Scandinavian Journal of Statistics 6(2)).

    The smallest of m p-values is multiplied by m, the next one by m - 1, and so on; none becomes smaller than the one before.
    Claims whose adjusted p-value is below a level are all true with at least the remaining probability. Values of nan take no
    part and stay nan.
    """
    ordered = sorted((p, name) for name, p in p_values.items() if p == p)
    adjusted, largest = dict.fromkeys(p_values, float("nan")), 0.0
    for n, (p, name) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - n) * p))
        adjusted[name] = largest
    return adjusted
