"""Plots cost and quality of routers and baselines."""

from collections.abc import Sequence
from itertools import cycle
from math import ceil
from pathlib import Path

from toolkit.replay.exact import Curve
from toolkit.routing.baselines import registered_baselines
from toolkit.store import SweepPoint

MAX_LABELLED_POINTS = 8
"""Points of the learned router that are labelled with their alpha."""
MARKERS = "^sDvPX*<>"
"""Markers of the models, in turn; colours are for routers."""


def cost_quality(
    points: Sequence[SweepPoint], frontier: Curve, models: Sequence[str], path: Path, router: str = "router"
) -> None:
    """Draw a sweep on the test split: the oracle's exact frontier, fixed paths, models, and routers over alpha.

    Args:
        points: The scores of every policy at every alpha.
        frontier: The oracle on the same split.
        models: Names of the pool.
        path: The file to write; its suffix is the format.
        router: The policy to draw as the learned one: `router`, or `router (greedy)`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.step(frontier.outcome.cost, frontier.outcome.quality, where="pre", color="0.3", label="oracle (exact, hindsight)")
    fixed = {point.policy: point for point in points if " > " in point.policy or point.policy.partition(" x")[0] in models}
    several_hops = [point for point in fixed.values() if point.policy not in models]
    costs, qualities = [point.cost for point in several_hops], [point.quality for point in several_hops]
    axes.scatter(costs, qualities, s=12, color="0.7", label="fixed paths")
    for model, marker in zip(models, cycle(MARKERS), strict=False):
        if model in fixed:
            place = fixed[model].cost, fixed[model].quality
            axes.scatter(*place, marker=marker, color="0.3", facecolor="none", label=model)
    for policy in [router, *(baseline.name for baseline in registered_baselines() if baseline.question_only)]:
        label = f"learned {router}" if policy == router else policy
        line = sorted((point for point in points if point.policy == policy), key=lambda point: point.cost)
        axes.plot([point.cost for point in line], [point.quality for point in line], marker=".", label=label)
        for point in line[:: ceil(len(line) / MAX_LABELLED_POINTS) or 1] if policy == router else []:
            place = point.cost, point.quality
            axes.annotate(f"alpha {point.alpha:g}", place, (0, 5), textcoords="offset points", fontsize="x-small", rotation=60)
    axes.set_xlabel("mean cost C of a question, cost units")
    axes.set_ylabel("mean quality Q")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
