"""Measure replay, exact values, loading, learners and sweeps at once: `just bench` writes docs/explanations/performance.md."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.benchmarks import conditioned, loading, race, sweep
from tests.benchmarks.page import PAGE, layout, machine, replace_section, section
from tests.benchmarks.race import ALPHA
from tests.synthetic import synthetic_table
from tests.toy import make_table
from toolkit.core import tree
from toolkit.replay import exact
from toolkit.replay.environments import RoutingEnv, RoutingVecEnv
from toolkit.replay.observations import Observer
from toolkit.replay.table import TransitionTable
from toolkit.report.tables import markdown
from toolkit.routing.ppo import ReplayPPO
from toolkit.routing.router import Router
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig

PACKAGES = ("torch", "numpy", "stable-baselines3", "duckdb")
LANES = 2048
NODES = 1_000_000
ROWS, ALPHAS = 100_000, 101
STEPS = 4 * 6 * LANES
"""Timed PPO steps: four rollouts."""


def seconds(run: Callable[[], object], repeat: int = 3) -> float:
    """Return the shortest CPU time of several runs, in seconds: other work on the machine does not count."""
    times = []
    for _ in range(repeat):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times)


def random_table(rows: int, dimensions: int) -> TransitionTable:
    rng = np.random.default_rng(0)
    shape = (rows, tree.n_nodes(3, 3))
    quality, cost = rng.random(shape).round(2), rng.random(shape)
    quality[:, 0] = cost[:, 0] = 0
    return make_table(quality, cost, 3, ["a", "b", "c"], rng.normal(size=(rows, dimensions)).astype(np.float32))


def environments() -> list[list[str]]:
    rows = []
    for dimensions in (64, 768):
        table = random_table(2000, dimensions)
        plain, lanes = RoutingEnv(table), RoutingVecEnv(table, LANES)
        chosen = np.random.default_rng(0).integers(0, 3, (30, LANES))
        first = chosen[0].tolist()

        def one_by_one(env: RoutingEnv = plain, actions: list[int] = first) -> None:
            env.reset(seed=0)
            for action in actions:
                if env.step(action)[2]:
                    env.reset()

        def together(step: Callable[[Any], object], actions: Any = chosen) -> None:
            for each in actions:
                step(each)

        lanes.reset()
        base = LANES / seconds(one_by_one)
        for name, step in (("indices only", lanes.advance), (f"with {dimensions} features observed", lanes.step)):
            rate = chosen.size / seconds(partial(together, step))
            rows.append([f"RoutingVecEnv({LANES}), {name}", f"RoutingEnv, {dimensions} features", f"{rate / base:.0f}"])
    return rows


def exact_values() -> tuple[float, list[str]]:
    """Return the CPU time of the exact values in seconds, and a row that compares them with a plain oracle."""
    rows, alphas = np.arange(ROWS), np.linspace(0, 1, ALPHAS)
    table = random_table(len(rows), 2)
    _ = table.cost

    def envelopes() -> None:
        frontier = exact.frontier(table, rows)
        frontier.at(alphas)
        exact.curve(table, rows, frontier)
        exact.best_fixed_path(table, rows, alphas)

    def grid() -> None:
        leaves = exact.ends(table)
        for alpha in alphas:
            (table.quality[:, leaves] - alpha * table.cost[:, leaves]).argmax(1)

    ours, plain = seconds(envelopes, 2), seconds(grid, 1)
    name = f"oracle, frontier and best fixed path at {ALPHAS} alphas"
    return ours, [name, "the oracle alone, one alpha at a time", f"{plain / ours:.1f}"]


def policy_value() -> list[list[str]]:
    """Compare the exact value of a policy with its network's forward passes over observations gathered beforehand."""
    table = synthetic_table(noise=0.5)
    model = fit_router(table, TrainConfig(alpha=ALPHA, timesteps=1), 0)
    router = Router(model, {"run": "", "models": list(table.models), "horizon": table.horizon})
    rows = np.arange(len(table.split))
    parts = [Observer(table).all_nodes(part) for part in np.array_split(rows, 32)]
    policy: Any = model.policy

    def forward() -> None:
        with torch.inference_mode():
            for observations in parts:
                policy.get_distribution(torch.from_numpy(observations))

    def value() -> None:
        exact.outcome(table, rows, exact.path_shares(table, router.probabilities(table, rows)))

    exact_time, forward_time = np.array([(seconds(value, 1), seconds(forward, 1)) for _ in range(9)]).min(0)
    ratio = f"{forward_time / exact_time:.2f}"
    return [["exact value of a policy on 2,000 questions", "its network's forward passes alone", ratio]]


