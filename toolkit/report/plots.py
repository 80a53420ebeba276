"""Plots cost and quality of routers and baselines as figures for a paper: charts of Vega-Altair, written by vl-convert."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.core.files import atomic_path
from toolkit.core.text import printable
from toolkit.replay.costs import Money
from toolkit.replay.exact import Curve, Outcome
from toolkit.report.figure import Figure, Series, compose, write_figure
from toolkit.routing.aiq import hull
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.policies import SAMPLED
from toolkit.routing.statistics import Estimate
from toolkit.routing.sweep_metrics import Point, PolicyMetrics, Scores
from toolkit.routing.swept import Swept

if TYPE_CHECKING:
    import polars as pl

MAX_MODELS = 12
"""Models that are shown with a marker of their own."""
MODEL_SHAPES = ("triangle-up", "square", "diamond", "triangle-down", "cross", "triangle-left", "triangle-right", "circle")
"""Markers of the models, in turn; colours are for routers."""
ROUTER_STYLES = (
    ("#0072B2", (1, 0), "circle"),
    ("#E69F00", (6, 3), "square"),
    ("#009E73", (7, 2, 2, 2), "triangle-up"),
    ("#CC79A7", (2, 2), "diamond"),
)
"""Colours (Okabe and Ito's, for all kinds of colour vision), dashes and markers of routers, in turn: the learned one first."""


def cost_quality(
    scores: Scores, oracle: Curve, models: Sequence[str], path: Path, algorithm: str = "router", columns: int = 2
) -> None:
    """Write the figure of a sweep; see `frontier_figure`.

    Args:
        scores: The figures of the sweep.
        oracle: The oracle on the same split.
        models: Names of the pool.
        path: The file to write; its suffix is the format: .pdf, .svg or .png.
        algorithm: What the learned router is called.
        columns: Width of the figure, in columns of a paper with two: 1 or 2.
    """
    figure = frontier_figure(scores, oracle, models, algorithm, columns)
    with atomic_path(path) as draft:
        write_figure(figure.chart, draft, path.suffix[1:].lower())


def frontier_figure(
    scores: Scores, oracle: Curve, models: Sequence[str], algorithm: str = "router", columns: int = 2
) -> Figure:
    """Draw a sweep on the test split: fixed paths, models, and what routers and the oracle reach by mixing their points.

    Every line is the same kind of line, the hull whose mean height AIQ is: a mixture of two points chooses between them at
    random on each question, and the cheapest fixed path is a point of every router. So no router is above the oracle.

    Args:
        scores: The figures of the sweep. Lines go from its cheapest fixed path to the cost of its most expensive one; of the
            fitted baselines, those with the highest AIQ are shown.
        oracle: The oracle on the same split.
        models: Names of the pool.
        algorithm: What the learned router is called.
        columns: Width of the figure, in columns of a paper with two: 1 or 2.

    Returns:
        The chart, and its data: one row per point, and one per corner of a line. Costs are in cost units or, where the suite
        has a currency, prices of 1,000 questions.
    """
    swept, cost = scores.swept, "mean cost C of a question, in cost units"
    series = list(_series(scores, oracle, models, algorithm))
    if money := scores.money:
        cost = f"mean price of 1,000 questions, in {money.currency}"
        series = [_priced(part, money) for part in series]
    over = "questions and seeds" if swept.seeds > 1 else "questions"
    notes = ["Lines: what mixtures of points reach.", f"Bars: 95% intervals over {over}."]
    return Figure(compose(series, notes, cost, columns), _data(series))


def best_baselines(metrics: Mapping[str, PolicyMetrics]) -> list[str]:
    """Return the fitted baselines with the highest AIQ, as many as there are styles for, in the order of the results."""
    fitted = [baseline.name for baseline in registered_baselines() if baseline.fitted and baseline.name in metrics]
    best = sorted(fitted, key=lambda name: -metrics[name].aiq.mean)[: len(ROUTER_STYLES) - 1]
    return [name for name in fitted if name in best]


def _series(scores: Scores, oracle: Curve, models: Sequence[str], algorithm: str) -> Iterator[Series]:
    """Yield what is drawn, the last on top, which is also the order of the legend."""
    swept, points = scores.swept, scores.points
    cheapest, highest = _range(swept)
    yield from _fixed_paths(points, models, swept.questions)
    yield Series("oracle (hindsight)", "line", [], _mixtures([oracle.outcome, cheapest], highest), "#595959", (1, 2))
    name, zero_router = list(swept.zero_routers.items())[-1]  # of fixed paths, whose points the oracle has, too
    means = Outcome(zero_router.macro.quality.mean, zero_router.macro.cost.mean)
    yield Series(name, "line", [], _mixtures([means, cheapest], highest), "#999999", (8, 3))
    routers = [swept.router, *swept.others]
    shown = [*routers, *best_baselines(scores.metrics)][: max(len(ROUTER_STYLES), len(routers))]
    for policy, (color, dashes, shape) in zip(shown, cycle(ROUTER_STYLES), strict=False):
        line = sorted((point for point in points if point.policy == policy), key=lambda point: point.alpha)
        label = algorithm + " (sampled)" * (policy == SAMPLED) if policy == swept.router else policy
        reached = Outcome(*(np.array([getattr(point, part).mean for point in line]) for part in ("quality", "cost")))
        corners = _mixtures([reached, cheapest], highest)
        yield Series(printable(label), "router", line, corners, color, dashes, shape, labelled=policy == swept.router)


def _priced(part: Series, money: Money) -> Series:
    """Return a series whose costs are prices of 1,000 questions."""
    points = [point._replace(cost=Estimate(*map(money.per_1000, point.cost))) for point in part.points]
    return replace(part, points=points, line=part.line and part.line._replace(cost=money.per_1000(part.line.cost)))


def _range(swept: Swept) -> tuple[Outcome, float]:
    """Return the cheapest fixed path, `(1,)`, and the cost of the most expensive one."""
    quality, cost = swept.range.macro.quality.mean, swept.range.macro.cost.mean
    return Outcome(quality=quality[:1], cost=cost[:1]), float(cost[1])


def _fixed_paths(points: Sequence[Point], models: Sequence[str], questions: int) -> Iterator[Series]:
    """Yield each model, and paths of several hops together.

    Points that lack some of the questions cannot be compared with others: of such models the legend says how many they have,
    and such paths are left out.
    """
    fixed = {
        point.policy: point
        for point in points
        if " > " in point.policy or point.policy in models or point.policy.rpartition(" x")[0] in models
    }
    several = [point for point in fixed.values() if point.policy not in models and point.questions == questions]
    if several:
        yield Series("fixed paths", "fixed paths", several, None, "#b3b3b3")
    for model, shape in zip(models[:MAX_MODELS], cycle(MODEL_SHAPES), strict=False):
        if model in fixed:
            own = fixed[model].questions
            label = model if own == questions else f"{model} ({own:,} of {questions:,} questions)"
            yield Series(printable(label), "model", [fixed[model]], None, "#4d4d4d", shape=shape)


def _mixtures(outcomes: Sequence[Outcome], highest: float) -> Outcome:
    """Return the hull of points, on to the highest cost."""
    corners = hull(Outcome(*(np.concatenate(values) for values in zip(*outcomes, strict=True))))
    cost, quality = np.append(corners.cost, max(highest, corners.cost[-1])), np.append(corners.quality, corners.quality[-1])
    return Outcome(quality=quality, cost=cost)


def _data(series: Sequence[Series]) -> "pl.DataFrame":
    """Return what is drawn as a frame: one row per point, and one per corner of a line."""
    import polars as pl

    rows: list[dict[str, Any]] = []
    for part_of_chart in series:
        name = {"series": part_of_chart.name, "kind": part_of_chart.kind}
        for point in part_of_chart.points:
            rows.append({**name, "part": "point", "policy": point.policy, "alpha": point.alpha, "questions": point.questions})
            for measure in ("cost", "quality"):
                mean, low, high = getattr(point, measure)
                rows[-1] |= {measure: mean, f"{measure}_low": low, f"{measure}_high": high}
        if part_of_chart.line:
            corners = zip(part_of_chart.line.cost.tolist(), part_of_chart.line.quality.tolist(), strict=True)
            rows += [{**name, "part": "line", "cost": cost, "quality": quality} for cost, quality in corners]
    return pl.DataFrame(rows, infer_schema_length=None).fill_nan(None)
