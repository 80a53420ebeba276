"""Plots: cost and quality of routers and baselines."""

from collections.abc import Sequence
from pathlib import Path

from toolkit.exact import Curve
from toolkit.sweep import Point

LINES = {"router": "learned router", "kNN": "kNN", "linear": "linear predictor"}


def cost_quality(points: Sequence[Point], frontier: Curve, models: Sequence[str], path: Path) -> None:
    """Draw a sweep on the test split: the oracle's exact frontier, fixed paths, models, and routers over alpha.

    Args:
        points: What each policy scores at each alpha.
        frontier: The oracle on the same split.
        models: Names of the pool.
        path: The file to write; its ending says the format.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    axes.step(frontier.outcome.cost, frontier.outcome.quality, where="pre", color="0.3", label="oracle (exact, hindsight)")
    fixed = {p.policy: p for p in points if " > " in p.policy or p.policy.partition(" x")[0] in models}
    multiple = [p for p in fixed.values() if p.policy not in models]
    axes.scatter([p.cost for p in multiple], [p.quality for p in multiple], s=12, color="0.7", label="fixed paths")
    for name in models:
        if name in fixed:
            axes.scatter(fixed[name].cost, fixed[name].quality, marker="^", label=name)
    for policy, label in LINES.items():
        line = sorted((p for p in points if p.policy == policy), key=lambda p: p.cost)
        axes.plot([p.cost for p in line], [p.quality for p in line], marker=".", label=label)
    axes.set_xlabel("mean cost C of a question, cost units")
    axes.set_ylabel("mean quality Q")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
