"""Plots cost and quality of routers and baselines."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.core.files import atomic_path
from toolkit.core.text import printable
from toolkit.replay.exact import Curve, Outcome
from toolkit.routing.aiq import hull
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.policies import SAMPLED
from toolkit.routing.sweep_metrics import Point, PolicyMetrics, Scores
from toolkit.routing.swept import Swept

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Style = tuple[str, str, str]
"""Colour, line and marker of a router."""
INTERPOLATED = 50
"""Places at which a segment of a line is looked at when labels are placed."""
LABEL_PLACES = (((6, -11), "left"), ((-6, 6), "right"), ((6, -22), "left"), ((-6, 17), "right"))
"""Where the label of a point may be, in points from it, and its horizontal alignment; the first free place is used."""
MAX_MODELS = 12
"""Models that are shown with a marker of their own."""
DATES = {"pdf": "CreationDate", "svg": "Date"}
"""The date in a file's metadata, by format; it is left out, so that equal data give equal files."""
MAX_LABELS = 8
"""Points of the learned router that are labelled with their alpha."""
MODEL_MARKERS = "^sDvPX*<>"
"""Markers of the models, in turn; colours are for routers."""
ROUTER_STYLES = (("#0072B2", "-", "o"), ("#E69F00", "--", "s"), ("#009E73", "-.", "^"), ("#CC79A7", ":", "D"))
"""Colours (Okabe and Ito's, for all kinds of colour vision), lines and markers of routers, in turn: the learned one first."""
SETTINGS = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "toolkit",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
"""Text in vector formats stays text, equal data give equal files, and a dollar sign in a name is a dollar sign."""


