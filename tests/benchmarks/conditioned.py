"""One conditioned policy beside a policy for each alpha: `python -m tests.benchmarks.conditioned`.

All learn by `exact` on a generated table that nothing was chosen on, 21 alphas between nothing and what makes stopping at once
best. Seconds are the processor's.
"""

import argparse
import time

import numpy as np
import torch
from scipy.stats import t

from tests.synthetic import synthetic_table
from toolkit import exact
from toolkit.config import TrainConfig
from toolkit.policy import Router
from toolkit.report.tables import markdown
from toolkit.sweep import auto_alphas
from toolkit.table import Floats, TransitionTable
from toolkit.train import fit_router


def learned(table: TransitionTable, config: TrainConfig, seed: int) -> tuple[float, Router]:
    """Train a policy; return what it took, in seconds, and the router."""
    started = time.process_time()
    model = fit_router(table, config, seed)
    card = {"models": list(table.models), "alpha": config.alpha, "settings": config.model_dump()}
    return time.process_time() - started, Router(model, card)


def reward(router: Router, table: TransitionTable, alpha: float) -> float:
    """Return a policy's exact mean reward on the test split at a price."""
    rows = table.rows("test")
    worth = exact.outcome(table, rows, exact.path_shares(table, router.probabilities(table, rows, alpha)))
    return float(exact.benchmark_weights(table, rows) @ worth.reward(alpha))


def halves(differences: Floats) -> Floats:
    """Return half of the 95% interval of each mean over seeds (Student's t), from `(seeds, values)`."""
    seeds = len(differences)
    found: Floats = t.ppf(0.975, seeds - 1) * differences.std(axis=0, ddof=1) / np.sqrt(seeds)
    return found


def compare(seeds: int = 5, table_seed: int = 1, largest: float = 1.5) -> tuple[str, str]:
    """Train both kinds of policy; return what they took, in a sentence, and their test rewards as a Markdown table."""
    table = synthetic_table(noise=0.5, seed=table_seed)
    every = [alpha for alpha in auto_alphas(table, 101, allow_stop=True) if alpha <= largest]
    alphas = tuple(every[n] for n in np.unique(np.linspace(0, len(every) - 1, 21).round().astype(int)))
    own, one = np.empty((seeds, len(alphas))), np.empty((seeds, len(alphas)))
    took, took_one = 0.0, 0.0
    for seed in range(seeds):
        for n, alpha in enumerate(alphas):
            seconds, router = learned(table, TrainConfig(algorithm="exact", allow_stop=True, alpha=alpha), seed)
            took, own[seed, n] = took + seconds, reward(router, table, alpha)
        seconds, router = learned(table, TrainConfig(algorithm="exact", allow_stop=True, alphas=alphas), seed)
        took_one, one[seed] = took_one + seconds, [reward(router, table, alpha) for alpha in alphas]
    runs = own.size
    told = (
        f"{runs} policies of an alpha each: {took:.0f} s, {took / runs:.2f} s each. A conditioned one: "
        f"{took_one / seeds:.2f} s, {took_one / seeds / (took / runs):.1f} times as much."
    )
    half = halves(one - own)
    rows = [
        [f"{alpha:g}", f"{own[:, n].mean():.3f}", f"{one[:, n].mean():.3f}", f"{(one - own)[:, n].mean():+.3f} ±{half[n]:.3f}"]
        for n, alpha in enumerate(alphas)
    ]
    mean = (one - own).mean(1, keepdims=True)
    rows.append(["all", f"{own.mean():.3f}", f"{one.mean():.3f}", f"{mean.mean():+.3f} ±{halves(mean)[0]:.3f}"])
    return told, markdown(["alpha", "a policy of its own", "the conditioned one", "difference"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", type=int, default=1, help="seed of the table")
    parser.add_argument("--largest", type=float, default=1.5, help="the dearest alpha")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\n\n".join(compare(options.seeds, options.table, options.largest)))


if __name__ == "__main__":
    main()
