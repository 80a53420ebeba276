"""A sweep: one router for each alpha and seed, in parallel processes that share the table's memory; finished runs are kept."""

import json
import signal
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from toolkit.core.progress import NoProgress, Progress
from toolkit.replay.exact import Curve, Outcome, curve, fixed_paths, frontier
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.evaluate import COLLAPSED, Evaluation, as_rows, evaluate, evaluate_together
from toolkit.routing.processes import context
from toolkit.routing.router import Router, load_router
from toolkit.routing.train import as_row, card, cost_unit, fit_router, recorded_seconds, run_name
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

AUTO = 21
"""Alphas that `auto_alphas` places unless told otherwise."""


class SweepRun(NamedTuple):
    """One run of a sweep; a conditioned one is evaluated at every alpha that it learns for."""

    config: TrainConfig
    seed: int
    path: Path

    @property
    def alphas(self) -> tuple[float, ...]:
        """Prices that the run is evaluated at."""
        return self.config.alphas or (self.config.alpha,)


class FinishedRun(NamedTuple):
    """A finished run: where its policy is, how long it took, in seconds, and what it scores at each of its alphas."""

    job: SweepRun
    seconds: float
    evaluations: list[Evaluation]


def auto_alphas(table: TransitionTable, n: int = AUTO, allow_stop: bool = False) -> list[float]:
    """Place alphas where the oracle's exact frontier of the training split bends: 0, then equal steps along the frontier.

    The length of a step is measured in quality and cost, each as a share of its range.
    """
    rows = table.rows("train")
    found = curve(table, rows, frontier(table, rows, allow_stop))
    lengths = [np.abs(np.diff(values)) / max(float(np.ptp(values)), 1e-12) for values in found.outcome]
    travelled = np.cumsum(np.hypot(*lengths))
    if not len(travelled):
        return [0.0]
    places = np.searchsorted(travelled, np.linspace(0, travelled[-1], n + 1)[1:-1])
    return [0.0, *(float(f"{alpha:.4g}") for alpha in sorted({*found.alphas[1:][places]} - {0.0}))]


_worker: dict[str, Any] = {}


def _start(arrays: Mapping[str, Any], suite: Suite, unit: float, synthetic: Mapping[str, bool]) -> None:
    """Set up a worker: the table's arrays are views of memory that all of them share."""
    torch.set_num_threads(1)
    values: dict[str, Any] = {
        name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in arrays.items()
    }
    _worker.update(table=TransitionTable(**values), suite=suite, unit=unit, synthetic=synthetic)


