"""Race learners to the best test reward that SB3's PPO with its defaults reaches: `python -m tests.benchmarks.race`.

All learners use the same synthetic table and hidden layers, and are evaluated exactly after every update. Seconds are CPU time
of the whole run without those evaluations, so other work on the machine does not count.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import t
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.synthetic import synthetic_table
from toolkit.replay import exact
from toolkit.replay.environments import RoutingEnv
from toolkit.replay.table import TransitionTable
from toolkit.report.tables import markdown
from toolkit.routing.router import Router
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig

ALPHA = 0.05


class LearningCurve(NamedTuple):
    """The course of a training run.

    Attributes:
        seconds: CPU time at each update.
        rewards: Test reward at each update.
        final: Test reward of the final policy.
        total: CPU time of the whole run.
    """

    seconds: list[float]
    rewards: list[float]
    final: float
    total: float

    def seconds_to(self, target: float) -> float:
        """Return the CPU time at which the test reward first reached a target; inf if it never did."""
        times = [s for s, reward in zip(self.seconds, self.rewards, strict=True) if reward >= target]
        return min(times, default=float("inf"))


def test_reward(model: BaseAlgorithm, table: TransitionTable) -> float:
    """Return a policy's exact mean reward on the test split."""
    router = Router(model, {"run": "", "models": list(table.models), "horizon": table.horizon})
    rows = table.rows("test")
    rewards = exact.outcome(table, rows, exact.path_shares(table, router.probabilities(table, rows))).reward(ALPHA)
    return float(exact.benchmark_weights(table, rows) @ rewards)


class CurveCallback(BaseCallback):
    """Evaluates the policy after every update and stops the clock meanwhile.

    An update ends at the start of a rollout; for `exact`, which has no rollouts, at every step.
    """

    def __init__(self, table: TransitionTable) -> None:
        super().__init__()
        self.table = table
        self.started, self.seconds, self.rewards = time.process_time(), list[float](), list[float]()

    def _on_rollout_start(self) -> None:
        self._evaluate()

    def _on_step(self) -> bool:
        if not hasattr(self.model, "rollout_buffer"):
            self._evaluate()
        return True

    def _evaluate(self) -> None:
        now = time.process_time()
        self.seconds.append(now - self.started)
        self.rewards.append(test_reward(self.model, self.table))
        self.started += time.process_time() - now

    def curve(self, model: BaseAlgorithm) -> LearningCurve:
        """Return the learning curve of a trained model."""
        total = time.process_time() - self.started
        return LearningCurve(self.seconds, self.rewards, final=test_reward(model, self.table), total=total)


def run_sb3(table: TransitionTable, seed: int, steps: int) -> LearningCurve:
    """Train SB3's PPO with its defaults."""
    callback = CurveCallback(table)
    env = DummyVecEnv([lambda: RoutingEnv(table, ALPHA)] * 8)
    return callback.curve(PPO("MlpPolicy", env, seed=seed, device="cpu").learn(steps, callback))


def run_toolkit(table: TransitionTable, seed: int, algorithm: str) -> LearningCurve:
    """Train one of the toolkit's learners with its defaults."""
    callback = CurveCallback(table)
    config = TrainConfig(alpha=ALPHA, algorithm=algorithm)
    return callback.curve(fit_router(table, config, seed, callback=callback))


def paired(left: list[float], right: list[float]) -> str:
    """Format the mean difference over seeds with its 95% interval (Student's t)."""
    difference = np.subtract(left, right)
    half = float(t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / np.sqrt(len(difference)))
    return f"{difference.mean():+.3f} [{difference.mean() - half:+.3f}, {difference.mean() + half:+.3f}]"


def race(seeds: int = 5, steps: int = 200_000, table_seed: int = 1) -> str:
    """Run the race on a synthetic table; return the results as a Markdown table."""
    table = synthetic_table(noise=0.5, seed=table_seed)
    runs: dict[str, list[LearningCurve]] = {"SB3's PPO, its defaults": [], "ppo": [], "exact": []}
    for seed in range(seeds):
        runs["exact"].append(run_toolkit(table, seed, "exact"))
        runs["ppo"].append(run_toolkit(table, seed, "ppo"))
        runs["SB3's PPO, its defaults"].append(run_sb3(table, seed, steps))
        for name, curves in runs.items():
            last = curves[-1]
            print(f"seed {seed}, {name}: best {max(last.rewards):.3f}, final {last.final:.3f}, {last.total:.1f} s", flush=True)
    base = runs["SB3's PPO, its defaults"]
    targets = [max(curve.rewards) for curve in base]
    base_seconds = np.array([curve.seconds_to(target) for curve, target in zip(base, targets, strict=True)])
    rows = []
    for name, curves in runs.items():
        seconds = np.array([curve.seconds_to(target) for curve, target in zip(curves, targets, strict=True)])
        differences = [
            "-" if curves is other else paired([c.final for c in curves], [c.final for c in other])
            for other in (base, runs["ppo"])
        ]
        final = np.mean([curve.final for curve in curves])
        speed = np.median(base_seconds / seconds)
        rows.append([name, f"{np.median(seconds):.2f}", f"{speed:.0f}", f"{final:.3f}", *differences])
    test = table.rows("test")
    fixed = int(exact.best_fixed_path(table, table.rows("train"), ALPHA))
    references = {
        "best fixed path": exact.node_outcome(table, test, fixed),
        "oracle (hindsight)": exact.node_outcome(table, test, exact.oracle(table, test, ALPHA)),
    }
    for name, outcome in references.items():
        rows.append([name, "-", "-", f"{float(exact.benchmark_weights(table, test) @ outcome.reward(ALPHA)):.3f}", "-", "-"])
    columns = ["learner", "seconds to target", "times as fast", "final test reward", "minus SB3's PPO", "minus ppo"]
    return markdown(columns, rows)


def main() -> None:
    """Run the race and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--table", type=int, default=1, help="seed of the table; the defaults were chosen on seed 0")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(race(options.seeds, options.steps, options.table))


if __name__ == "__main__":
    main()
