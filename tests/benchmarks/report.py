"""Measure replay, exact answers, loading, learners and sweeps in one run, and write docs/performance.md: `just bench`."""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tests.benchmarks import conditioned, loading, race, sweep
from tests.benchmarks.race import ALPHA
from tests.synthetic import synthetic_table
from tests.toy import make_table
from toolkit.core import tree
from toolkit.replay import exact
from toolkit.replay.environments import Observer, RoutingEnv, RoutingVecEnv
from toolkit.replay.table import TransitionTable
from toolkit.report.tables import markdown
from toolkit.routing.ppo import ReplayPPO
from toolkit.routing.router import Router
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig

PAGE = Path(__file__).parents[2] / "docs/performance.md"
LANES = 2048
NODES = 1_000_000
ROWS, ALPHAS = 100_000, 101
STEPS = 4 * 6 * LANES
"""Steps of PPO that are timed: four rollouts."""


def seconds(run: Callable[[], object], repeat: int = 3) -> float:
    """Return the shortest time of some runs, in seconds of the processor: other work on the machine does not count."""
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


def answers() -> tuple[float, list[str]]:
    """Return the seconds that exact answers take, and their ratio to a plain oracle's."""
    rows, alphas = np.arange(ROWS), np.linspace(0, 1, ALPHAS)
    table = random_table(len(rows), 2)
    _ = table.cost

    def envelopes() -> None:
        found = exact.frontier(table, rows)
        found.at(alphas)
        exact.curve(table, rows, found)
        exact.best_fixed_path(table, rows, alphas)

    def grid() -> None:
        leaves = exact.ends(table)
        for alpha in alphas:
            (table.quality[:, leaves] - alpha * table.cost[:, leaves]).argmax(1)

    ours, plain = seconds(envelopes, 2), seconds(grid, 1)
    name = f"oracle, frontier and best fixed path at {ALPHAS} alphas"
    return ours, [name, "the oracle alone, alpha by alpha", f"{plain / ours:.1f}"]


def policy_value() -> list[list[str]]:
    """Time the exact value of a policy over all rows beside its network's forward pass over observations gathered before."""
    table = synthetic_table(noise=0.5)
    model = fit_router(table, TrainConfig(alpha=ALPHA, timesteps=1), 0)
    router = Router(model, {"run": "", "models": list(table.models), "horizon": table.horizon})
    rows = np.arange(len(table.split))
    parts = [Observer(table).everywhere(part) for part in np.array_split(rows, 32)]
    policy: Any = model.policy

    def forward() -> None:
        with torch.inference_mode():
            for seen in parts:
                policy.get_distribution(torch.from_numpy(seen))

    def value() -> None:
        exact.outcome(table, rows, exact.path_shares(table, router.probabilities(table, rows)))

    took = np.array([(seconds(value, 1), seconds(forward, 1)) for _ in range(9)]).min(0)
    return [["exact value of a policy on 2,000 questions", "its network's forward passes alone", f"{took[1] / took[0]:.2f}"]]


def share_of_ceiling(table: TransitionTable, batch_size: int) -> float:
    """Return how near PPO's `learn()` at 4 epochs comes to forward and backward passes alone, as a share of steps/s.

    The ceiling is autograd's forward and backward pass of the same network over one minibatch of the features that it learns
    from, again and again: no rollout, no optimiser, no gathering. `learn()` is all of that, with features extracted anew.
    Both are timed in turn; the shortest of each counts.
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
            chosen = torch.log_softmax(policy.action_net(pi), -1).gather(-1, actions)
            loss = chosen.mean() + functional.mse_loss(policy.value_net(vf)[:, 0], target)
            policy.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]

    took = np.array([(seconds(partial(model.learn, STEPS), 1), seconds(alone, 1)) for _ in range(5)]).min(0)
    return float(took[1] / (passes * batch_size / 4) / (took[0] / model.num_timesteps))


def ppo() -> list[list[str]]:
    table = synthetic_table(noise=0.5)
    return [
        [f"PPO, 4 epochs, minibatches of {size}", "forward and backward passes alone", f"{share_of_ceiling(table, size):.2f}"]
        for size in (256, 1024, 4096)
    ]


def machine() -> str:
    """Say what this runs on."""
    facts = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    name = facts.partition("model name")[2].partition("\n")[0].strip("\t :") or platform.machine()
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "numpy", "stable-baselines3", "duckdb"))
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {packages}"


def main() -> None:
    torch.set_num_threads(1)
    took, ratio = answers()
    ratios = [*environments(), ratio, *policy_value(), *ppo()]
    with tempfile.TemporaryDirectory() as folder:
        slower, peak = loading.shares(loading.make(Path(folder) / "large.duckdb", NODES))
    ratios.append([f"table of {NODES:,} nodes from DuckDB", "bare Arrow fetch of its embeddings", f"{1 / slower:.2f}"])
    taken = sweep.swept()
    told, conditions = conditioned.compare()
    parts = [
        "# Performance",
        "Written by `just bench`: what is compared is measured side by side in one run, on generated tables. Times are the "
        f"processor's with one thread, but for DuckDB's and the sweep's. The machine: {machine()}.",
        "## Replay, exact answers, loading",
        markdown(["this", "compared with", "times as fast"], ratios),
        f"Oracle, frontier and best fixed path of {ROWS:,} questions of 40 nodes at {ALPHAS} alphas take {took:.2f} s. Loading "
        f"the table takes at its peak {peak:.1f} times the memory of its arrays, Python and libraries included.",
        "## Learners",
        f"1,400 training questions, M = 3, L = 3, 384-dimensional embeddings, alpha = {ALPHA}, 5 seeds; reward on 400 test "
        "questions, exact, after every update. The target is the best that stable-baselines3's PPO with its defaults on "
        "`DummyVecEnv(8)` ever reaches within 200,000 steps. Seconds are medians over seeds, differences means with their 95% "
        "interval (`just race` runs this alone).",
        race.race(),
        "## Sweep",
        f"`toolkit sweep --algorithm exact` of 21 alphas and 5 seeds over as many questions, from its start to the last row in "
        f"the cache: {taken.wall:.0f} s by the clock, {taken.processor:.0f} s of the processors.",
        "## One policy for every alpha",
        f"{len(conditioned.TABLES)} tables that nothing was chosen on, 5 seeds each: {told} Test rewards, mean over seeds and "
        "tables, and the difference with its 95% interval over tables; every table has 21 alphas of its own, of which the mean "
        "is shown (`python -m tests.benchmarks.conditioned` runs this alone):",
        conditions,
    ]
    page = "\n\n".join(parts) + "\n"
    PAGE.write_text(page, "utf-8")
    print(page)


if __name__ == "__main__":
    main()
