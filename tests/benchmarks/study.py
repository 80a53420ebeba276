"""Study which settings of training work: `just study`. docs/design/learning.md has the result and what follows from it.

Settings are compared on the validation split of several tables: the reference, synthetic ones, and caches of other people's
results. A seventh of the training split takes the place of the validation split in training, so that what is compared is
neither learned from nor selected on; the test split is not used at all.
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import t as student

from tests.synthetic import synthetic_table
from toolkit.cli.common import open_suite
from toolkit.replay import exact
from toolkit.replay.exact import most_probable
from toolkit.replay.table import Floats, Ints, TransitionTable, load_table
from toolkit.report.tables import markdown
from toolkit.routing.baselines.knn import knn
from toolkit.routing.decide import action_probabilities
from toolkit.routing.train import fit_router
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig

ALPHAS = (0.0, 0.05, 0.3)
"""Prices of cost at which routers are trained."""
SYNTHETIC: dict[str, dict[str, Any]] = {
    "synthetic, 8 topics": {"rows": 3000, "noise": 0.5, "seed": 31, "topics": 8},
    "synthetic, 16 topics": {"rows": 3000, "noise": 1.0, "seed": 32, "topics": 16},
    "synthetic, one hop": {"rows": 3000, "noise": 1.0, "seed": 33, "topics": 12, "n_models": 5, "horizon": 1},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no terms": {"terms": False},
    "blind": {"blind": True},
    "first layer of each hop": {"first_layer": "hop"},
    "first layer shared": {"first_layer": "shared"},
    "10 components": {"projection": 10},
    "32 components": {"projection": 32},
    "layers 64, 64": {"net_arch": (64, 64)},
    "linear, whole embeddings": {"net_arch": (), "projection": 0},
}
OWN_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "8 epochs": {"ppo": {"n_epochs": 8}},
        "learning rate 1e-3": {"ppo": {"learning_rate": 1e-3}},
        "constant entropy bonus 0.01": {"ppo": {"ent_start": 0.01, "ent_coef": 0.01}},
        "entropy bonus from 0.1": {"ppo": {"ent_start": 0.1}},
    },
    "exact": {
        "dropout 0.1": {"exact": {"dropout": 0.1}},
        "dropout 0.5": {"exact": {"dropout": 0.5}},
        "no moving average": {"exact": {"averaging": 0.0}},
        "entropy bonus from 0.1, in 10 passes": {"exact": {"ent_start": 0.1, "ent_epochs": 10}},
        "weight decay 1": {"exact": {"weight_decay": 1.0}},
    },
}


class Case(NamedTuple):
    """A table, loaded by name, and one training on it."""

    table: str
    algorithm: str
    setting: str
    alpha: float
    seed: int


def load(name: str) -> TransitionTable:
    """Load the reference, a synthetic table, or the only suite of a cache file."""
    if name in SYNTHETIC:
        return synthetic_table(**SYNTHETIC[name])
    if name == "reference":
        suite, opened = open_suite("quickstart", None)
        return load_table(opened, suite)
    opened = Cache(name)
    recorded = opened.suites.get(opened.suites.names()[0])
    assert recorded is not None
    return load_table(opened, recorded)


@cache
def nested(name: str) -> TransitionTable:
    """Return a table that tests on its validation split and validates on a seventh of its training split."""
    table = load(name)
    train = np.random.default_rng(0).permutation(table.rows("train"))
    split = np.where(table.split == "test", "unused", np.where(table.split == "validation", "test", table.split))
    split[train[: len(train) // 7]] = "validation"
    return replace(table, split=split)


def mean_reward(table: TransitionTable, outcome: exact.Outcome, alpha: float) -> float:
    """Return the mean over benchmarks of the rewards on the rows of the test split."""
    return float(exact.benchmark_weights(table, table.rows("test")) @ outcome.reward(alpha))


def train_and_evaluate(case: Case) -> tuple[float, float]:
    """Return the greedy reward of a trained policy, and the processor seconds that training took."""
    torch.set_num_threads(1)
    table = nested(case.table)
    rows = table.rows("test")
    config = TrainConfig(algorithm=case.algorithm, alpha=case.alpha, allow_stop=table.horizon > 1)
    config = config.changed({**SETTINGS, **OWN_SETTINGS[case.algorithm]}[case.setting])
    started = time.process_time()
    model = fit_router(table, config, case.seed)
    seconds = time.process_time() - started
    observer = model.get_env().observer  # type: ignore[union-attr]
    probabilities = most_probable(action_probabilities(model, observer, rows, case.alpha))
    return mean_reward(table, exact.outcome(table, rows, exact.path_shares(table, probabilities)), case.alpha), seconds


def baselines(name: str, alpha: float) -> dict[str, float]:
    """Return the rewards of the baselines that routers are measured against."""
    table = nested(name)
    rows, stop = table.rows("test"), table.horizon > 1
    nodes: dict[str, int | Ints] = {
        "best fixed path": int(exact.best_fixed_path(table, table.rows("train"), alpha, stop)),
        "kNN": knn(table, "test", stop).choose(alpha),
        "oracle": exact.oracle(table, rows, alpha, stop),
    }
    return {policy: mean_reward(table, exact.node_outcome(table, rows, node), alpha) for policy, node in nodes.items()}


def interval(values: Floats) -> str:
    """Format a mean over tables, alphas and seeds with its 95% interval, tables being independent (Student's t)."""
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return f"{values.mean():+.4f} ± {half:.4f}"


def main() -> None:
    """Print the rewards of the defaults on every table, and the gain of every other setting over them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", nargs="*", default=[], help="caches of one-hop results: files of toolkit import")
    parser.add_argument("--algorithms", nargs="+", choices=OWN_SETTINGS, default=list(OWN_SETTINGS))
    parser.add_argument("--settings", nargs="+", help="settings besides the defaults; all by default")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    tables = ["reference", *SYNTHETIC, *options.results]
    titles = [Path(table).stem for table in tables]
    shape = (len(tables), len(ALPHAS), options.seeds)
    by_name = [[baselines(table, alpha) for alpha in ALPHAS] for table in tables]
    rewards = {
        policy: np.array([np.mean([values[policy] for values in per_alpha]) for per_alpha in by_name])
        for policy in by_name[0][0]
    }
    gains, seconds = {}, {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for algorithm in options.algorithms:
            chosen = ["defaults", *(options.settings or {**SETTINGS, **OWN_SETTINGS[algorithm]})]
            for setting in dict.fromkeys(chosen):
                cases = [
                    Case(table, algorithm, setting, alpha, seed)
                    for table, alpha, seed in product(tables, ALPHAS, range(options.seeds))
                ]
                results = np.array(list(pool.map(train_and_evaluate, cases)))
                reward = results[:, 0].reshape(shape).mean((1, 2))
                rewards.setdefault(algorithm, reward)  # the defaults come first
                gains[algorithm, setting] = reward - rewards[algorithm]
                seconds[algorithm, setting] = results[:, 1].mean()
                print(algorithm, setting, reward.round(4), f"{seconds[algorithm, setting]:.1f} s", flush=True)
    print(markdown(["R, mean of alphas", *titles], [[name, *(f"{x:.3f}" for x in row)] for name, row in rewards.items()]))
    for algorithm in options.algorithms:
        rows = [
            [setting, interval(gain), *(f"{x:+.3f}" for x in gain), f"{seconds[kind, setting]:.1f} s"]
            for (kind, setting), gain in gains.items()
            if kind == algorithm
        ]
        print(markdown([f"{algorithm}: gain over the defaults", "all tables", *titles, "processor time"], rows))


if __name__ == "__main__":
    main()
