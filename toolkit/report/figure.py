"""Composes figures of a paper's width: points with intervals, lines, labels that cover nothing, and a legend."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from toolkit.core.text import printable
from toolkit.replay.exact import Outcome
from toolkit.replay.table import Floats
from toolkit.routing.sweep_metrics import Point

if TYPE_CHECKING:
    import polars as pl

WIDTHS = {1: 241, 2: 504}
"""Width of one and of two columns of a paper, in points (3.35 and 7 inches)."""
HEIGHTS = {1: 180, 2: 250}
"""Height of the plot itself, in points."""
LEGEND_WIDTH = 168
"""Width of a legend beside the plot, in points."""
MARGINS = 46
"""Room for the vertical axis and its title, in points."""
GAP = 10
"""Room between the plot and the legend."""
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""vl-convert brings the first one along, so that figures look alike on every machine; an SVG may be shown with another one."""
FONT_SIZE = 8
LINE_HEIGHT = 12
"""Height of a line of the legend, in points."""
LETTER_WIDTH = 0.56
"""Mean width of a letter, in font sizes: a little more than Liberation Sans has."""
PNG_SCALE = 300 / 72
"""Pixels per point of a PNG: 300 dots per inch."""
LEGEND_ORDER = ("router", "line", "model", "fixed paths")
"""Kinds of series in a legend."""
MAX_LABELS = 8
"""Points of a series that are labelled with their alpha."""
INTERPOLATED = 50
"""Places at which a segment of a line is looked at when labels are placed."""
LABEL_SHIFTS = (
    (5, 8, 0), (-5, -8, 1), (5, -8, 0), (-5, 8, 1), (0, -18, 0.5), (0, 18, 0.5), (5, 18, 0), (-5, -18, 1), (5, -18, 0),
)  # fmt: skip
"""Where a label may be: points to the right of and below its point, and the share of its width that is left of there."""


@dataclass(frozen=True)
class Series:
    """Points and a line of one name.

    Attributes:
        name: What the legend calls it.
        kind: `router`, `line`, `model` or `fixed paths`.
        points: Its points.
        line: Corners of its line, `(corners,)`; None for none.
        color: Its colour.
        dashes: Dashes of its line, in points.
        shape: Marker of its points.
        labelled: Whether points are labelled with their alpha.
    """

    name: str
    kind: str
    points: Sequence[Point]
    line: Outcome | None
    color: str
    dashes: tuple[int, ...] = (1, 0)
    shape: str = "circle"
    labelled: bool = False


class Figure(NamedTuple):
    """A chart of Vega-Altair, and what it shows."""

    chart: Any
    data: "pl.DataFrame"


class Frame(NamedTuple):
    """The plot's size, in points, the ranges of its axes, and the title of the horizontal one."""

    width: float
    height: float
    cost: tuple[float, float]
    quality: tuple[float, float]
    title: str

    def place(self, cost: Floats, quality: Floats) -> Floats:
        """Return where costs and qualities are, in points from the top left corner, `(points, 2)`."""
        x = (cost - self.cost[0]) / (self.cost[1] - self.cost[0]) * self.width
        y = (self.quality[1] - quality) / (self.quality[1] - self.quality[0]) * self.height
        return np.stack([x, y], axis=-1)

    def values(self, places: Floats) -> Floats:
        """Return the costs and qualities at places, `(points, 2)`."""
        cost = self.cost[0] + places[:, 0] / self.width * (self.cost[1] - self.cost[0])
        quality = self.quality[1] - places[:, 1] / self.height * (self.quality[1] - self.quality[0])
        return np.stack([cost, quality], axis=-1)


def compose(series: Sequence[Series], notes: Sequence[str], cost: str, columns: int = 2) -> Any:
    """Return the chart of some series: cost on the horizontal axis, quality on the vertical one.

    Args:
        series: What to draw, the last on top.
        notes: Sentences above the legend.
        cost: Title of the horizontal axis.
        columns: Width, in columns of a paper with two: 1 or 2. The legend is beside the plot in two columns, below it in one.
    """
    import altair as alt

    legend_width = LEGEND_WIDTH if columns > 1 else WIDTHS[1] - MARGINS
    width = WIDTHS[columns] - MARGINS - (legend_width + GAP if columns > 1 else 0)
    frame = Frame(width, HEIGHTS[columns], *_ranges(series), cost)
    charts = [chart for part in series for chart in _series_marks(part, frame)]
    labels = [label for part in series if part.labelled for label in _labels(part, series, frame)]
    plot = alt.layer(*charts, *_texts(labels, frame)).properties(width=frame.width, height=frame.height)
    legend = _legend(series, notes, legend_width)
    chart = alt.hconcat(plot, legend, spacing=GAP) if columns > 1 else alt.vconcat(plot, legend, spacing=GAP)
    return chart.configure(font=FONT, padding=2).configure_view(stroke=None).configure_concat(spacing=GAP).configure_axis(
        labelFontSize=FONT_SIZE, titleFontSize=FONT_SIZE + 1, titleFontWeight="normal", grid=False, tickSize=3,
        domainColor="black", tickColor="black", titlePadding=5,
    )  # fmt: skip


