"""Plots: cost and quality of routers and baselines."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from toolkit.replay.exact import Curve
from toolkit.routing.sweep import Point

BASELINES = {"kNN": "kNN", "linear": "linear predictor"}
NAMED = 8
"""Points of the learned routers, at most, that have their alpha beside them."""
MARKERS = "^sDvPX*<>"
"""Of the models, in turn; colours are for routers."""


def cost_quality(points: Sequence[Point], frontier: Curve, models: Sequence[str], path: Path, router: str = "router") -> None:
    """Draw a sweep on the test split: the oracle's exact frontier, fixed paths, models, and routers over alpha.

    Args:
        points: What each policy scores at each alpha.
        frontier: The oracle on the same split.
        models: Names of the pool.
        path: The file to write; its ending says the format.
        router: The policy that is drawn as the learned one: `router`, or `router (greedy)`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    axes.step(frontier.outcome.cost, frontier.outcome.quality, where="pre", color="0.3", label="oracle (exact, hindsight)")
    fixed = {p.policy: p for p in points if " > " in p.policy or p.policy.partition(" x")[0] in models}
    multiple = [p for p in fixed.values() if p.policy not in models]
    axes.scatter([p.cost for p in multiple], [p.quality for p in multiple], s=12, color="0.7", label="fixed paths")
    for name, marker in zip(models, cycle(MARKERS), strict=False):
        if name in fixed:
            axes.scatter(fixed[name].cost, fixed[name].quality, marker=marker, color="0.3", facecolor="none", label=name)
    for policy, label in {router: f"learned {router}", **BASELINES}.items():
        line = sorted((p for p in points if p.policy == policy), key=lambda p: p.cost)
        axes.plot([p.cost for p in line], [p.quality for p in line], marker=".", label=label)
        for p in line[:: -(-len(line) // NAMED) or 1] if policy == router else []:
            axes.annotate(
                f"alpha {p.alpha:g}", (p.cost, p.quality), (0, 5), textcoords="offset points", fontsize="x-small", rotation=60
            )
    axes.set_xlabel("mean cost C of a question, cost units")
    axes.set_ylabel("mean quality Q")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