def share_of_ceiling(table: TransitionTable, batch_size: int) -> float:
    """Return the speed of PPO's `learn()` with 4 epochs, in steps/s, relative to forward and backward passes alone.

    The ceiling repeats autograd's forward and backward pass of the same network over one minibatch of features: no rollout, no
    optimiser, no gathering. `learn()` does all of these and extracts features anew. Both are timed in turns; the fastest run of
    each counts.
    """
    settings = {"n_epochs": 4, "batch_size": batch_size, "n_steps": 6}
    model = fit_router(table, TrainConfig(alpha=ALPHA, timesteps=1, n_envs=LANES, ppo=settings), 0)
    assert isinstance(model, ReplayPPO)
    assert model._features is not None
    features, policy = model._features[:batch_size], model.policy
    actions, target = torch.randint(0, 3, (batch_size, 1)), torch.randn(batch_size)
    passes = 4 * STEPS // batch_size

    def alone() -> None:
        for _ in range(passes):
            pi, vf = policy.mlp_extractor(features)
            log_probabilities = torch.log_softmax(policy.action_net(pi), -1).gather(-1, actions)
            loss = log_probabilities.mean() + functional.mse_loss(policy.value_net(vf)[:, 0], target)
            policy.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]

    learn_time, alone_time = np.array([(seconds(partial(model.learn, STEPS), 1), seconds(alone, 1)) for _ in range(5)]).min(0)
    return float(alone_time / (passes * batch_size / 4) / (learn_time / model.num_timesteps))


def ppo() -> list[list[str]]:
    table = synthetic_table(noise=0.5)
    return [
        [f"PPO, 4 epochs, minibatches of {size}", "forward and backward passes alone", f"{share_of_ceiling(table, size):.2f}"]
        for size in (256, 1024, 4096)
    ]


def main() -> None:
    torch.set_num_threads(1)
    exact_seconds, ratio = exact_values()
    ratios = [*environments(), ratio, *policy_value(), *ppo()]
    with tempfile.TemporaryDirectory() as folder:
        load_time, peak = loading.shares(loading.make(Path(folder) / "large.duckdb", NODES))
    ratios.append([f"table of {NODES:,} nodes from DuckDB", "bare Arrow fetch of its embeddings", f"{1 / load_time:.2f}"])
    sweep_timing = sweep.time_sweep()
    conditioned_times, conditioned_rewards = conditioned.compare()
    parts = [
        "# Performance",
        "Written by `just bench`, and its last section by `just bench-generate`. The programs of a comparison run side by "
        "side, on synthetic tables. Times are CPU time with "
        f"one thread; DuckDB and the sweep use all cores and are measured in wall time. The machine: {machine(PACKAGES)}.",
        "## Replay, exact values, loading",
        markdown(["program", "compared with", "times as fast"], ratios),
        f"Oracle, frontier and best fixed path of {ROWS:,} questions of 40 nodes at {ALPHAS} alphas take {exact_seconds:.2f} "
        f"s. Loading the table needs at its peak {peak:.1f} times the memory of its arrays, Python and libraries included.",
        "## Learners",
        "The table has 1,400 training questions, M = 3, L = 3 and 384-dimensional embeddings. Learners run with "
        f"alpha = {ALPHA} and 5 seeds; the exact reward on 400 test questions is computed after every update. The target is "
        "the best test reward that stable-baselines3's PPO with its defaults on `DummyVecEnv(8)` reaches within 200,000 steps. "
        "Seconds are medians over seeds; differences are means with a 95% interval. `just race` runs this comparison alone.",
        race.race(),
        "## Sweep",
        "`toolkit sweep --algorithm exact` with 21 alphas and 5 seeds on 2,000 questions, from its start to the last row in "
        f"the cache, takes {sweep_timing.wall:.0f} s of wall time and {sweep_timing.cpu:.0f} s of CPU time.",
        "## One policy for every alpha",
        f"Training on {len(conditioned.TABLES)} tables on which no setting was chosen, with 5 seeds each: {conditioned_times}",
        "The table shows test rewards as means over seeds and tables, and the difference with its 95% interval over tables. "
        "Each table has 21 alphas of its own, of which the mean is shown. `python -m tests.benchmarks.conditioned` runs this "
        "comparison alone.",
        conditioned_rewards,
    ]
    page = replace_section(layout(parts), section(PAGE.read_text("utf-8"), "## Generation"))  # of `just bench-generate`
    PAGE.write_text(page, "utf-8")
    print(page)


if __name__ == "__main__":
    main()
