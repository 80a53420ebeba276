"""The charts of a report: specifications without data, which the page's script draws with the tables of its content.

Parameters called `alpha`, `benchmark`, `policy` and `marked` follow the page's menus.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.report.html.results import SHOWN_PATHS
from toolkit.routing.comparison import OVERALL

if TYPE_CHECKING:
    import altair as alt

HEIGHT = 380
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of routers (Okabe and Ito's, for all kinds of colour vision)."""
DASHES = ([1, 0], [6, 3], [7, 2, 2, 2], [2, 2], [10, 3], [4, 4])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
GREY = "#808080"
"""Of what is no router; legible on white and on black."""
PATH_COLORS = (*COLORS, "#8C8C8C", "#B8A000", "#C8C8C8")
HERE = f"(benchmark == '{OVERALL}' || datum.benchmark == benchmark)"
"""Whether a row is of the chosen benchmark."""
COST, QUALITY = "mean cost C of a question, in cost units", "mean quality Q"


class Sizes(NamedTuple):
    """How many rows charts with names on their vertical axis have: benchmarks with the average, models, and sets of models."""

    benchmarks: int
    models: int
    sets: int


def charts(
    routers: Sequence[str], alphas: Sequence[float], zero_router: str, start: dict[str, Any], sizes: Sizes
) -> dict[str, Any]:
    """Return the specifications of Vega-Lite, by name.

    Args:
        routers: Labels of the routers.
        alphas: The alphas that are shown.
        zero_router: Name of the zero router.
        start: The first value of each menu.
        sizes: Rows of charts; a height that depended on the data would stop a chart from following the page's width.
    """
    named_charts = {
        "frontier": _frontier(routers, zero_router, start, len(alphas)),
        "leads": _leads(start, sizes),
        "gains": _gains(start),
        "paths": _paths(start, sizes),
        "hops": _hops(start, sizes),
        "pairs": _pairs(start, sizes),
        "curves": _curves(routers, start),
        "pool": _pool(sizes),
        "overlap": _overlap(start, sizes),
    }
    return {name: chart.to_dict() for name, chart in named_charts.items()}


def _frontier(routers: Sequence[str], zero_router: str, start: dict[str, Any], n_alphas: int) -> Any:
    import altair as alt

    results, hulls = alt.Chart(alt.NamedData("results")), alt.Chart(alt.NamedData("hulls"))
    domain, count = [*routers, "oracle (hindsight)", zero_router], len(routers)
    legend = alt.Legend(symbolOpacity=1, symbolSize=90, symbolStrokeWidth=1, labelLimit=260)
    color, dash, shape = (
        channel("policy:N", title=None, legend=legend, scale=alt.Scale(domain=domain, range=[*_cycled(values, count), *others]))
        for channel, values, others in (
            (alt.Color, COLORS, [GREY, GREY]), (alt.StrokeDash, DASHES, [[1, 3], [8, 4]]), (alt.Shape, SHAPES, ["stroke"] * 2),
        )
    )  # fmt: skip
    x = alt.X("cost:Q", title=COST, scale=alt.Scale(zero=False), axis=_axis())
    y = alt.Y("quality:Q", title=QUALITY, scale=alt.Scale(zero=False))
    of_benchmark, now = "datum.benchmark == benchmark", "datum.benchmark == benchmark && datum.alpha == alpha"
    own = results.transform_filter(f"{of_benchmark} && datum.kind == 'router'")
    names = _tooltip("policy", "alpha", "quality", "cost", "reward")
    parts = [
        results.transform_filter(f"{now} && datum.kind == 'fixed path'")
        .mark_point(filled=True, size=9, color=GREY, opacity=0.6).encode(x=x, y=y, tooltip=names),
        results.transform_filter(f"{now} && datum.kind == 'baseline'")
        .mark_point(shape="diamond", size=45, color=GREY, opacity=1).encode(x=x, y=y, tooltip=names),
        results.transform_filter(f"{now} && datum.kind == 'model'")
        .mark_point(shape="triangle-up", size=70, color=GREY, opacity=1, strokeWidth=2).encode(x=x, y=y, tooltip=names),
        *([own.mark_area(opacity=0.15).encode(
            x=x, y=alt.Y("quality_low:Q", title=QUALITY), y2="quality_high:Q", color=color)] if n_alphas > 1 else []),
        hulls.transform_filter(of_benchmark).mark_line(strokeWidth=2).encode(
            x=x, y=y, color=color, strokeDash=dash, order="cost:Q"),
        own.mark_rule(strokeWidth=1).encode(x=x, y=alt.Y("quality_low:Q", title=QUALITY), y2="quality_high:Q", color=color),
        own.mark_rule(strokeWidth=1).encode(
            x=alt.X("cost_low:Q", title=COST, axis=_axis()), x2="cost_high:Q", y=y, color=color),
        own.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=color, shape=shape, tooltip=names),
    ]  # fmt: skip
    named = own.transform_filter("datum.policy == policy && datum.alpha == alpha").transform_calculate(
        text="'\u03b1 ' + datum.alpha"
    )
    marked = results.transform_filter(f"{now} && datum.policy == marked")
    parts += [
        named.mark_text(dy=16, fontSize=11).encode(x=x, y=y, text="text:N"),
        marked.mark_point(size=180, strokeWidth=2, opacity=1).encode(x=x, y=y),
        marked.mark_text(dy=22, fontSize=12, fontWeight="bold").encode(x=x, y=y, text="policy:N"),
    ]
    return _menus(alt.layer(*parts), start, "alpha", "benchmark", "policy", "marked").properties(
        width="container", height=HEIGHT
    )


