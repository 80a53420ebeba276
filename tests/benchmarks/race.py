"""Race learners to the best test reward that SB3's PPO with its defaults ever reaches: `python -m tests.benchmarks.race`.

All learn on the same generated table with the same hidden layers, and are evaluated exactly after every update. Seconds are the
processor's, of everything a run does but those evaluations: other work on the machine does not count.
"""

import argparse
import time
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from scipy.stats import t
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

import toolkit.routing.train
from tests.synthetic import synthetic_table
from toolkit.replay import exact
from toolkit.replay.environments import RoutingEnv
from toolkit.replay.table import TransitionTable
from toolkit.report.tables import markdown
from toolkit.routing.router import Router
from toolkit.suites.config import TrainConfig

ALPHA = 0.05


class Watched(NamedTuple):
    """A run: seconds and test reward after each update, the reward of the policy it ends with, and all its seconds."""

    seconds: list[float]
    rewards: list[float]
    final: float
    total: float

    def reaches(self, target: float) -> float:
        """Return when the test reward first reached a target, in seconds; inf where it never did."""
        found = [s for s, reward in zip(self.seconds, self.rewards, strict=True) if reward >= target]
        return min(found, default=float("inf"))


def test_reward(model: BaseAlgorithm, table: TransitionTable) -> float:
    """Return a policy's exact mean reward on the test split."""
    router = Router(model, {"run": "", "models": list(table.models), "horizon": table.horizon})
    rows = table.rows("test")
    worth = exact.outcome(table, rows, exact.path_shares(table, router.probabilities(table, rows))).reward(ALPHA)
    return float(exact.benchmark_weights(table, rows) @ worth)


class Watch(BaseCallback):
    """Evaluates after every update (at the start of a rollout; `exact`, which has none, at every step), off the clock."""

    def __init__(self, table: TransitionTable) -> None:
        super().__init__()
        self.table = table
        self.started, self.seconds, self.rewards = time.process_time(), list[float](), list[float]()

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_step(self) -> bool:
        if not hasattr(self.model, "rollout_buffer"):
            self._look()
        return True

    def _look(self) -> None:
        now = time.process_time()
        self.seconds.append(now - self.started)
        self.rewards.append(test_reward(self.model, self.table))
        self.started += time.process_time() - now

    def result(self, model: BaseAlgorithm) -> Watched:
        """Return what was seen."""
        total = time.process_time() - self.started
        return Watched(self.seconds, self.rewards, test_reward(model, self.table), total)


def defaults(table: TransitionTable, seed: int, steps: int) -> Watched:
    """Run SB3's PPO with its defaults."""
    watch = Watch(table)
    env = DummyVecEnv([lambda: RoutingEnv(table, ALPHA)] * 8)
    return watch.result(PPO("MlpPolicy", env, seed=seed, device="cpu").learn(steps, watch))


def ours(table: TransitionTable, seed: int, algorithm: str) -> Watched:
    """Run one of the toolkit's learners with its defaults."""
    watch = Watch(table)

    def watching(_: Any) -> Watch:
        return watch

    with mock.patch.object(toolkit.routing.train, "Progress", watching):
        return watch.result(toolkit.routing.train.fit_router(table, TrainConfig(alpha=ALPHA, algorithm=algorithm), seed))


def paired(left: list[float], right: list[float]) -> str:
    """Write the mean difference over seeds with its 95% interval (Student's t)."""
    difference = np.subtract(left, right)
    half = float(t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference)))
    return f"{difference.mean():+.3f} [{difference.mean() - half:+.3f}, {difference.mean() + half:+.3f}]"


def race(seeds: int = 5, steps: int = 200_000, table_seed: int = 1) -> str:
    """Run the race on a generated table; return its results as a Markdown table."""
    table = synthetic_table(noise=0.5, seed=table_seed)
    runs: dict[str, list[Watched]] = {"SB3's PPO, its defaults": [], "ppo": [], "exact": []}
    for seed in range(seeds):
        runs["exact"].append(ours(table, seed, "exact"))
        runs["ppo"].append(ours(table, seed, "ppo"))
        runs["SB3's PPO, its defaults"].append(defaults(table, seed, steps))
        for name, watched in runs.items():
            last = watched[-1]
            print(f"seed {seed}, {name}: best {max(last.rewards):.3f}, final {last.final:.3f}, {last.total:.1f} s", flush=True)
    base = runs["SB3's PPO, its defaults"]
    targets = [max(watched.rewards) for watched in base]
    needed = np.array([watched.reaches(target) for watched, target in zip(base, targets, strict=True)])
    rows = []
    for name, watched in runs.items():
        took = np.array([each.reaches(target) for each, target in zip(watched, targets, strict=True)])
        against = [
            "-" if watched is other else paired([w.final for w in watched], [w.final for w in other])
            for other in (base, runs["ppo"])
        ]
        final = np.mean([each.final for each in watched])
        rows.append([name, f"{np.median(took):.2f}", f"{np.median(needed / took):.0f}", f"{final:.3f}", *against])
    test = table.rows("test")
    fixed = int(exact.best_fixed_path(table, table.rows("train"), ALPHA))
    references = {
        "best fixed path": exact.node_outcome(table, test, fixed),
        "oracle (hindsight)": exact.node_outcome(table, test, exact.oracle(table, test, ALPHA)),
    }
    for name, found in references.items():
        rows.append([name, "-", "-", f"{float(exact.benchmark_weights(table, test) @ found.reward(ALPHA)):.3f}", "-", "-"])
    columns = ["learner", "seconds to the target", "times as fast", "final test reward", "against SB3's PPO", "against ppo"]
    return markdown(columns, rows)


def main() -> None:
    """Run the race and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--table", type=int, default=1, help="seed of the table; 0 is the one that defaults were chosen on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(race(options.seeds, options.steps, options.table))


if __name__ == "__main__":
    main()
