"""The numbers of a report: results, hulls, paths, and gains question by question, as rows of plain values."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from toolkit.core import tree
from toolkit.replay.exact import Outcome, curve, frontier, node_outcome
from toolkit.replay.table import ABSTAINED, Ints, TransitionTable
from toolkit.routing.aiq import hull, zero_routers
from toolkit.routing.comparison import ORACLE, OVERALL
from toolkit.routing.evaluate import Evaluation
from toolkit.routing.run_groups import AlphaResults, RunGroup
from toolkit.routing.verdict import rivals

DIGITS = 6
"""Decimals of the numbers in a report."""
MEASURES = ("quality", "cost", "reward", "lead")
"""Measures of a result that a report shows, with their intervals."""
SHOWN_PATHS = 8
"""Paths of a policy that a chart shows with a colour of their own."""
RANDOM = "random"
Row = dict[str, Any]


def rounded(value: float) -> float | None:
    """Return a number as a report has it, None for nan and infinities."""
    return round(float(value), DIGITS) + 0.0 if np.isfinite(value) else None


def kind_of(evaluation: Evaluation, policy: str, models: Sequence[str]) -> str:
    """Return what a policy is: a router, a model, a fixed path, the oracle, or another baseline."""
    if policy in evaluation.routers:
        return "router"
    if policy == ORACLE:
        return "oracle (hindsight)"
    if policy in models:
        return "model"
    is_path = " > " in policy or policy == ABSTAINED or policy.rpartition(" x")[0] in models
    return "fixed path" if is_path else "baseline"


def shown_baselines(evaluation: Evaluation) -> list[str]:
    """Return the baselines that may be called the best: all but the oracle, chance, and single paths chosen by nobody."""
    return [name for name in rivals(evaluation) if name != RANDOM]


def best_baseline(evaluation: Evaluation) -> str:
    """Return the baseline with the highest reward on the evaluated questions."""
    return max(shown_baselines(evaluation), key=lambda name: evaluation.result(name).reward.mean)


def result_rows(results: Mapping[float, AlphaResults], models: Sequence[str]) -> Iterator[Row]:
    """Yield one row for each alpha, policy and benchmark, averages included."""
    for alpha, (evaluation, _) in results.items():
        kinds = {policy: kind_of(evaluation, policy, models) for policy in evaluation.policies}
        for result in evaluation.results:
            row: Row = {"alpha": alpha, "policy": result.policy, "kind": kinds[result.policy], "benchmark": result.benchmark}
            row["questions"] = result.questions
            for measure in MEASURES:
                mean, low, high = map(rounded, getattr(result, measure))
                row |= {measure: mean, f"{measure}_low": low, f"{measure}_high": high}
            if result.policy == evaluation.reference:
                row |= dict.fromkeys(("lead", "lead_low", "lead_high"))
            yield row | {"p_value": rounded(result.p_value), "gap": rounded(result.gap_recovered.mean)}


def path_rows(results: Mapping[float, AlphaResults]) -> Iterator[Row]:
    """Yield the share of questions on each path, by alpha, policy and benchmark; `rank` counts paths by their share overall."""
    for alpha, (evaluation, _) in results.items():
        for policy in [*evaluation.routers, *shown_baselines(evaluation), ORACLE]:
            ranks = {path: n for n, path in enumerate(evaluation.result(policy).paths)}
            for benchmark in [OVERALL, *evaluation.benchmarks]:
                for path, share in evaluation.result(policy, benchmark).paths.items():
                    group = path if ranks.get(path, SHOWN_PATHS) < SHOWN_PATHS else "other paths"
                    yield {
                        "alpha": alpha, "policy": policy, "benchmark": benchmark, "path": path, "group": group,
                        "rank": min(ranks.get(path, SHOWN_PATHS), SHOWN_PATHS), "share": rounded(share),
                    }  # fmt: skip


def hull_rows(results: Mapping[float, AlphaResults], table: TransitionTable, rows: Ints, allow_stop: bool) -> Iterator[Row]:
    """Yield the corners of what each router, the zero router and the oracle reach by mixing, by benchmark."""
    benchmark, first = table.benchmark[rows], next(iter(results.values())).evaluation
    mixed = list(zero_routers(table, table.rows("train"), rows, allow_stop).items())[-1]
    for name in [OVERALL, *first.benchmarks]:
        own = np.arange(len(rows)) if name == OVERALL else np.flatnonzero(benchmark == table.benchmarks.index(name))
        weights = _weights(benchmark[own])
        oracle = curve(table, rows[own], frontier(table, rows[own], allow_stop)).outcome
        zero = Outcome(*(values @ weights for values in node_outcome(table, rows[own], mixed[1][:, own])))
        cheapest = zero.cost.argmin()
        lines = {"oracle (hindsight)": oracle, mixed[0]: zero}
        for label in dict.fromkeys(label for result in results.values() for label in result.evaluation.routers):
            at = [result.evaluation.result(label, name) for result in results.values() if label in result.evaluation.routers]
            points = ([getattr(result, part).mean for result in at] for part in ("quality", "cost"))
            ends = ([float(values[cheapest])] for values in zero)
            lines[label] = Outcome(*(np.array([*part, *end]) for part, end in zip(points, ends, strict=True)))
        highest = max(float(line.cost.max()) for line in lines.values())
        for label, line in lines.items():
            corners = hull(line)
            costs, qualities = [*corners.cost, highest], [*corners.quality, corners.quality[-1]]
            for cost, quality in zip(costs, qualities, strict=True):
                yield {"benchmark": name, "policy": label, "cost": rounded(cost), "quality": rounded(quality)}


def _weights(benchmark: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return weights that turn a sum over questions into the unweighted mean of benchmarks, `(questions,)`."""
    _, index, counts = np.unique(benchmark, return_inverse=True, return_counts=True)
    weights: np.ndarray[Any, np.dtype[np.float64]] = 1 / (len(counts) * counts[index])
    return weights