def _leads(start: dict[str, Any], sizes: Sizes) -> Any:
    """Draw the lead over the best baseline by benchmark, with its interval."""
    import altair as alt

    base = alt.Chart(alt.NamedData("results")).transform_filter(
        "datum.alpha == alpha && datum.policy == marked && datum.lead !== null && datum.benchmark != 'overall (questions)'"
    )
    y = alt.Y("benchmark:N", title=None, sort=alt.EncodingSortField("order", op="min"), axis=alt.Axis(labelLimit=150))
    zero = alt.Chart(alt.InlineData(values=[{"lead": 0}])).mark_rule(strokeDash=[4, 3], color=GREY).encode(x="lead:Q")
    rule = base.mark_rule(strokeWidth=2, color=COLORS[0]).encode(
        x=alt.X("lead_low:Q", title="lead in R, with its 95% interval", axis=_axis()), x2="lead_high:Q", y=y
    )
    dots = base.mark_point(filled=True, size=60, color=COLORS[0], opacity=1).encode(
        x="lead:Q", y=y, tooltip=_tooltip("benchmark", "lead", "lead_low", "lead_high", "questions")
    )
    return _menus(alt.layer(zero, rule, dots), start, "alpha", "marked").properties(
        width="container", height=20 * sizes.benchmarks
    )


def _gains(start: dict[str, Any]) -> Any:
    """Draw the gain of a router on every question, in ascending order."""
    import altair as alt

    chart = (
        alt.Chart(alt.NamedData("gains"))
        .transform_filter(f"datum.alpha == alpha && datum.policy == policy && {HERE}")
        .transform_window(rank="row_number()", sort=[alt.SortField("gain")])
        .mark_bar(size=2)
        .encode(
            x=alt.X(
                "rank:Q",
                title="questions, from the largest loss to the largest gain",
                axis=_axis(tickMinStep=1),
                scale=_tight(),
            ),
            y=alt.Y("gain:Q", title="R of the router minus R of the baseline"),
            color=alt.condition("datum.gain < 0", alt.value(COLORS[1]), alt.value(COLORS[0])),
            tooltip=_tooltip("benchmark", "item", "gain", "quality", "rival_quality", "cost", "rival_cost"),
        )
    )
    return _menus(chart, start, "alpha", "benchmark", "policy").properties(width="container", height=240)


