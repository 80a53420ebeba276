"""A sweep: one router for each alpha and seed, trained in parallel processes. Finished runs are recorded at once."""

import contextlib
import functools
import logging
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import joblib
import torch

from toolkit.core.errors import SuiteError, TrainingError
from toolkit.core.progress import NoProgress, Progress
from toolkit.replay.exact import benchmark_weights
from toolkit.replay.table import TransitionTable
from toolkit.routing.algorithms import find_algorithm, find_policy
from toolkit.routing.evaluate import COLLAPSE_SHARE, Evaluation, evaluate, evaluate_together, evaluation_rows
from toolkit.routing.policies import ROUTER, router_policies
from toolkit.routing.processes import worker_context
from toolkit.routing.router import Router, load_router
from toolkit.routing.router_file import ROUTER_FILE
from toolkit.routing.train import ProgressCallback, build_router, fit_router, recorded_seconds, run_folder, run_name, run_row
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

MAX_NAMED_RUNS = 3
"""Failed runs that a message names."""
WORKER_KILLED = (
    "A worker process ended without a result, most likely because the system had no memory left: --processes 1 needs less."
)

logger = logging.getLogger("toolkit")


class SweepRun(NamedTuple):
    """One run of a sweep; a conditioned one is evaluated at every alpha that it is trained for."""

    config: TrainConfig
    seed: int
    path: Path

    @property
    def alphas(self) -> tuple[float, ...]:
        """The alphas at which the run is evaluated."""
        return self.config.alphas or (self.config.alpha,)


class SweepInputs(NamedTuple):
    """What all runs of a sweep share: the suite, its table and cost unit, and which benchmarks are synthetic."""

    suite: Suite
    table: TransitionTable
    cost_unit: float | None
    synthetic: Mapping[str, bool]


class FinishedRun(NamedTuple):
    """A finished run, how long its training took in seconds, and its evaluation at each of its alphas."""

    run: SweepRun
    seconds: float
    evaluations: list[Evaluation]


class FailedRun(NamedTuple):
    """A run whose training or evaluation failed, and why."""

    name: str
    reason: str


class AffordableAlpha(NamedTuple):
    """An alpha that keeps a budget, and the mean cost of its routers on the validation split, in cost units."""

    alpha: float
    validation_cost: float


class Collapse(NamedTuple):
    """The number of routers of an alpha that have collapsed to one path, and that path."""

    alpha: float
    path: str
    routers: int


def plan_runs(
    suite: Suite, config: TrainConfig, alphas: Sequence[float], seeds: int, out: Path, conditioned: bool = False
) -> list[SweepRun]:
    """Return the runs of a sweep: one for each alpha and seed or, conditioned, one for each seed."""
    changes = [{"alphas": tuple(alphas)}] if conditioned else [{"alpha": alpha, "alphas": ()} for alpha in alphas]
    return [
        SweepRun(config=changed, seed=seed, path=out / run_name(suite, changed, seed) / ROUTER_FILE)
        for changed in map(config.changed, changes)
        for seed in range(seeds)
    ]


def sweep(
    suite: Suite,
    cache: Cache,
    table: TransitionTable,
    runs: Sequence[SweepRun],
    synthetic: Mapping[str, bool],
    processes: int = 1,
    progress: Progress | None = None,
) -> None:
    """Train and evaluate the routers of a sweep, and record each in the cache when it is finished.

    Runs that are recorded with the same settings and versions, and evaluated, are skipped.

    Args:
        suite: The recorded suite.
        cache: Its cache.
        table: Its table, loaded with the benchmark that the runs hold out.
        runs: All runs of the sweep (`plan_runs`).
        synthetic: Whether a program makes the questions, for every benchmark.
        processes: Number of processes side by side.
        progress: Receives the number of finished runs, skipped ones first, and may stop the sweep after a run.

    Raises:
        TrainingError: Some runs failed; all others are recorded.
        SuiteError: The algorithm does not accept its arguments.
    """
    for config in (run.config for run in runs):  # the settings name these classes, so they may be imported
        find_algorithm(config.algorithm)
        find_policy(config.policy)
    evaluated = cache.runs.evaluated_alphas()
    missing = [run for run in runs if not _is_recorded(run, suite, cache, evaluated)]
    progress = progress or NoProgress()
    progress.stage("routers")
    progress.advance(len(runs) - len(missing))
    inputs = SweepInputs(suite=suite, table=table, cost_unit=cache.suites.cost_unit(suite.key), synthetic=synthetic)
    failed: list[FailedRun] = []
    with closing(_finish(missing, inputs, processes)) as results:
        for result in results:
            if isinstance(result, FailedRun):
                failed.append(result)
                continue
            config, seed, path = result.run
            row = run_row(suite, table, config, seed, path, result.seconds)
            cache.runs.add(row, [row for evaluation in result.evaluations for row in evaluation_rows(evaluation)])
            progress.advance(1)
            if progress.stopped():
                break
    if failed:
        raise _failure(failed, len(runs))


def _failure(failed: Sequence[FailedRun], runs: int) -> TrainingError:
    reasons = list(dict.fromkeys(run.reason for run in failed))
    names = [run.name for run in failed]
    others = f" and {len(names) - MAX_NAMED_RUNS} more" if len(names) > MAX_NAMED_RUNS else ""
    return TrainingError(
        f"{len(failed)} of {runs} routers could not be trained: {', '.join(names[:MAX_NAMED_RUNS])}{others}. "
        f"{' '.join(reasons[:MAX_NAMED_RUNS])} All others are recorded; the same command trains only those that are missing."
    )