def gain_rows(results: Mapping[float, AlphaResults], rival_of: Mapping[float, str], places: Ints) -> Iterator[Row]:
    """Yield what each router gains over the best baseline on some of the evaluated questions, at the given places."""
    for alpha, (evaluation, policies) in results.items():
        rival = policies[rival_of[alpha]].outcome
        for label in evaluation.routers:
            router = policies[label].outcome
            gains = router.reward(alpha) - rival.reward(alpha)
            for n in places.tolist():
                yield {
                    "alpha": alpha, "policy": label, "question": n, "gain": rounded(gains[n]),
                    "quality": rounded(router.quality[n]), "cost": rounded(router.cost[n]),
                    "rival_quality": rounded(rival.quality[n]), "rival_cost": rounded(rival.cost[n]),
                }  # fmt: skip


def hop_rows(groups: Sequence[RunGroup], table: TransitionTable, rows: Ints) -> Iterator[Row]:
    """Yield how often each hop of a router's paths mends or spoils the response, by benchmark; counts are over all its runs."""
    names = [table.benchmarks[n] for n in table.benchmark[rows]]
    for group in groups:
        counts: dict[tuple[str, int], list[int]] = {}
        for ends in group.nodes:
            for row, name, end in zip(rows.tolist(), names, ends.tolist(), strict=True):
                path = tree.path_of(end, table.n_models)
                nodes = [tree.node_of(path[:hop], table.n_models) for hop in range(1, len(path) + 1)]
                for hop, (before, after) in enumerate(pairwise(nodes), 2):
                    change = float(table.quality[row, after] - table.quality[row, before])
                    for benchmark in (name, OVERALL):
                        count = counts.setdefault((benchmark, hop), [0, 0, 0])
                        count[0] += 1
                        count[1] += change > 0
                        count[2] += change < 0
        for (benchmark, hop), (hops, mended, spoiled) in counts.items():
            yield {
                "alpha": group.alpha, "policy": group.label, "benchmark": benchmark, "hop": hop, "hops": hops,
                "mended": mended, "spoiled": spoiled,
            }  # fmt: skip
