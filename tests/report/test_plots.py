"""The figure of cost and quality: what its lines may claim, and what names, labels and formats it stands."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import vl_convert

from tests.toy import make_table
from toolkit.core import tree
from toolkit.core.errors import ToolkitError
from toolkit.replay.costs import Money
from toolkit.replay.exact import curve, fixed_paths, frontier, node_outcome, outcome, path_shares
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.report import figure, plots
from toolkit.report.figure import Figure, write_figure
from toolkit.report.plots import cost_quality, frontier_figure
from toolkit.routing.aiq import fixed_range, zero_routers
from toolkit.routing.lines import Averages, Outcomes, fixed
from toolkit.routing.sweep_metrics import scores_of
from toolkit.routing.swept import Swept, fixed_choices


def random_table(seed: int, models: tuple[str, ...] = ("weak", "strong", "slow"), horizon: int = 2) -> TransitionTable:
    """Make a table with binary scores, two benchmarks of unequal size, and constant or varying prices."""
    rng = np.random.default_rng(seed)
    rows, nodes = 40, tree.n_nodes(len(models), horizon)
    quality = (rng.random((rows, nodes)) < 0.5).astype(float)
    price = rng.random(nodes) if seed % 2 else rng.random((rows, nodes))
    benchmark = np.array([0] * 30 + [1] * 10)
    return make_table(quality, np.broadcast_to(price, (rows, nodes)).copy(), horizon, models, benchmark=benchmark)


def random_sweep(table: TransitionTable, seed: int, allow_stop: bool = False, n_alphas: int = 12, seeds: int = 2) -> Swept:
    """Return a sweep of routers with any probabilities, most of them bad and some as good as the oracle on many questions."""
    rng, rows = np.random.default_rng(seed), table.rows("train")
    shape = (len(rows), table.n_decision_nodes, table.n_models + allow_stop)

    def routers(seeds: int = 1) -> Outcomes:
        decisions = rng.dirichlet(np.full(shape[-1], 0.1), (seeds * n_alphas, *shape[:2]))
        quality, cost = np.stack([outcome(table, rows, path_shares(table, each)) for each in decisions], axis=1)
        sizes = (seeds, n_alphas, len(rows))
        return Outcomes(quality.reshape(sizes), cost.reshape(sizes), np.full(sizes, np.nan))

    return as_sweep(
        table, np.linspace(0, 2, n_alphas), {"router": routers(seeds), "kNN": routers(), "linear": routers()}, allow_stop
    )


def as_sweep(table: TransitionTable, alphas: Floats, policies: dict[str, Outcomes], allow_stop: bool = False) -> Swept:
    """Return a sweep on the training split with the outcomes of some policies, `router` among them, beside the oracle."""
    rows = table.rows("train")
    benchmark, router = table.benchmark[rows], policies["router"]

    def averages(nodes: Ints) -> Averages:
        return fixed(node_outcome(table, rows, nodes)).averages(benchmark)

    oracle = fixed(node_outcome(table, rows, frontier(table, rows, allow_stop).at(alphas))).averages(benchmark)
    best = fixed_paths(table, rows, allow_stop).reward(alphas[:, None]).argmax(1) + (0 if allow_stop else 4)
    lines = {name: outcomes.averages(benchmark) for name, outcomes in policies.items()}
    return Swept(
        router="router",
        alphas=alphas,
        seeds=len(router.quality),
        questions=len(rows),
        benchmarks=len(set(benchmark.tolist())),
        lines={**lines, "best fixed path": averages(np.repeat(best[:, None], len(rows), 1)), "oracle": oracle},
        seed_rewards=np.zeros((len(router.quality), len(alphas))),
        zero_routers={name: averages(nodes) for name, nodes in zero_routers(table, rows, rows, allow_stop).items()},
        fixed=fixed_choices(table, "train", allow_stop, *np.zeros((2, len(alphas), len(rows)))),
        oracle=oracle,
        range=averages(fixed_range(table, rows, allow_stop)),
        best_model=averages(np.ones((1, len(rows)), np.int64)),
        weak_strong=None,
    )


def constant(table: TransitionTable, points: list[tuple[float, float]]) -> Outcomes:
    """Return a router that has one cost and quality on all questions, at each alpha."""
    cost, quality = np.repeat(np.array(points).T[:, None, :, None], len(table.rows("train")), axis=-1)
    return Outcomes(quality, cost, np.full(cost.shape, np.nan))


def draw(table: TransitionTable, sweep: Swept, allow_stop: bool = False, columns: int = 2) -> Figure:
    rows = table.rows("train")
    oracle = curve(table, rows, frontier(table, rows, allow_stop))
    return frontier_figure(scores_of(sweep), oracle, table.models, "exact", columns)


def titles(drawn: Figure) -> set[str]:
    """Return the titles of the axes."""
    axes = [layer["encoding"].get(axis, {}) for layer in layers(drawn.chart.to_dict()) for axis in ("x", "y")]
    return {axis["title"] for axis in axes if axis.get("title")}


def layers(node: Any) -> list[dict[str, Any]]:
    """Return the layers of a chart: everything that has a mark."""
    if isinstance(node, list):
        return [layer for part in node for layer in layers(part)]
    if not isinstance(node, dict):
        return []
    return [node] if "mark" in node else layers([node.get(name) for name in ("layer", "hconcat", "vconcat")])


def rows_of(drawn: Figure, layer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that a layer shows; Altair moves them to one place, under the names of their hashes."""
    rows: list[dict[str, Any]] = drawn.chart.to_dict()["datasets"][layer["data"]["name"]]
    return rows


