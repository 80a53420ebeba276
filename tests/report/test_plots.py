"""The cost-quality plot: what its lines may claim, and what names, labels and formats it stands."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.toy import make_table
from toolkit.core import tree
from toolkit.core.errors import ToolkitError
from toolkit.replay.exact import curve, fixed_paths, frontier, node_outcome, outcome, path_shares
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.report import plots
from toolkit.report.plots import cost_quality
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


def draw(table: TransitionTable, sweep: Swept, path: Path, allow_stop: bool, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """Write a plot, and return the figure that was saved."""
    rows, saved = table.rows("train"), []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Figure, "savefig", keep)
        oracle = curve(table, rows, frontier(table, rows, allow_stop))
        cost_quality(scores_of(sweep), oracle, table.models, path, algorithm="exact")
    (figure,) = saved
    return figure


def drawn_lines(figure: Figure, *, dots: bool = False) -> list[tuple[Floats, Floats]]:
    """Return cost and quality of the lines, the oracle's first, or of the dots."""
    lines = [line for line in figure.axes[0].lines if (line.get_linestyle() == "None") == dots]
    return [(np.asarray(line.get_xdata(), np.float64), np.asarray(line.get_ydata(), np.float64)) for line in lines]


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize("allow_stop", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_router_is_drawn_above_the_oracle(
    seed: int, allow_stop: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = random_table(seed)
    figure = draw(table, random_sweep(table, seed, allow_stop), tmp_path / "plot.svg", allow_stop, monkeypatch)
    (oracle_cost, oracle_quality), *routers = drawn_lines(figure)
    assert len(routers) == 3 + 1  # the zero router, too
    for cost, quality in routers:
        assert cost.min() >= oracle_cost.min() - 1e-9
        costs = np.union1d(cost, oracle_cost[oracle_cost >= cost.min()])
        assert (np.interp(costs, cost, quality) <= np.interp(costs, oracle_cost, oracle_quality) + 1e-9).all()
        assert cost.max() == pytest.approx(oracle_cost.max())
    for cost, quality in drawn_lines(figure, dots=True):
        assert (quality <= np.interp(cost, oracle_cost, oracle_quality) + 1e-9).all()


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0])
def test_labels_cover_neither_each_other_nor_a_point(spread: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(1)
    points = [(1 - spread * alpha / 50, 0.5 - spread * alpha / 50) for alpha in range(21)]
    sweep = as_sweep(table, np.arange(21.0), {"router": constant(table, points)})
    figure = draw(table, sweep, tmp_path / "plot.png", False, monkeypatch)
    labels = [text for text in figure.axes[0].texts if text.get_text()]
    assert 1 <= len(labels) <= plots.MAX_LABELS
    boxes = [label.get_window_extent() for label in labels]
    assert not any(left.overlaps(right) for left, right in combinations(boxes, 2))
    places = figure.axes[0].transData.transform(points)
    assert not any(box.count_contains(places) for box in boxes)


def test_routers_have_names_intervals_and_styles_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(2)
    figure = draw(table, random_sweep(table, 2), tmp_path / "plot.pdf", False, monkeypatch)
    assert legend_texts(figure) == [
        "fixed paths", "weak", "strong", "slow", "oracle (hindsight)", "zero router (fixed paths)",
        "exact", "kNN", "linear",
    ]  # fmt: skip
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() != "None"]
    assert len({str(line.get_linestyle()) + str(line._unscaled_dash_pattern) for line in lines}) == 5  # type: ignore[attr-defined]
    colors = [np.array([int(style[0][n : n + 2], 16) for n in (1, 3, 5)]) for style in plots.ROUTER_STYLES[:3]]
    greys = sorted(float(color @ [0.299, 0.587, 0.114]) for color in colors)
    assert min(np.diff(greys)) > 10
    assert len(figure.axes[0].collections) >= 3 + 3  # markers of models, and bars of routers


def test_points_without_an_interval_have_no_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single question has no interval."""
    table = random_table(3)
    table = replace(table, split=np.array(["train"] + ["test"] * (len(table.split) - 1)))
    draw(table, random_sweep(table, 3, seeds=1), tmp_path / "plot.svg", False, monkeypatch)
    assert (tmp_path / "plot.svg").stat().st_size


def test_any_printable_name_is_drawn_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("_hidden", r"$\undefined{a", "百川 (7B)", "a|b <&> \\frac", "x\u202ey", "%s {0}", "e x2")
    table = random_table(4, names, horizon=1)
    for suffix in ("png", "svg", "pdf"):
        figure = draw(table, random_sweep(table, 4), tmp_path / f"plot.{suffix}", False, monkeypatch)
    shown = [text.strip() for text in legend_texts(figure)]
    assert shown[:7] == [*names[:4], r"x\u202ey", *names[5:]]


def test_many_models_leave_room_for_routers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(5, tuple(f"model number {n}" for n in range(60)), horizon=1)
    figure = draw(table, random_sweep(table, 5), tmp_path / "plot.png", False, monkeypatch)
    assert len(legend_texts(figure)) <= plots.MAX_MODELS + 5
    heights = [legend.get_window_extent().height for legend in figure.legends]
    assert max(heights) < figure.bbox.height


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")])
def test_equal_sweeps_give_equal_files(suffix: str, begins: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(6)
    for name in ("a", "b"):
        draw(table, random_sweep(table, 6), tmp_path / f"{name}.{suffix}", False, monkeypatch)
    data = (tmp_path / f"a.{suffix}").read_bytes()
    assert data.startswith(begins)
    assert data == (tmp_path / f"b.{suffix}").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


def test_a_plot_that_fails_leaves_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, table = tmp_path / "plot.png", random_table(7)
    path.write_bytes(b"\x89PNG previous")

    def fail(*arguments: object, **options: object) -> None:
        raise ToolkitError("the disk is full")

    monkeypatch.setattr(Figure, "savefig", fail)
    rows, sweep = table.rows("train"), random_sweep(table, 7)
    oracle = curve(table, rows, frontier(table, rows))
    with pytest.raises(ToolkitError):
        cost_quality(scores_of(sweep), oracle, table.models, path)
    assert path.read_bytes() == b"\x89PNG previous"
    assert [file.name for file in tmp_path.iterdir()] == ["plot.png"]


def test_axes_say_what_they_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(8)
    axes = draw(table, random_sweep(table, 8), tmp_path / "plot.svg", False, monkeypatch).axes[0]
    texts: list[Text] = [axes.xaxis.label, axes.yaxis.label]
    assert [text.get_text() for text in texts] == ["mean cost C of a question, in cost units", "mean quality Q"]
