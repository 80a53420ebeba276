"""Lines: the mean quality and cost of a policy at each of several points, with resamples paired among policies (pure)."""

from typing import NamedTuple

import numpy as np

from toolkit.replay.exact import Outcome
from toolkit.replay.table import Floats, Ints
from toolkit.routing.statistics import Resampled, combine_seeds, overall


class Line(NamedTuple):
    """Points of a policy, such as one for each alpha: `(points,)`, and `(points, RESAMPLES)` for the resamples.

    Attributes:
        quality: Mean quality.
        cost: Mean cost, in cost units.
        strong: Mean share of questions that go to the stronger of two models; nan unless there are two, and one hop.
    """

    quality: Resampled
    cost: Resampled
    strong: Resampled

    def reward(self, alphas: Floats) -> Resampled:
        """Return R = Q - alpha * C of each point at its alpha, `(points,)`."""
        return Resampled(
            mean=self.quality.mean - alphas * self.cost.mean,
            replicates=self.quality.replicates - alphas[:, None] * self.cost.replicates,
        )


class Averages(NamedTuple):
    """A line as the mean of benchmarks, and as the mean of questions."""

    macro: Line
    micro: Line


class Outcomes(NamedTuple):
    """A policy's quality, cost, and share of the strong model at each point, on each question, `(seeds, points, questions)`."""

    quality: Floats
    cost: Floats
    strong: Floats

    def rewards(self, alphas: Floats) -> Floats:
        """Return R = Q - alpha * C of each point at its alpha, `(seeds, points, questions)`."""
        return self.quality - alphas[:, None] * self.cost

    def averages(self, benchmark: Ints) -> Averages:
        """Return the line of the policy, given the benchmark of each question, `(questions,)`."""
        seeds, points, questions = self.quality.shape
        values = np.stack(self, axis=1).reshape(-1, questions)
        macro, micro = (combine_seeds(average, seeds) for average in overall(values, benchmark))
        return Averages(_line(macro, points), _line(micro, points))


def fixed(outcome: Outcome) -> Outcomes:
    """Return the outcomes of choices without a seed, given theirs, `(points, questions)`."""
    quality, cost = (np.asarray(values)[None] for values in outcome)
    return Outcomes(quality=quality, cost=cost, strong=np.full(quality.shape, np.nan))


def _line(average: Resampled, points: int) -> Line:
    measures = [slice(start, start + points) for start in range(0, len(average.mean), points)]
    return Line(*(Resampled(mean=average.mean[measure], replicates=average.replicates[measure]) for measure in measures))