def _start_apart(*initial: Any) -> None:
    """Set up a worker in a process of its own: Ctrl-C, which reaches all of them, is for the first to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _start(*initial)


def _run(job: SweepRun) -> FinishedRun:
    table, suite = _worker["table"], _worker["suite"]
    seconds, router = _train(job, table, suite, _worker["unit"])
    return FinishedRun(
        job,
        seconds,
        [
            evaluate(table, router, "test", _worker["synthetic"], baselines=job.seed == 0, alpha=alpha)[0]
            for alpha in job.alphas
        ],
    )


def _train(job: SweepRun, table: TransitionTable, suite: Suite, unit: float) -> tuple[float, Router]:
    import time

    started = time.monotonic()
    model = fit_router(table, job.config, job.seed)
    seconds = time.monotonic() - started
    router = Router(model, card(suite, table, unit, job.config, job.seed))
    job.path.parent.mkdir(parents=True, exist_ok=True)
    router.save(job.path)
    return seconds, router


def _shared(table: TransitionTable) -> dict[str, Any]:
    """Copy the arrays into memory that processes share; text arrays are small and go as they are."""
    found: dict[str, Any] = {}
    for field in fields(table):
        value = getattr(table, field.name)
        numeric = isinstance(value, np.ndarray) and value.dtype.kind != "U"
        found[field.name] = _share(value) if numeric else value
    return found


def _share(array: np.ndarray[Any, Any]) -> torch.Tensor:
    found: torch.Tensor = torch.from_numpy(array.copy()).share_memory_()  # type: ignore[no-untyped-call]
    return found


def plan_runs(
    suite: Suite, config: TrainConfig, alphas: Sequence[float], seeds: int, out: Path, conditioned: bool = False
) -> list[SweepRun]:
    """Return the runs of a sweep: one for each alpha and seed, or, conditioned, one for each seed."""
    changes = [{"alphas": tuple(alphas)}] if conditioned else [{"alpha": alpha, "alphas": ()} for alpha in alphas]
    return [
        SweepRun(here, seed, out / run_name(suite, here, seed) / "policy.zip")
        for here in map(config.changed, changes)
        for seed in range(seeds)
    ]


def sweep(
    suite: Suite,
    cache: Cache,
    table: TransitionTable,
    every: Sequence[SweepRun],
    synthetic: Mapping[str, bool],
    processes: int = 1,
    progress: Progress | None = None,
) -> None:
    """Train and evaluate the routers of a sweep, and record each in the cache as it is done.

    Runs that are recorded with the same settings and versions, and evaluated, are left as they are.

    Args:
        suite: The recorded suite.
        cache: Its cache.
        table: Its table, loaded with the benchmark that the runs hold out.
        every: All runs of the sweep (`runs_to_do`), those that are recorded already included.
        synthetic: Of every benchmark, whether a program made it up.
        processes: Processes side by side.
        progress: Who is told of finished runs, those that were there first, and may stop the sweep after one.
    """
    found = cache.arrow("SELECT DISTINCT run, alpha FROM evaluations WHERE split = 'test'").to_pylist()
    known = {(row["run"], row["alpha"]) for row in found}
    missing = [
        job
        for job in every
        for run in [run_name(suite, job.config, job.seed)]
        if not known.issuperset((run, alpha) for alpha in job.alphas) or recorded_seconds(cache, run, job.path) is None
    ]
    progress = progress or NoProgress()
    progress.stage("routers")
    progress.advance(len(every) - len(missing))
    initial = (_shared(table), suite, cost_unit(cache, suite), synthetic)
    with closing(_results(missing, initial, processes)) as results:
        for done in results:
            run = as_row(suite, table, done.job.config, done.job.seed, done.job.path, done.seconds)
            cache.add_run(run, [row for evaluation in done.evaluations for row in as_rows(evaluation)])
            progress.advance(1)
            if progress.stopped():
                break


def _results(missing: Sequence[SweepRun], initial: tuple[Any, ...], processes: int) -> Generator[FinishedRun]:
    if processes < 2 or len(missing) < 2:
        _start(*initial)
        yield from map(_run, missing)
        return
    with ProcessPoolExecutor(min(processes, len(missing)), context(), _start_apart, initial) as pool:
        futures = [pool.submit(_run, job) for job in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def by_alpha(
    every: Sequence[SweepRun], table: TransitionTable, synthetic: Mapping[str, bool], greedy: bool = False
) -> list[Evaluation]:
    """Evaluate a finished sweep by benchmark: at each alpha, the routers of all seeds together, beside every baseline.

    Args:
        every: Its runs.
        table: The table.
        synthetic: Of every benchmark, whether a program made it up.
        greedy: Whether routers take the most probable action instead of drawing one.

    Raises:
        PolicyError: A policy is not where the sweep left it.
    """
    found: dict[float, list[Router]] = {}
    for job in every:
        router = load_router(job.path)
        for alpha in job.alphas:
            found.setdefault(alpha, []).append(router)
    return [
        evaluate_together(table, routers, "test", synthetic, greedy=greedy, alpha=alpha)[0] for alpha, routers in found.items()
    ]


class Point(NamedTuple):
    """What one policy scores at one alpha, over seeds: means, and their spread over seeds (standard deviation)."""

    policy: str
    alpha: float
    seeds: int
    quality: float
    cost: float
    reward: float
    reward_spread: float
    regret: float


def summarise(cache: Cache, runs: Sequence[str]) -> list[Point]:
    """Return mean Q, C, R and regret to the oracle of every policy at every alpha, over the seeds of a sweep."""
    rows = cache.arrow(
        "WITH e AS (SELECT * FROM evaluations WHERE split = 'test' AND benchmark = 'overall' AND list_contains($runs, run)),"
        " o AS (SELECT run, alpha, reward FROM e WHERE policy = 'oracle')"
        " SELECT e.policy, e.alpha, count(*) AS seeds, avg(e.quality) AS quality, avg(e.cost) AS cost, avg(e.reward) AS reward,"
        " coalesce(stddev_samp(e.reward), 0) AS reward_spread, avg(o.reward - e.reward) AS regret"
        " FROM e JOIN o USING (run, alpha) GROUP BY ALL ORDER BY e.alpha, e.policy",
        {"runs": list(runs)},
    ).to_pylist()
    return [Point(**row) for row in rows]


class Collapse(NamedTuple):
    """How many of the routers of an alpha have stopped routing, and the path that they take."""

    alpha: float
    path: str
    routers: int


def collapsed(cache: Cache, runs: Sequence[str], router: str = "router") -> list[Collapse]:
    """Return where routers of a sweep take one path on nearly all questions, by alpha."""
    rows = cache.arrow(
        "SELECT alpha, paths FROM evaluations WHERE split = 'test' AND benchmark = 'overall' AND policy = $router"
        " AND list_contains($runs, run)",
        {"runs": list(runs), "router": router},
    ).to_pylist()
    found = Counter(
        (row["alpha"], path) for row in rows for path, share in json.loads(row["paths"]).items() if share > COLLAPSED
    )
    return [Collapse(*where, routers) for where, routers in sorted(found.items())]


def fixed_range(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> tuple[Outcome, float]:
    """Return what the cheapest fixed path is worth, mean over benchmarks, and the mean cost of the dearest."""
    quality, cost = fixed_paths(table, rows, allow_stop)
    cheapest = np.lexsort((-quality, cost))[:1]
    return Outcome(quality[cheapest], cost[cheapest]), float(cost.max())


def areas(points: Sequence[Point], oracle: Curve, cheapest: Outcome, high: float, router: str = "router") -> dict[str, float]:
    """Return AIQ of the routers of a sweep and of the oracle; nothing where all costs are equal.

    Anybody can take the cheapest fixed path, by lot on as many questions as one likes: it is a point of every router, too.

    Args:
        points: What each policy scores at each alpha.
        oracle: The oracle's curve on the same split.
        cheapest: The cheapest fixed path, `(1,)`: where the range begins.
        high: Where it ends.
        router: Name of the learned policy among the points.
    """
    low = float(cheapest.cost[0])
    if high <= low:
        return {}
    found = {"oracle": aiq(oracle.outcome.cost, oracle.outcome.quality, low, high)}
    for policy in (router, "kNN", "linear"):
        line = [point for point in points if point.policy == policy]
        if line:
            quality, cost = (
                np.append(getattr(cheapest, name), [getattr(point, name) for point in line]) for name in ("quality", "cost")
            )
            found[policy] = aiq(cost, quality, low, high)
    return found


def aiq(cost: Floats, quality: Floats, low: float, high: float) -> float:
    """Return the average improvement in quality of a router: the mean height of its non-decreasing convex hull over costs.

    RouterBench (Hu et al. 2024, arXiv 2403.12031): the integral of the hull from the lowest to the highest cost, divided by
    their difference. Beyond its dearest point a router keeps that quality; below its cheapest it is given that one's. The code
    published with the paper divides by the highest cost alone, and counts nothing below a router's cheapest point: its figures
    depend on where costs begin, and are not comparable with the formula's.

    Args:
        cost: Mean cost of each point of the router, `(points,)`.
        quality: Mean quality of each, `(points,)`.
        low: Lowest cost of the range.
        high: Highest; above `low`.
    """
    order = np.lexsort((-quality, cost))
    hull: list[tuple[float, float]] = []
    for x, y in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    xs, ys = np.array(hull).T
    grid = np.unique(np.concatenate([[low, high], xs[(xs > low) & (xs < high)]]))
    return float(np.trapezoid(np.interp(grid, xs, ys), grid) / (high - low))


def _below(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    return (middle[1] - left[1]) * (right[0] - left[0]) <= (right[1] - left[1]) * (middle[0] - left[0])