def _is_recorded(run: SweepRun, suite: Suite, cache: Cache, evaluated: set[tuple[str, float]]) -> bool:
    name = run_name(suite, run.config, run.seed)
    return evaluated.issuperset((name, alpha) for alpha in run.alphas) and recorded_seconds(cache, name, run.path) is not None


def _finish(runs: Sequence[SweepRun], inputs: SweepInputs, processes: int) -> Generator[FinishedRun | FailedRun]:
    """Yield the runs as they finish, in any order. Workers map the table's arrays into memory from one file."""
    if processes < 2 or len(runs) < 2:
        yield from (_finish_one(run, inputs) for run in runs)
        return
    ignore_interrupt = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; this one responds to it
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(min(processes, len(runs)), worker_context(), signal.signal, ignore_interrupt) as pool,
    ):
        file = Path(folder) / "inputs.joblib"
        joblib.dump(inputs, file)
        futures = {pool.submit(_finish_in_worker, run, file): run for run in runs}
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    yield FailedRun(run_name(inputs.suite, futures[future].config, futures[future].seed), WORKER_KILLED)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finish_in_worker(run: SweepRun, file: Path) -> FinishedRun | FailedRun:
    torch.set_num_threads(1)
    return _finish_one(run, _load_inputs(file))


def _finish_one(run: SweepRun, inputs: SweepInputs) -> FinishedRun | FailedRun:
    """Train and evaluate a run; whatever goes wrong is its failure alone, except for mistakes in what all runs share."""
    try:
        return _train_and_evaluate(run, inputs)
    except SuiteError:
        raise
    except Exception as error:
        logger.debug("a run of a sweep failed", exc_info=True)
        with contextlib.suppress(OSError):
            run.path.parent.rmdir()  # unless it has files
        first_line = next(iter(str(error).splitlines()), "")
        return FailedRun(run_name(inputs.suite, run.config, run.seed), f"{type(error).__name__}: {first_line.rstrip('.')}.")


@functools.cache
def _load_inputs(file: Path) -> SweepInputs:
    inputs: SweepInputs = joblib.load(file, mmap_mode="r")
    return inputs


def _train_and_evaluate(run: SweepRun, inputs: SweepInputs) -> FinishedRun:
    started = time.monotonic()
    with run_folder(run.path.parent) as log:
        model = fit_router(inputs.table, run.config, run.seed, log, ProgressCallback())
        seconds = time.monotonic() - started
        router, _ = build_router(inputs.suite, inputs.table, inputs.cost_unit, run.config, run.seed, model)
        router.save(run.path)
    return FinishedRun(
        run=run,
        seconds=seconds,
        evaluations=[
            evaluate(inputs.table, router, "test", inputs.synthetic, all_baselines=run.seed == 0, alpha=alpha)[0]
            for alpha in run.alphas
        ],
    )


def routers_by_alpha(runs: Sequence[SweepRun]) -> dict[float, list[Router]]:
    """Load the routers of a finished sweep: those of all seeds at each alpha, in ascending order of alphas.

    Raises:
        PolicyError: A policy file is missing.
    """
    routers: dict[float, list[Router]] = {}
    for run in runs:
        router = load_router(run.path)
        for alpha in run.alphas:
            routers.setdefault(alpha, []).append(router)
    return dict(sorted(routers.items()))


def by_alpha(
    routers: Mapping[float, Sequence[Router]], table: TransitionTable, synthetic: Mapping[str, bool], sampled: bool = False
) -> list[Evaluation]:
    """Evaluate a finished sweep by benchmark: the routers of all seeds together at each alpha, beside every baseline.

    Args:
        routers: The routers of each alpha.
        table: The table.
        synthetic: Whether a program makes the questions, for every benchmark.
        sampled: Whether routers sample their actions instead of taking the most probable one.
    """
    return [
        evaluate_together(table, group, "test", synthetic, sampled=sampled, alpha=alpha)[0] for alpha, group in routers.items()
    ]


def affordable_alpha(
    routers: Mapping[float, Sequence[Router]], table: TransitionTable, budget_cost: float, sampled: bool = False
) -> AffordableAlpha | None:
    """Return the alpha whose routers spend most without exceeding a mean cost, on the validation split; None if none does.

    Of alphas with the same cost, it is the lowest.

    Args:
        routers: The routers of each alpha.
        table: The table, which has validation questions.
        budget_cost: The highest mean cost of a question, over benchmarks and seeds, in cost units.
        sampled: Whether routers sample their actions instead of taking the most probable one.
    """
    rows = table.rows("validation")
    weights = benchmark_weights(table, rows)
    costs = {}
    for alpha, group in routers.items():
        probabilities = [router.probabilities(table, rows, alpha) for router in group]
        costs[alpha] = float(weights @ router_policies(table, rows, probabilities, sampled)[ROUTER].outcome.cost)
    affordable = {alpha: cost for alpha, cost in costs.items() if cost <= budget_cost}
    return AffordableAlpha(*max(affordable.items(), key=lambda item: (item[1], -item[0]))) if affordable else None


def collapses(cache: Cache, runs: Sequence[str], router: str = "router") -> list[Collapse]:
    """Return where routers of a sweep (`router` or `router (sampled)`) take one path on nearly all questions, by alpha."""
    counts = Counter(
        (row.alpha, path)
        for row in cache.runs.path_shares(runs, router)
        for path, share in row.shares.items()
        if share > COLLAPSE_SHARE
    )
    return [Collapse(alpha=alpha, path=path, routers=routers) for (alpha, path), routers in sorted(counts.items())]