def texts(drawn: Figure) -> list[str]:
    """Return the texts of a figure: labels, notes, and names in the legend."""
    spec = drawn.chart.to_dict()
    shown = [layer for layer in layers(spec) if layer["mark"]["type"] == "text"]
    return [row["text"] for layer in shown for row in rows_of(drawn, layer)]


def legend_texts(drawn: Figure) -> list[str]:
    """Return the names in the legend."""
    spec = drawn.chart.to_dict()
    (_, legend) = spec.get("hconcat") or spec["vconcat"]
    shown = [layer for layer in layers(legend) if layer["mark"]["type"] == "text"]
    return [row["text"] for row in rows_of(drawn, shown[1])]


@pytest.mark.parametrize("allow_stop", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_router_is_drawn_above_the_oracle(seed: int, allow_stop: bool) -> None:
    table = random_table(seed)
    data = draw(table, random_sweep(table, seed, allow_stop), allow_stop).data
    lines = data.filter(pl.col("part") == "line").partition_by("series", maintain_order=True)
    oracle, *routers = sorted(lines, key=lambda line: line["series"][0] != "oracle (hindsight)")
    assert len(routers) == 3 + 1  # the zero router, too
    oracle_cost, oracle_quality = oracle["cost"].to_numpy(), oracle["quality"].to_numpy()
    for cost, quality in ((line["cost"].to_numpy(), line["quality"].to_numpy()) for line in routers):
        assert cost.min() >= oracle_cost.min() - 1e-9
        costs = np.union1d(cost, oracle_cost[oracle_cost >= cost.min()])
        assert (np.interp(costs, cost, quality) <= np.interp(costs, oracle_cost, oracle_quality) + 1e-9).all()
        assert cost.max() == pytest.approx(oracle_cost.max())
    points = data.filter((pl.col("part") == "point") & (pl.col("kind") == "router"))
    assert len(points) == 36
    assert (points["quality"] <= np.interp(points["cost"].to_numpy(), oracle_cost, oracle_quality) + 1e-9).all()


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0])
def test_labels_cover_neither_each_other_nor_a_point(spread: float, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table, placed = random_table(1), []
    place = figure._labels

    def keep(*arguments: Any) -> list[figure.Label]:
        placed.append((place(*arguments), arguments[2]))
        return placed[-1][0]

    monkeypatch.setattr(figure, "_labels", keep)
    points = [(1 - spread * alpha / 50, 0.5 - spread * alpha / 50) for alpha in range(21)]
    drawn = draw(table, as_sweep(table, np.arange(21.0), {"router": constant(table, points)}), columns=columns)
    ((labels, frame),) = placed
    assert 1 <= len(labels) <= figure.MAX_LABELS
    assert {label.text for label in labels} <= set(texts(drawn))
    boxes = np.array([label.box for label in labels])
    for left, right in combinations(boxes, 2):
        assert (left[:2] >= right[2:]).any() or (right[:2] >= left[2:]).any()
    places = frame.place(*np.array(points).T)
    assert not any(((box[:2] < places) & (places < box[2:])).all(1).any() for box in boxes)
    np.testing.assert_allclose(frame.place(*frame.values(places).T), places)


def test_routers_have_names_intervals_and_styles_of_their_own() -> None:
    table = random_table(2)
    drawn = draw(table, random_sweep(table, 2))
    assert legend_texts(drawn) == [
        "exact", "kNN", "linear", "oracle (hindsight)", "zero router (fixed paths)", "weak", "strong", "slow", "fixed paths",
    ]  # fmt: skip
    plot = layers(drawn.chart.to_dict()["hconcat"][0])
    lines = [layer["mark"] for layer in plot if layer["mark"]["type"] == "line"]
    assert len({tuple(mark["strokeDash"]) for mark in lines}) == len(lines) == 5
    points = [layer["mark"] for layer in plot if layer["mark"]["type"] == "point"]
    assert len({(mark["shape"], mark["filled"]) for mark in points}) == len(points) - 1 == 6  # dots are small circles
    colors = [np.array([int(style[0][n : n + 2], 16) for n in (1, 3, 5)]) for style in plots.ROUTER_STYLES[:3]]
    greys = sorted(float(color @ [0.299, 0.587, 0.114]) for color in colors)
    assert min(np.diff(greys)) > 10
    bars = [layer for layer in plot if layer["mark"]["type"] == "rule"]
    assert [len(rows_of(drawn, layer)) for layer in bars] == [12, 12, 12]


def test_the_data_are_those_of_the_scores() -> None:
    table = random_table(2)
    scores = scores_of(random_sweep(table, 2))
    data = draw(table, random_sweep(table, 2)).data.filter((pl.col("series") == "exact") & (pl.col("part") == "point"))
    expected = [point for point in scores.points if point.policy == "router"]
    assert data["alpha"].to_list() == [point.alpha for point in expected]
    for measure in ("quality", "cost"):
        columns = data.select(measure, f"{measure}_low", f"{measure}_high").to_numpy()
        np.testing.assert_array_equal(columns, [getattr(point, measure) for point in expected])


def test_points_without_an_interval_have_no_bar() -> None:
    """A single question has no interval."""
    table = random_table(3)
    table = replace(table, split=np.array(["train"] + ["test"] * (len(table.split) - 1)))
    drawn = draw(table, random_sweep(table, 3, seeds=1))
    assert "rule" not in [layer["mark"]["type"] for layer in layers(drawn.chart.to_dict())]


def test_any_printable_name_is_drawn_as_it_is(tmp_path: Path) -> None:
    names = ("_hidden", r"$\undefined{a", "\u767e\u5ddd (7B)", "a|b <&> \\frac", "x\u202ey", "%s {0}", "e x2")
    table = random_table(4, names, horizon=1)
    drawn = draw(table, random_sweep(table, 4))
    assert legend_texts(drawn)[-7:] == [*names[:4], r"x\u202ey", *names[5:]]
    write_figure(drawn.chart, tmp_path / "plot.svg", "svg")
    svg = (tmp_path / "plot.svg").read_text("utf-8")
    assert all(text in svg for text in ("_hidden", "$\\undefined{a", "a|b &lt;&amp;&gt; \\frac", "%s {0}"))


def test_many_models_and_long_names_leave_room_for_routers() -> None:
    table = random_table(5, tuple(f"model number {n} {'x' * 200}" for n in range(60)), horizon=1)
    drawn = draw(table, random_sweep(table, 5))
    names = legend_texts(drawn)
    assert len(names) <= plots.MAX_MODELS + 5
    assert max(map(len, names)) < 45
    (_, legend) = drawn.chart.to_dict()["hconcat"]
    assert legend["height"] < figure.HEIGHTS[2]


def test_where_a_suite_has_a_currency_costs_are_prices() -> None:
    table = random_table(6)
    rows, sweep = table.rows("train"), random_sweep(table, 6)
    oracle = curve(table, rows, frontier(table, rows))
    plain, priced = (
        frontier_figure(scores_of(sweep, money), oracle, table.models) for money in (None, Money("EUR", cost_unit=0.002))
    )
    for column in ("cost", "cost_low", "cost_high"):
        expected = (2 * plain.data[column]).to_numpy()
        np.testing.assert_allclose(priced.data[column].to_numpy(), expected)
    assert plain.data.drop("cost", "cost_low", "cost_high").equals(priced.data.drop("cost", "cost_low", "cost_high"))
    assert titles(plain) == {"mean cost C of a question, in cost units", "mean quality Q"}
    assert titles(priced) == {"mean price of 1,000 questions, in EUR", "mean quality Q"}
    assert legend_texts(plain) == legend_texts(priced)


@pytest.mark.parametrize("columns", [1, 2])
def test_a_figure_has_the_width_of_a_paper_and_embedded_fonts(columns: int, tmp_path: Path) -> None:
    table, path = random_table(6), tmp_path / "plot.PDF"
    rows, sweep = table.rows("train"), random_sweep(table, 6)
    oracle = curve(table, rows, frontier(table, rows))
    cost_quality(scores_of(sweep), oracle, table.models, path, columns=columns)
    data = path.read_bytes()
    assert data.startswith(b"%PDF")
    assert b"/FontFile" in data
    assert b"LiberationSans" in data
    _, _, width, _ = map(float, data.partition(b"/MediaBox [")[2].partition(b"]")[0].split())
    assert 0.9 * figure.WIDTHS[columns] < width <= figure.WIDTHS[columns]
    assert [file.name for file in tmp_path.iterdir()] == ["plot.PDF"]


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")])
def test_equal_sweeps_give_equal_files(suffix: str, begins: bytes, tmp_path: Path) -> None:
    table = random_table(6)
    for name in ("a", "b"):
        write_figure(draw(table, random_sweep(table, 6)).chart, tmp_path / name, suffix)
    data = (tmp_path / "a").read_bytes()
    assert data.startswith(begins)
    assert sorted(data.split(b"\n")) == sorted((tmp_path / "b").read_bytes().split(b"\n"))  # a PDF names its fonts in any order


def test_a_plot_that_fails_leaves_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, table = tmp_path / "plot.png", random_table(7)
    path.write_bytes(b"\x89PNG previous")

    def fail(*arguments: object, **options: object) -> None:
        raise ToolkitError("the disk is full")

    monkeypatch.setattr(vl_convert, "vegalite_to_png", fail)
    rows, sweep = table.rows("train"), random_sweep(table, 7)
    oracle = curve(table, rows, frontier(table, rows))
    with pytest.raises(ToolkitError):
        cost_quality(scores_of(sweep), oracle, table.models, path)
    assert path.read_bytes() == b"\x89PNG previous"
    assert [file.name for file in tmp_path.iterdir()] == ["plot.png"]


def test_axes_say_what_they_measure() -> None:
    table = random_table(8)
    (plot, _) = draw(table, random_sweep(table, 8)).chart.to_dict()["hconcat"]
    titles = {name: layer["encoding"][name]["title"] for layer in layers(plot) for name in ("x", "y")}
    assert titles == {"x": "mean cost C of a question, in cost units", "y": "mean quality Q"}