def write_figure(chart: Any, path: Path, kind: str) -> None:
    """Write a chart as pdf (fonts embedded), svg or png (300 dots per inch).

    Equal charts give equal files, except for the order in which a PDF lists its fonts.
    """
    import vl_convert

    spec, version = chart.to_json(indent=None), vl_version()
    if kind == "svg":
        path.write_text(vl_convert.vegalite_to_svg(spec, version, allowed_base_urls=[]), "utf-8")
    elif kind == "pdf":
        path.write_bytes(vl_convert.vegalite_to_pdf(spec, version, allowed_base_urls=[]))
    else:
        path.write_bytes(vl_convert.vegalite_to_png(spec, version, scale=PNG_SCALE, ppi=72, allowed_base_urls=[]))


def vl_version() -> str:
    """Return the version of Vega-Lite for which Altair writes charts, as vl-convert names it: `6.1`."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def _marks(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a chart of some rows, without a mark yet."""
    import altair as alt

    return alt.Chart(alt.InlineData(values=list(rows)))


def _ranges(series: Sequence[Series]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ranges of cost and quality that hold every point, interval and line, with some room around them."""
    ranges = []
    for measure in ("cost", "quality"):
        estimates = np.array([getattr(point, measure) for part in series for point in part.points])
        estimates = (estimates if measure == "quality" else estimates[:, :1]).reshape(-1)  # bars are vertical
        lines = [getattr(part.line, measure) for part in series if part.line]
        values = np.concatenate([estimates[np.isfinite(estimates)], *lines])
        low, high = float(values.min()), float(values.max())
        room = 0.04 * (high - low) or 0.05
        ranges.append((low - room, high + room))
    return ranges[0], ranges[1]


def _series_marks(part: Series, frame: Frame) -> Iterator[Any]:
    """Yield the layers of a series: its line, its intervals, and its points."""
    import altair as alt

    if part.line:
        rows = [{"cost": float(cost), "quality": float(quality)} for quality, cost in zip(*part.line, strict=True)]
        marks = _marks(rows).mark_line(color=part.color, strokeDash=list(part.dashes), strokeWidth=1.5)
        yield marks.encode(**_axes(frame), order=alt.Order("cost:Q"))
    rows = [_row(point) for point in part.points]
    bars = [row for row in rows if "low" in row]
    if bars and part.kind == "router":
        rule = _marks(bars).mark_rule(color=part.color, strokeWidth=0.8, opacity=0.7)
        yield rule.encode(**_axes(frame, "low"), y2="high:Q")
    if rows:
        small = part.kind == "fixed paths"
        points = _marks(rows).mark_point(
            shape=part.shape, size=6 if small else 26, color=part.color, filled=part.kind != "model",
            strokeWidth=1, opacity=1,
        )  # fmt: skip
        yield points.encode(**_axes(frame))


def _row(point: Point) -> dict[str, float]:
    """Return a point as a row of a layer, with its interval if it has one."""
    row = {"cost": float(point.cost.mean), "quality": float(point.quality.mean)}
    if np.isfinite(point.quality.low):
        row |= {"low": float(point.quality.low), "high": float(point.quality.high)}
    return row


def _axes(frame: Frame, quality: str = "quality") -> dict[str, Any]:
    """Return the axes of a layer, whose rows have the quality in a column of that name."""
    import altair as alt

    x_scale, y_scale = (alt.Scale(domain=list(ends), nice=False, zero=False) for ends in (frame.cost, frame.quality))
    return {
        "x": alt.X("cost:Q", title=frame.title, scale=x_scale),
        "y": alt.Y(f"{quality}:Q", title="mean quality Q", scale=y_scale),
    }


class Label(NamedTuple):
    """A text, the place of its left end, and its box (left, top, right, bottom), in points."""

    text: str
    x: float
    y: float
    box: tuple[float, float, float, float]


def _labels(part: Series, series: Sequence[Series], frame: Frame) -> list[Label]:
    """Label points with their alpha, from both ends of the range inwards, where a label covers no line, point or label."""
    covered, ordered = _covered(series, frame), sorted(part.points, key=lambda point: point.alpha)
    steps = {round(n) for n in np.linspace(0, len(ordered) - 1, 2 * MAX_LABELS)} if ordered else set()
    places = frame.place(*np.array([[point.cost.mean for point in ordered], [point.quality.mean for point in ordered]]))
    labels: list[Label] = []
    for n in sorted(steps, key=lambda n: min(n, len(ordered) - 1 - n)):
        for label in _candidates(f"\u03b1 = {ordered[n].alpha:.3g}", *places[n].tolist()):
            if len(labels) < MAX_LABELS and _is_free(label, covered, labels, frame) and _is_nearest(label, places, n):
                labels.append(label)
                break
    return labels


def _candidates(text: str, x: float, y: float) -> Iterator[Label]:
    width, height = LETTER_WIDTH * (FONT_SIZE - 1) * len(text), FONT_SIZE
    for right, below, share in LABEL_SHIFTS:
        left, middle = x + right - share * width, y + below
        yield Label(text, left, middle, (left, middle - height / 2, left + width, middle + height / 2))


def _is_free(label: Label, covered: Floats, labels: Sequence[Label], frame: Frame) -> bool:
    """Return whether a label is within the plot, and covers neither anything drawn nor another label."""
    left, top, right, bottom = label.box
    if left < 0 or top < 0 or right > frame.width or bottom > frame.height:
        return False
    x, y = covered.T
    if ((left - 1 < x) & (x < right + 1) & (top - 1 < y) & (y < bottom + 1)).any():
        return False
    boxes = (other.box for other in labels)
    return not any(left < box[2] and box[0] < right and top < box[3] and box[1] < bottom for box in boxes)


def _is_nearest(label: Label, places: Floats, n: int) -> bool:
    """Return whether no other point of its series is nearer to a label than its own, so that nobody takes it for another's."""
    left, top, right, bottom = label.box
    nearest = np.stack([places[:, 0].clip(left, right), places[:, 1].clip(top, bottom)], axis=-1)
    distances = np.hypot(*(places - nearest).T)
    return bool(distances[n] <= distances.min() + 1)


def _covered(series: Sequence[Series], frame: Frame) -> Floats:
    """Return places that labels must not cover, `(places, 2)`: points, bars and lines."""
    places = []
    for part in series:
        segments = [part.line] if part.line else []
        for point in part.points:
            ends = np.nan_to_num(np.array(point.quality), nan=point.quality.mean)[[1, 0, 2]]
            segments.append(Outcome(quality=ends, cost=np.repeat(point.cost.mean, 3)))
        for quality, cost in segments:
            steps = np.linspace(0, len(cost) - 1, INTERPOLATED * max(len(cost) - 1, 1) + 1)
            corners = np.arange(len(cost))
            places.append(frame.place(np.interp(steps, corners, cost), np.interp(steps, corners, quality)))
    return np.concatenate(places)


def _texts(labels: Sequence[Label], frame: Frame) -> Iterator[Any]:

    if labels:
        places = frame.values(np.array([(label.x, label.y) for label in labels]))
        rows = [
            {"text": label.text, "cost": float(cost), "quality": float(quality)}
            for label, (cost, quality) in zip(labels, places, strict=True)
        ]
        marks = _marks(rows).mark_text(align="left", baseline="middle", fontSize=FONT_SIZE - 1)
        yield marks.encode(**_axes(frame), text="text:N")


def _legend(series: Sequence[Series], notes: Sequence[str], width: float) -> Any:
    """Return the legend as a chart of its own: a line and a marker for each series, beside its name."""
    import altair as alt

    shown = sorted(series, key=lambda part: LEGEND_ORDER.index(part.kind))
    notes = [line for note in notes for line in textwrap.wrap(note, _letters(width))]
    height = LINE_HEIGHT * (len(series) + len(notes))
    x, y = (alt.Scale(domain=domain, nice=False) for domain in ([0, width], [height, 0]))
    axes = {"x": alt.X("x:Q", scale=x, axis=None), "y": alt.Y("y:Q", scale=y, axis=None)}

    def texts(lines: Sequence[tuple[str, float]], left: float, color: str) -> Any:
        rows = [{"x": left, "y": middle, "text": _shortened(text, _letters(width - left))} for text, middle in lines]
        marks = _marks(rows).mark_text(align="left", baseline="middle", fontSize=FONT_SIZE, color=color)
        return marks.encode(**axes, text="text:N")

    middles = [LINE_HEIGHT * (n + 0.5) for n in range(len(notes) + len(series))]
    charts = [texts(list(zip(notes, middles, strict=False)), 0, "#595959")]
    entries = list(zip(shown, middles[len(notes) :], strict=True))
    charts.append(texts([(part.name, middle) for part, middle in entries], 28, "black"))
    for part, middle in entries:
        if part.line:
            ends = _marks([{"x": 0, "y": middle}, {"x": 22, "y": middle}])
            charts.append(ends.mark_line(color=part.color, strokeDash=list(part.dashes), strokeWidth=1.5).encode(**axes))
        if part.points:
            center = _marks([{"x": 11, "y": middle}])
            size = 6 if part.kind == "fixed paths" else 26
            charts.append(
                center.mark_point(
                    shape=part.shape, size=size, color=part.color, filled=part.kind != "model", strokeWidth=1, opacity=1
                ).encode(**axes)
            )
    return alt.layer(*charts).properties(width=width, height=height)


def _letters(width: float) -> int:
    """Return how many letters of a legend fit into a width."""
    return int(width / (0.9 * LETTER_WIDTH * FONT_SIZE))


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else printable(text[: limit - 1].rstrip()) + "\u2026"
