"""How a sweep is shown: marked alphas, and a width that fits a terminal."""

from __future__ import annotations

import numpy as np

from tests.report.test_plots import as_sweep, constant, random_sweep, random_table
from toolkit.report.sweep import render, repeated, rows
from toolkit.report.tables import WIDTH
from toolkit.routing.statistics import Estimate
from toolkit.routing.sweep import Collapse
from toolkit.routing.sweep_metrics import router_points, scores_of


def test_collapsed_and_repeated_alphas_are_marked() -> None:
    table = random_table(1)
    points = [(0.9, 0.6), (0.9, 0.6), (0.5, 0.6), (0.5, 0.5)]
    scores = scores_of(as_sweep(table, np.array([0.0, 0.1, 0.2, 0.4]), {"router": constant(table, points)}))
    assert repeated(router_points(scores)) == [False, True, False, False]
    text = render(scores, [Collapse(0.4, "weak", 1), Collapse(0.1, "strong", 1)], 4, "exact")
    alphas = [line.split()[0] for line in text.split("\n\n")[1].splitlines()[2:6]]
    assert alphas == ["0", "0.1*=", "0.2", "0.4*"]
    assert "alpha 0.4: 1 of 1 (weak)" in text
    assert "= quality and cost of the alpha before." in text
    unmarked = render(scores, [], 4, "exact")
    assert "*" not in unmarked


def test_a_sweep_fits_a_terminal_and_shows_both_averages() -> None:
    scores = scores_of(random_sweep(random_table(2), 2))
    brief, text = (render(scores, [], 24, "exact", full) for full in (False, True))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert brief.split("\n\n")[:3] == text.split("\n\n")[:3]
    assert len([line for line in brief.splitlines() if line.startswith("----")]) == 1
    assert {"micro", "sd", "gap"} <= set(text.split())
    assert "oracle‡" in text


def test_rows_repeat_the_metrics_of_a_policy_and_split_estimates() -> None:
    scores = scores_of(random_sweep(random_table(3), 3))
    written = rows(scores)
    assert len({tuple(row) for row in written}) == 1
    router = [row for row in written if row["policy"] == "router"]
    assert [row["alpha"] for row in router] == scores.swept.alphas.tolist()
    assert len({row["aiq"] for row in router}) == 1
    first = router_points(scores)[0]
    assert Estimate(router[0]["quality"], router[0]["quality_low"], router[0]["quality_high"]) == first.quality
    alone = {row["policy"] for row in written if row["alpha"] is None}
    assert alone == set(scores.swept.zero_routers)