def cost_quality(
    scores: Scores,
    oracle: Curve,
    models: Sequence[str],
    path: Path,
    algorithm: str = "router",
) -> None:
    """Draw a sweep on the test split: fixed paths, models, and what routers and the oracle reach by mixing their points.

    Every line is the same kind of line, the hull whose mean height AIQ is: a mixture of two points chooses between them at
    random on each question, and the cheapest fixed path is a point of every router. So no router is above the oracle.

    Args:
        scores: The figures of the sweep. Lines go from its cheapest fixed path to the cost of its most expensive one; of the
            fitted baselines, those with the highest AIQ are shown.
        oracle: The oracle on the same split.
        models: Names of the pool.
        path: The file to write; its suffix is the format.
        algorithm: What the learned router is called.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kind, swept, points = path.suffix[1:].lower(), scores.swept, scores.points
    with plt.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # such a name is shown as boxes
        figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
        legend: dict[str, Any] = {**_draw_fixed_paths(axes, points, models, swept.questions)}
        cheapest, highest = _range(swept)
        legend["oracle (hindsight)"] = _draw_mixtures(axes, [oracle.outcome, cheapest], highest, "0.35", (0, (1, 1)))
        name, zero_router = list(swept.zero_routers.items())[-1]  # of fixed paths, whose points the oracle has, too
        means = Outcome(zero_router.macro.quality.mean, zero_router.macro.cost.mean)
        legend[name] = _draw_mixtures(axes, [means, cheapest], highest, "0.6", (0, (6, 2)))
        routers = [swept.router, *swept.others]
        shown = [*routers, *best_baselines(scores.metrics)][: max(len(ROUTER_STYLES), len(routers))]
        for policy, style in zip(shown, cycle(ROUTER_STYLES), strict=False):
            line = sorted((point for point in points if point.policy == policy), key=lambda point: point.alpha)
            label = algorithm + " (sampled)" * (policy == SAMPLED) if policy == swept.router else policy
            legend[label] = _draw_router(axes, line, cheapest, highest, style)
        axes.set_xlabel("mean cost C of a question, in cost units")
        axes.set_ylabel("mean quality Q")
        labels = [_drawable(label) for label in legend]
        over = "questions, seeds" if swept.seeds > 1 else "questions"
        notes = f"Lines: what mixtures of points reach.\nBars: 95% intervals over {over}."
        place = {"loc": "outside right upper", "alignment": "left"}
        figure.legend(legend.values(), labels, title=notes, title_fontsize="x-small", fontsize="small", frameon=False, **place)
        _label_alphas(figure, axes, [point for point in points if point.policy == swept.router])
        with atomic_path(path) as draft:
            figure.savefig(draft, format=kind, dpi=150, metadata={DATES[kind]: None} if kind in DATES else None)
        plt.close(figure)


def best_baselines(metrics: Mapping[str, PolicyMetrics]) -> list[str]:
    """Return the fitted baselines with the highest AIQ, as many as there are styles for, in the order of the results."""
    fitted = [baseline.name for baseline in registered_baselines() if baseline.fitted and baseline.name in metrics]
    best = sorted(fitted, key=lambda name: -metrics[name].aiq.mean)[: len(ROUTER_STYLES) - 1]
    return [name for name in fitted if name in best]


def _range(swept: Swept) -> tuple[Outcome, float]:
    """Return the cheapest fixed path, `(1,)`, and the cost of the most expensive one."""
    quality, cost = swept.range.macro.quality.mean, swept.range.macro.cost.mean
    return Outcome(quality=quality[:1], cost=cost[:1]), float(cost[1])


def _draw_fixed_paths(axes: "Axes", points: Sequence[Point], models: Sequence[str], questions: int) -> dict[str, "Artist"]:
    """Draw each model, and paths of several hops; return what stands for them in the legend.

    Points that lack some of the questions cannot be compared with others: of such models the legend says how many they have,
    and such paths are left out.
    """
    fixed = {
        point.policy: point
        for point in points
        if " > " in point.policy or point.policy in models or point.policy.rpartition(" x")[0] in models
    }
    several = [point for point in fixed.values() if point.policy not in models and point.questions == questions]
    handles: dict[str, Artist] = {}
    if several:
        costs, qualities = [point.cost.mean for point in several], [point.quality.mean for point in several]
        handles["fixed paths"] = axes.scatter(costs, qualities, s=8, color="0.75", zorder=1)
    for model, marker in zip(models[:MAX_MODELS], cycle(MODEL_MARKERS), strict=False):
        if model in fixed:
            place, own = (fixed[model].cost.mean, fixed[model].quality.mean), fixed[model].questions
            label = model if own == questions else f"{model} ({own:,} of {questions:,} questions)"
            handles[label] = axes.scatter(*place, marker=marker, s=40, color="0.3", facecolor="none", zorder=4)
    return handles


def _draw_router(
    axes: "Axes", line: Sequence[Point], cheapest: Outcome, highest: float, style: Style
) -> "tuple[Artist, Artist]":
    """Draw a router: its points with their intervals, and what mixtures of them reach."""
    color, dashes, marker = style
    quality, low, high = np.array([point.quality for point in line]).T
    cost = np.array([point.cost.mean for point in line])
    axes.errorbar(
        cost,
        quality,
        np.nan_to_num([quality - low, high - quality]).clip(0),
        fmt="none",
        ecolor=color,
        elinewidth=0.7,
        alpha=0.5,
    )
    handle = _draw_mixtures(axes, [Outcome(quality=quality, cost=cost), cheapest], highest, color, dashes)
    (markers,) = axes.plot(cost, quality, marker, color=color, markersize=4)
    return (handle, markers)


def _draw_mixtures(axes: "Axes", outcomes: Sequence[Outcome], highest: float, color: str, dashes: Any) -> "Artist":
    """Draw the hull of points, on to the highest cost."""
    corners = hull(Outcome(*(np.concatenate(values) for values in zip(*outcomes, strict=True))))
    cost, quality = np.append(corners.cost, max(highest, corners.cost[-1])), np.append(corners.quality, corners.quality[-1])
    (handle,) = axes.plot(cost, quality, color=color, linestyle=dashes, linewidth=1.5)
    return handle


def _label_alphas(figure: "Figure", axes: "Axes", points: Sequence[Point]) -> None:
    """Label points with their alpha, from both ends of the range inwards, where a label covers no line, point or label."""
    figure.draw_without_rendering()
    paths = [line.get_path().interpolated(INTERPOLATED) for line in axes.lines]
    covered = np.concatenate([axes.transData.transform(path.vertices) for path in paths])
    ordered = sorted(points, key=lambda point: point.alpha)
    steps = {round(n) for n in np.linspace(0, len(ordered) - 1, 2 * MAX_LABELS)} if ordered else set()
    boxes: list[Bbox] = []
    for point in (ordered[n] for n in sorted(steps, key=lambda n: min(n, len(ordered) - 1 - n))):
        for offset, alignment in LABEL_PLACES:
            label = axes.annotate(
                f"\u03b1 = {point.alpha:.3g}", (point.cost.mean, point.quality.mean), offset, textcoords="offset points",
                fontsize="x-small", horizontalalignment=alignment,
            )  # fmt: skip
            box = label.get_window_extent().padded(3)
            is_free = axes.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and not box.count_contains(covered)
            if is_free and len(boxes) < MAX_LABELS and not any(box.overlaps(other) for other in boxes):
                boxes.append(box)
                break
            label.remove()


def _drawable(label: str) -> str:
    """Return a label that a legend shows: control characters escaped, and not left out for a leading underscore."""
    text = printable(label)
    return f" {text}" if text.startswith("_") else text
