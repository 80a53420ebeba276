"""Means over questions, and over training seeds, with bootstrap intervals. Knows nothing of routers (pure).

A value that a question lacks is nan: means and intervals are then over the questions that have it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from toolkit.replay.table import Floats, Ints

RESAMPLES = 2000
RESAMPLE_BATCH = 200
"""Resamples that are drawn together, which limits the memory."""
TIE = 1e-9
"""Rewards that differ by at most this are equal."""


class Estimate(NamedTuple):
    """A mean over questions and its 95% interval.

    Attributes:
        mean: The mean; nan without any question.
        low: Lower end of the interval; nan with fewer than two questions.
        high: Upper end, likewise.
    """

    mean: float
    low: float
    high: float


class Resampled(NamedTuple):
    """Means over the questions of one benchmark, `(values,)`, and over bootstrap resamples of them, `(values, RESAMPLES)`."""

    mean: Floats
    replicates: Floats


class Covered(NamedTuple):
    """Values that the same questions have: places of the values, `(values,)`, and of the questions, `(questions,)`."""

    values: Ints
    questions: Ints


def has_gaps(values: Floats) -> bool:
    """Return whether any value is nan on some questions but not on all, `(values, questions)`."""
    missing = np.isnan(values)
    return bool((missing.any(1) & ~missing.all(1)).any())


def group_by_coverage(values: Floats) -> list[Covered]:
    """Group values that are nan on the same questions; those without any question are in no group, `(values, questions)`."""
    patterns: dict[bytes, list[int]] = {}
    covered: npt.NDArray[np.bool_] = ~np.isnan(values)
    for place, pattern in enumerate(np.packbits(covered, axis=1)):
        patterns.setdefault(pattern.tobytes(), []).append(place)
    groups = [Covered(np.array(places), np.flatnonzero(covered[places[0]])) for places in patterns.values()]
    return [group for group in groups if len(group.questions)]


def resample(values: Floats, seed: int = 0) -> Resampled:
    """Resample the questions of one benchmark, all values of a question together, so that differences stay paired.

    Args:
        values: Values of each question, `(values, questions)`; nan where a question lacks one.
        seed: Seed of the resampling.
    """
    n = values.shape[1]
    if has_gaps(values):
        return _resample_with_gaps(values, seed)
    if n < 2:
        return Resampled(mean=values.mean(1), replicates=np.full((len(values), RESAMPLES), np.nan))
    replicates = [values @ (counts.T / n) for counts in _draw_counts(n, seed)]
    return Resampled(mean=values.mean(1), replicates=np.concatenate(replicates, axis=1))


def _resample_with_gaps(values: Floats, seed: int) -> Resampled:
    """Resample values that some questions lack: each resample has the questions of all others, and those that lack it drop out.

    A resample without any of a value's questions has one of them at random.
    """
    mean, replicates = np.full(len(values), np.nan), np.full((len(values), RESAMPLES), np.nan)
    groups = [(group, values[np.ix_(*group)]) for group in group_by_coverage(values)]
    for group, part in groups:
        mean[group.values] = part.mean(1)
    rng = np.random.default_rng(seed)
    for batch, counts in enumerate(_draw_counts(values.shape[1], seed)):
        columns = np.arange(batch * RESAMPLE_BATCH, (batch + 1) * RESAMPLE_BATCH)
        for group, part in groups:
            if len(group.questions) > 1:
                weights = counts[:, group.questions]
                empty = np.flatnonzero(~weights.any(1))
                weights[empty, rng.integers(0, len(group.questions), len(empty))] = 1
                replicates[np.ix_(group.values, columns)] = part @ (weights.T / weights.sum(1))
    return Resampled(mean=mean, replicates=replicates)


def _draw_counts(questions: int, seed: int) -> Iterator[Ints]:
    """Draw how often each question is in each resample, `(RESAMPLE_BATCH, questions)` at a time.

    `rng.multinomial` would draw these counts directly, but takes 4 to 5 times as long (200 to 10,000 questions, 75 values).
    """
    rng, offsets = np.random.default_rng(seed), questions * np.arange(RESAMPLE_BATCH)[:, None]
    for _ in range(0, RESAMPLES, RESAMPLE_BATCH):
        sample = rng.integers(0, questions, (RESAMPLE_BATCH, questions))
        counts = np.bincount((sample + offsets).ravel(), minlength=RESAMPLE_BATCH * questions)
        yield counts.reshape(RESAMPLE_BATCH, questions)


def macro_average(values: Sequence[Floats], resampled: Sequence[Resampled]) -> Resampled:
    """Return the unweighted mean of benchmark means, over the benchmarks that have a value; each is resampled separately.

    A bootstrap of n questions has (n - 1) / n of the variance of their mean. This adds up over many small benchmarks, so that
    each one's resamples are rescaled (Rao and Wu 1988). A benchmark of one question shows no variance at all: it is given
    deviations from the pool of all others, like the collapsed strata of survey sampling (Cochran 1977, 5A.12).

    Args:
        values: Values of each question of every benchmark, `(values, questions)`; nan where a question lacks one.
        resampled: The same benchmarks, resampled.
    """
    together = np.concatenate(values, axis=1)
    if not has_gaps(together):
        return _macro_average(values, resampled)
    mean, replicates = np.full(len(together), np.nan), np.full((len(together), RESAMPLES), np.nan)
    for places, questions in group_by_coverage(together):
        covered = np.zeros(together.shape[1], dtype=np.bool_)
        covered[questions] = True
        own = np.split(covered, np.cumsum([part.shape[1] for part in values])[:-1])
        parts = [n for n, present in enumerate(own) if present.any()]
        average = _macro_average(
            [values[n][places][:, own[n]] for n in parts],
            [Resampled(resampled[n].mean[places], resampled[n].replicates[places]) for n in parts],
        )
        mean[places], replicates[places] = average
    return Resampled(mean=mean, replicates=replicates)


def _macro_average(values: Sequence[Floats], resampled: Sequence[Resampled]) -> Resampled:
    """Return the macro average of values that all questions have."""
    if len(resampled) == 1:
        return resampled[0]
    mean = np.mean([benchmark.mean for benchmark in resampled], axis=0)
    deviations = _pooled_deviations(values, mean)
    rng = np.random.default_rng(len(resampled))
    total = np.zeros_like(resampled[0].replicates)
    for questions, benchmark in zip(values, resampled, strict=True):
        n = questions.shape[1]
        if n > 1:
            total += benchmark.mean[:, None] + (benchmark.replicates - benchmark.mean[:, None]) * np.sqrt(n / (n - 1))
        else:
            total += benchmark.mean[:, None] + deviations[:, rng.integers(0, deviations.shape[1], RESAMPLES)]
    return Resampled(mean=mean, replicates=total / len(resampled))


def overall(values: Floats, benchmark: Ints) -> tuple[Resampled, Resampled]:
    """Return the macro average of values, the mean of benchmarks, and their micro average, the mean of questions.

    Calls for the same questions resample alike, so that their differences are paired.

    Args:
        values: Values of each question, `(values, questions)`; nan where a question lacks one.
        benchmark: The benchmark of each question, `(questions,)`.
    """
    parts = [values[:, benchmark == n] for n in np.unique(benchmark)]
    macro = macro_average(parts, [resample(part, seed) for seed, part in enumerate(parts)])
    return macro, resample(values, len(parts)) if len(parts) > 1 else macro


def combine_seeds(resampled: Resampled, seeds: int) -> Resampled:
    """Average values over training seeds, and resample the seeds as well as the questions.

    Questions and seeds are crossed: every seed's router routes every question. Each is drawn with replacement, independently
    of the other, which is the pigeonhole bootstrap (Owen 2007, Annals of Applied Statistics 1(2)). With so few seeds, their
    deviations are rescaled (Rao and Wu 1988). A single seed shows no variance, so that intervals are over questions alone.

    Args:
        resampled: Values with resampled questions, those of the first seed first, `(seeds * values,)`.
        seeds: Number of seeds.
    """
    if seeds == 1:
        return resampled
    by_seed = resampled.replicates.reshape(seeds, -1, resampled.replicates.shape[-1])
    counts = np.random.default_rng(seeds).multinomial(seeds, np.full(seeds, 1 / seeds), by_seed.shape[-1])
    mean = by_seed.mean(0)
    deviations = np.einsum("svr,rs->vr", by_seed, counts / seeds) - mean
    replicates = mean + deviations * np.sqrt(seeds / (seeds - 1))
    return Resampled(mean=resampled.mean.reshape(seeds, -1).mean(0), replicates=replicates)


def _pooled_deviations(values: Sequence[Floats], mean: Floats) -> Floats:
    """Return the deviations of questions from their benchmark's mean, `(values, questions)`, with the variance of a question.

    They come from the benchmarks of several questions; if there are none, they are those of all questions from the mean.
    """
    several = [questions for questions in values if questions.shape[1] > 1]
    if several:
        deviations = np.concatenate([questions - questions.mean(1, keepdims=True) for questions in several], axis=1)
    else:
        deviations = np.concatenate(values, axis=1) - mean[:, None]
    n = deviations.shape[1]
    return np.asarray(deviations * np.sqrt(n / (n - max(len(several), 1))))


def estimates_of(resampled: Resampled) -> list[Estimate]:
    """Return each value with its 95% interval."""
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(resampled.replicates, [2.5, 97.5], axis=1)
    return [Estimate(*map(float, bounds)) for bounds in zip(resampled.mean, low, high, strict=True)]


def quotient(resampled: Resampled, numerators: int | Ints, denominators: Ints) -> Resampled:
    """Divide values by others, given their places, resample by resample; nan if a denominator is negative, or both are 0."""

    def divide(values: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values[denominators] < 0, np.nan, values[numerators] / values[denominators])

    return Resampled(mean=divide(resampled.mean), replicates=divide(resampled.replicates))


def evenly_spread(values: Sequence[float] | Floats, most: int) -> Floats:
    """Return all values, or of more than `most` that many, evenly spread by their places; the first and last are among them."""
    places = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(np.int64)
    return np.asarray(values, dtype=np.float64)[np.unique(places)]


def superiority(left: Floats, right: Floats) -> Floats:
    """Return for each question whether `left` is the higher of two rewards: 1 or 0, a half if they are equal, nan if one is."""
    difference = left - right
    return np.where(np.abs(difference) <= TIE, 0.5, np.heaviside(difference, 0.5))
