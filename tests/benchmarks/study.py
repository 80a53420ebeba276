"""Study how routers generalise from few questions, and which settings are best: `just study`.

Settings are compared on a table's validation split, which neither a learner nor the test sees. For early stopping, a learner
gets a seventh as many questions as for training, from the training split. Test rewards are reported only for the defaults and
the best settings, after these are chosen.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy.stats import t

from tests.synthetic import synthetic_table
from toolkit.cli.common import open_suite
from toolkit.replay import exact
from toolkit.replay.table import Floats, Ints, TransitionTable, load_table
from toolkit.report.tables import markdown
from toolkit.routing.baselines.knn import knn
from toolkit.routing.baselines.linear import linear
from toolkit.routing.router import Router
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig

ALPHA = 0.05
SIZES = (100, 300, 1000)
TOPICS = (4, 8, 16, 32)
NOISE = (0.5, 1.0)
"""Noise of the synthetic tables, in turn."""
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "defaults": {},
        "projection 8": {"projection": 8},
        "projection 16": {"projection": 16},
        "projection 16, entropy 0.003": {"projection": 16, "ppo": {"ent_coef": 0.003}},
        "projection 16, learning rate 1e-3": {"projection": 16, "ppo": {"learning_rate": 1e-3}},
        "projection 16, 300,000 steps": {"projection": 16, "timesteps": 300_000},
        "linear policy, whole embeddings": {"projection": 0, "net_arch": ()},
        "linear policy per hop, whole embeddings": {"projection": 0, "net_arch": (), "per_hop": True},
    },
    "exact": {
        "defaults": {},
        "projection 8": {"projection": 8},
        "projection 16": {"projection": 16},
        "projection 8, dropout 0.3": {"projection": 8, "exact": {"dropout": 0.3}},
        "projection 16, dropout 0.3": {"projection": 16, "exact": {"dropout": 0.3}},
        "projection 8, minibatches of 16": {"projection": 8, "exact": {"batch_size": 16}},
        "projection 16, minibatches of 16": {"projection": 16, "exact": {"batch_size": 16}},
        "projection 16, 80 passes, patience 12": {"projection": 16, "exact": {"n_epochs": 80, "patience": 12}},
        "projection 16, entropy 0.003": {"projection": 16, "exact": {"ent_coef": 0.003}},
        "linear policy, whole embeddings": {"projection": 0, "net_arch": ()},
        "linear policy per hop, whole embeddings": {"projection": 0, "net_arch": (), "per_hop": True},
        "linear policy, projection 32": {"net_arch": ()},
    },
}


def few(table: TransitionTable, size: int, seed: int) -> TransitionTable:
    """Keep `size` training questions and a seventh as many for early stopping, and set the validation split aside."""
    train = np.random.default_rng(seed).permutation(table.rows("train"))
    size = min(size, len(train) * 7 // 8)
    split = np.where(table.split == "validation", "selection", np.where(table.split == "train", "unused", table.split))
    split[train[:size]] = "train"
    split[train[size : size + size // 7]] = "validation"
    return replace(table, split=split)


def mean(table: TransitionTable, rows: Ints, reward: Floats) -> float:
    """Return the unweighted mean of the rewards over benchmarks."""
    return float(exact.benchmark_weights(table, rows) @ reward)


def routed(table: TransitionTable, changes: Mapping[str, Any], algorithm: str, seed: int) -> tuple[float, float]:
    """Train a router; return its exact reward on the validation split and on the test split."""
    config = TrainConfig(algorithm=algorithm, alpha=ALPHA).changed(dict(changes))
    router = Router(fit_router(table, config, seed), {"run": "", "models": list(table.models), "horizon": table.horizon})

    def reward(rows: Ints) -> float:
        shares = exact.path_shares(table, router.probabilities(table, rows))
        return mean(table, rows, exact.outcome(table, rows, shares).reward(ALPHA))

    return reward(np.flatnonzero(table.split == "selection")), reward(table.rows("test"))


def baselines(table: TransitionTable) -> dict[str, float]:
    """Return the test rewards of the baselines, which do not depend on a seed."""
    rows, train = table.rows("test"), table.rows("train")
    ends: dict[str, int | Ints] = {
        "kNN": knn(table, "test", False).choose(ALPHA),
        "linear": linear(table, "test", False).choose(ALPHA),
        "best fixed path": int(exact.best_fixed_path(table, train, ALPHA)),
        "oracle": exact.oracle(table, rows, ALPHA),
    }
    return {name: mean(table, rows, exact.node_outcome(table, rows, end).reward(ALPHA)) for name, end in ends.items()}


def interval(values: Floats) -> str:
    """Format the mean over tables and seeds with its 95% interval (Student's t)."""
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return f"{values.mean():+.4f} ± {half:.4f}"


def main() -> None:
    """Print the comparison of the settings on validation, and the test rewards of the best ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithms", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--tables", type=int, default=4, help="number of synthetic tables beside the reference cache")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite, cache = open_suite("quickstart", None)
    tables = {"reference": load_table(cache, suite)}
    for n in range(options.tables):  # seeds on which nothing was chosen before
        topics, noise = TOPICS[n % len(TOPICS)], NOISE[n % len(NOISE)]
        tables[f"synthetic {n}"] = synthetic_table(3000, seed=10 + n, noise=noise, topics=topics)
    small = {(n, size, s): few(table, size, s) for (n, table), size, s in product(tables.items(), SIZES, range(options.seeds))}
    kinds = {size: np.array([key[1] == size for key in small]) for size in SIZES}
    reference = np.array([key[0] == "reference" for key in small])
    report = []
    for algorithm in options.algorithms:
        rewards = {}
        for name, changes in SETTINGS[algorithm].items():
            rewards[name] = np.array([routed(table, changes, algorithm, key[2]) for key, table in small.items()]).T
            print(algorithm, name, rewards[name].mean(1).round(4), flush=True)
        gain = {name: values[0] - rewards["defaults"][0] for name, values in rewards.items()}
        parts = [np.ones(len(small), bool), *kinds.values(), reference]
        rows = [[name, *(interval(values[part]) for part in parts)] for name, values in gain.items() if name != "defaults"]
        print(markdown([f"{algorithm}, gain on validation", "all", *map(str, SIZES), "reference"], rows))
        best = max(gain, key=lambda name: gain[name].mean())
        report += [(f"{algorithm}, {name}", rewards[name][1]) for name in dict.fromkeys(("defaults", best))]
    baseline_rewards = [baselines(table) for table in small.values()]
    report += [(name, np.array([by_name[name] for by_name in baseline_rewards])) for name in baseline_rewards[0]]
    for source, mask in (("reference cache", reference), ("synthetic tables", ~reference)):
        rows = [[name, *(f"{values[mask & kind].mean():.3f}" for kind in kinds.values())] for name, values in report]
        print(markdown([f"test reward, {source}", *map(str, SIZES)], rows))


if __name__ == "__main__":
    main()