def _paths(start: dict[str, Any], sizes: Sizes) -> Any:
    import altair as alt

    chart = (
        alt.Chart(alt.NamedData("paths"))
        .transform_filter("datum.alpha == alpha && datum.policy == policy")
        .transform_aggregate(share="sum(share)", rank="min(rank)", groupby=["benchmark", "group", "order"])
        .mark_bar(stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X("share:Q", title="share of questions", axis=_axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("benchmark:N", title=None, sort=alt.EncodingSortField("order", op="min"), axis=alt.Axis(labelLimit=150)),
            color=alt.Color(
                "group:N", title=None, sort=alt.EncodingSortField("rank", op="min"),
                scale=alt.Scale(range=list(PATH_COLORS[: SHOWN_PATHS + 1])), legend=alt.Legend(labelLimit=300),
            ),
            order="rank:Q",
            tooltip=[*_tooltip("benchmark", "group"), alt.Tooltip("share:Q", format=".1%")],
        )
    )  # fmt: skip
    return _menus(chart, start, "alpha", "policy").properties(width="container", height=20 * sizes.benchmarks)


def _hops(start: dict[str, Any], sizes: Sizes) -> Any:
    """Draw how often the hops of a router's paths mend and spoil the response."""
    import altair as alt

    base = (
        alt.Chart(alt.NamedData("hops"))
        .transform_filter("datum.alpha == alpha && datum.policy == policy")
        .transform_aggregate(hops="sum(hops)", mended="sum(mended)", spoiled="sum(spoiled)", groupby=["benchmark", "order"])
        .transform_fold(["mended", "spoiled"], as_=["change", "times"])
        .transform_calculate(share="datum.times / datum.hops * (datum.change == 'spoiled' ? -1 : 1)")
    )
    y = alt.Y("benchmark:N", title=None, sort=alt.EncodingSortField("order", op="min"), axis=alt.Axis(labelLimit=150))
    bars = base.mark_bar().encode(
        x=alt.X("share:Q", title="spoiled  \u2190  share of further hops  \u2192  mended", axis=_axis(format="%")),
        y=y,
        color=alt.Color(
            "change:N", title=None, scale=alt.Scale(domain=["mended", "spoiled"], range=[COLORS[0], COLORS[1]]), legend=None
        ),
        tooltip=[*_tooltip("benchmark", "change", "times", "hops"), alt.Tooltip("share:Q", format=".1%")],
    )
    return _menus(alt.layer(bars), start, "alpha", "policy").properties(width="container", height=20 * sizes.benchmarks)


def _pairs(start: dict[str, Any], sizes: Sizes) -> Any:
    """Draw the mean change in quality that a second model makes, by the first one."""
    import altair as alt

    base = (
        alt.Chart(alt.NamedData("pairs"))
        .transform_filter(HERE)
        .transform_calculate(total="datum.gain * datum.hops")
        .transform_aggregate(
            total="sum(total)", hops="sum(hops)", mended="sum(mended)", spoiled="sum(spoiled)", groupby=["first", "second"]
        )
        .transform_calculate(gain="datum.total / datum.hops")
    )
    axes = {
        "x": alt.X("second:N", title="then", axis=alt.Axis(labelAngle=0, labelLimit=90)),
        "y": alt.Y("first:N", title="first", axis=alt.Axis(labelLimit=120)),
    }
    cells = base.mark_rect().encode(
        **axes,
        color=alt.Color(
            "gain:Q",
            title="change in Q",
            scale=alt.Scale(domain=[-0.4, 0, 0.4], range=["#e8a15c", "#f2f2f2", "#79b7e3"], clamp=True),
            legend=None,
        ),
        tooltip=[*_tooltip("first", "second", "hops", "mended", "spoiled"), alt.Tooltip("gain:Q", format="+.3f")],
    )
    texts = base.mark_text(color="black").encode(**axes, text=alt.Text("gain:Q", format="+.2f"))
    return _menus(alt.layer(cells, texts), start, "benchmark").properties(width="container", height=34 * sizes.models)


def _curves(routers: Sequence[str], start: dict[str, Any]) -> Any:
    import altair as alt

    count = len(routers)
    chart = (
        alt.Chart(alt.NamedData("curves"))
        .transform_filter("datum.alpha == alpha && datum.curve == curve")
        .mark_line(strokeWidth=1.5, opacity=0.8)
        .encode(
            x=alt.X("step:Q", title="replayed hops", axis=_axis(format="~s")),
            y=alt.Y("value:Q", title="R", scale=alt.Scale(zero=False)),
            color=alt.Color("policy:N", title=None, scale=alt.Scale(domain=list(routers), range=_cycled(COLORS, count))),
            strokeDash=alt.StrokeDash(
                "policy:N", title=None, scale=alt.Scale(domain=list(routers), range=_cycled(DASHES, count))
            ),
            detail="run:N",
            tooltip=_tooltip("run", "step", "value"),
        )
    )
    return _menus(chart, start, "alpha", "curve").properties(width="container", height=260)


def _pool(sizes: Sizes) -> Any:
    """Draw the quality of every model on every benchmark after one hop."""
    import altair as alt

    base = alt.Chart(alt.NamedData("pool"))
    axes = {
        "x": alt.X(
            "model:N",
            title=None,
            sort=alt.EncodingSortField("position", op="min"),
            axis=alt.Axis(labelAngle=0, labelLimit=90, orient="top"),
        ),
        "y": alt.Y("benchmark:N", title=None, sort=alt.EncodingSortField("order", op="min"), axis=alt.Axis(labelLimit=150)),
    }
    cells = base.mark_rect().encode(
        **axes,
        color=alt.Color("quality:Q", scale=alt.Scale(domain=[0, 1], scheme="blues"), legend=None),
        tooltip=_tooltip("benchmark", "model", "quality", "cost", "questions"),
    )
    texts = base.mark_text().encode(
        **axes,
        text=alt.Text("quality:Q", format=".2f"),
        color=alt.condition("datum.quality > 0.6", alt.value("white"), alt.value("black")),
    )
    return alt.layer(cells, texts).properties(width="container", height=22 * sizes.benchmarks)


def _overlap(start: dict[str, Any], sizes: Sizes) -> Any:
    """Draw how many questions each set of models solves after one hop."""
    import altair as alt

    chart = (
        alt.Chart(alt.NamedData("overlap"))
        .transform_filter(HERE)
        .transform_aggregate(questions="sum(questions)", groupby=["solvers"])
        .mark_bar(color=COLORS[0])
        .encode(
            x=alt.X("questions:Q", title="questions", axis=_axis(tickMinStep=1)),
            y=alt.Y("solvers:N", title=None, sort="-x", axis=alt.Axis(labelLimit=190)),
            tooltip=_tooltip("solvers", "questions"),
        )
    )
    return _menus(chart, start, "benchmark").properties(width="container", height=20 * sizes.sets)


def _axis(**options: Any) -> "alt.Axis":
    """Return a horizontal axis with so few labels that they do not collide on a telephone."""
    import altair as alt

    return alt.Axis(tickCount=6, labelOverlap="greedy", labelSeparation=8, **options)


def _tight() -> "alt.Scale":
    import altair as alt

    return alt.Scale(nice=False, zero=False)


def _menus(chart: Any, start: dict[str, Any], *names: str) -> Any:
    import altair as alt

    return chart.add_params(*(alt.param(name=name, value=start[name]) for name in names))


def _tooltip(*names: str) -> list[Any]:
    import altair as alt

    texts = ("policy", "benchmark", "item", "run", "group", "model", "first", "second", "change", "solvers")
    return [alt.Tooltip(f"{name}:N" if name in texts else f"{name}:Q", title=name.replace("_", " ")) for name in names]


def _cycled(values: Sequence[Any], count: int) -> list[Any]:
    return [values[n % len(values)] for n in range(count)]
