"""PGR, APGR and CPT: what RouteLLM reports of routers between a weak and a strong model (pure).

Defined by Ong et al. (2024, arXiv 2406.18665, section 2) and computed as in `routellm/evals/evaluate.py` of RouteLLM 0.2:
quality is interpolated linearly between a router's points, ordered by the share of questions that it sends to the strong model.
Every router can send none or all of them there, so that the two models are points of every router. Arrays are `(points,)` or
`(points, resamples)`, and those of one model a number or `(resamples,)`.
"""

import numpy as np

from toolkit.replay.table import Floats


def pgr(quality: Floats, weak: float | Floats, strong: float | Floats) -> Floats:
    """Return the performance gap recovered: where quality lies between that of the weak (0) and of the strong model (1).

    It is nan where the strong model is not the better one.
    """
    gap = np.broadcast_to(np.asarray(strong - weak, dtype=np.float64), np.shape(quality))
    recovered: Floats = np.divide(quality - weak, gap, out=np.full(np.shape(quality), np.nan), where=gap > 0)
    return recovered


def apgr(share: Floats, recovered: Floats) -> Floats:
    """Return the average performance gap recovered: the area below PGR over the share of calls to the strong model.

    A random router has 0.5.

    Args:
        share: Share of questions that each point sends to the strong model, `(points, ...)`.
        recovered: PGR of each point.
    """
    share, recovered = _with_models(share, recovered)
    return np.asarray(np.trapezoid(recovered, share, axis=0))


def cpt(share: Floats, recovered: Floats, level: float) -> Floats:
    """Return the call-performance threshold: the least share of calls to the strong model that recovers `level` of the gap.

    Args:
        share: Share of questions that each point sends to the strong model, `(points, ...)`.
        recovered: PGR of each point.
        level: The part of the gap to recover, above 0 and at most 1; CPT(50%) has 0.5.
    """
    share, recovered = _with_models(share, recovered)
    rise, run = np.diff(recovered, axis=0), np.diff(share, axis=0)
    crosses = (recovered[:-1] < level) & (recovered[1:] >= level)
    part = np.divide(level - recovered[:-1], rise, out=np.zeros_like(rise), where=crosses)
    first: Floats = np.where(crosses, share[:-1] + part * run, np.inf).min(axis=0)
    return np.where(np.isfinite(first), first, np.nan)


def _with_models(share: Floats, recovered: Floats) -> tuple[Floats, Floats]:
    """Add the weak and the strong model to points, and order them by their share of the strong one."""
    ones = np.ones((1, *share.shape[1:]))
    share = np.concatenate([0 * ones, share, ones])
    recovered = np.concatenate([0 * ones, recovered, ones])
    order = np.argsort(share, axis=0, kind="stable")
    return np.take_along_axis(share, order, axis=0), np.take_along_axis(recovered, order, axis=0)
