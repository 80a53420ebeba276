"""Means over questions with bootstrap intervals. Knows nothing of routers (pure)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from toolkit.replay.table import Floats, Ints

RESAMPLES = 2000
RESAMPLE_BATCH = 200
"""Resamples that are drawn together, which limits the memory."""
TIE = 1e-9
"""Rewards that differ by at most this are equal."""


class Estimate(NamedTuple):
    """A mean over questions and its 95% interval; the interval is nan if there is only one question."""

    mean: float
    low: float
    high: float


class Resampled(NamedTuple):
    """Means over the questions of one benchmark, `(values,)`, and over bootstrap resamples of them, `(values, RESAMPLES)`."""

    mean: Floats
    replicates: Floats


def resample(values: Floats, seed: int = 0) -> Resampled:
    """Resample the questions of one benchmark, all values of a question together, so that differences stay paired.

    The number of times that each question is in a resample is counted. `rng.multinomial` would draw these counts directly, but
    takes 4 to 5 times as long (200 to 10,000 questions, 75 values).

    Args:
        values: Values of each question, `(values, questions)`.
        seed: Seed of the resampling.
    """
    n = values.shape[1]
    if n < 2:
        return Resampled(mean=values.mean(1), replicates=np.full((len(values), RESAMPLES), np.nan))
    rng, offsets = np.random.default_rng(seed), n * np.arange(RESAMPLE_BATCH)[:, None]
    replicates = []
    for _ in range(0, RESAMPLES, RESAMPLE_BATCH):
        questions = rng.integers(0, n, (RESAMPLE_BATCH, n))
        counts = np.bincount((questions + offsets).ravel(), minlength=RESAMPLE_BATCH * n).reshape(RESAMPLE_BATCH, n)
        replicates.append(values @ (counts.T / n))
    return Resampled(mean=values.mean(1), replicates=np.concatenate(replicates, axis=1))


def macro_average(benchmarks: Sequence[Resampled]) -> Resampled:
    """Return the unweighted mean of benchmark means; each benchmark is resampled separately."""
    return Resampled(
        mean=np.mean([benchmark.mean for benchmark in benchmarks], axis=0),
        replicates=np.mean([benchmark.replicates for benchmark in benchmarks], axis=0),
    )


def estimates_of(resampled: Resampled) -> list[Estimate]:
    """Return each value with its 95% interval."""
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(resampled.replicates, [2.5, 97.5], axis=1)
    return [Estimate(*map(float, bounds)) for bounds in zip(resampled.mean, low, high, strict=True)]


def quotient(resampled: Resampled, numerator: int, denominators: Ints) -> Resampled:
    """Divide one value by others, resample by resample; nan if the denominator is negative, or both are 0."""

    def divide(values: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values[denominators] < 0, np.nan, values[numerator] / values[denominators])

    return Resampled(mean=divide(resampled.mean), replicates=divide(resampled.replicates))


def superiority(left: Floats, right: Floats) -> Floats:
    """Return for each question whether `left` is the higher of two rewards: 1 or 0, or a half if they are equal."""
    return np.where(np.isclose(left, right, rtol=0, atol=TIE), 0.5, left > right)
