"""Compare one conditioned policy with a policy per alpha: `python -m tests.benchmarks.conditioned`.

All policies are trained with `exact`, on synthetic tables on which no setting was chosen. The 21 alphas range from 0 to the
value at which stopping at once is best. Seconds are CPU time.
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import t

from tests.synthetic import synthetic_table
from toolkit.replay import exact
from toolkit.replay.table import Floats, TransitionTable
from toolkit.report.tables import markdown
from toolkit.routing.alphas import auto_alphas
from toolkit.routing.router import Router
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig

ALPHAS = 21
TABLES = (11, 12, 13, 14, 15)
"""Seeds of the synthetic tables; settings were chosen on 1, 2 and 3."""


def train_timed(table: TransitionTable, config: TrainConfig, seed: int) -> tuple[float, Router]:
    """Train a policy; return the CPU time in seconds, and the router."""
    started = time.process_time()
    model = fit_router(table, config, seed)
    card = {"models": list(table.models), "alpha": config.alpha, "settings": config.model_dump()}
    return time.process_time() - started, Router(model, card)


def reward(router: Router, table: TransitionTable, alpha: float) -> float:
    """Return a policy's exact mean reward on the test split at an alpha."""
    rows = table.rows("test")
    outcome = exact.outcome(table, rows, exact.path_shares(table, router.probabilities(table, rows, alpha)))
    return float(exact.benchmark_weights(table, rows) @ outcome.reward(alpha))


def half_widths(differences: Floats) -> Floats:
    """Return half the width of the 95% interval of each mean over the first axis (Student's t), from `(n, ...)`."""
    n = len(differences)
    half_width: Floats = t.ppf(0.975, n - 1) * differences.std(axis=0, ddof=1) / np.sqrt(n)
    return half_width


class Comparison(NamedTuple):
    """Test rewards and training times of both kinds of policy on a table.

    Attributes:
        alphas: The alphas.
        separate: Test reward of each seed's policy per alpha, `(seeds, alphas)`.
        conditioned: Test reward of each seed's conditioned policy, `(seeds, alphas)`.
        seconds: CPU time of all policies per alpha, and of all conditioned policies.
    """

    alphas: tuple[float, ...]
    separate: Floats
    conditioned: Floats
    seconds: tuple[float, float]


def compare_on(table: TransitionTable, seeds: int, largest: float) -> Comparison:
    """Train both kinds of policy on a table."""
    candidates = [alpha for alpha in auto_alphas(table, 101, allow_stop=True) if alpha <= largest]
    alphas = tuple(candidates[n] for n in np.unique(np.linspace(0, len(candidates) - 1, ALPHAS).round().astype(int)))
    separate, conditioned = np.empty((seeds, len(alphas))), np.empty((seeds, len(alphas)))
    separate_seconds, conditioned_seconds = 0.0, 0.0
    for seed in range(seeds):
        for n, alpha in enumerate(alphas):
            seconds, router = train_timed(table, TrainConfig(algorithm="exact", allow_stop=True, alpha=alpha), seed)
            separate_seconds += seconds
            separate[seed, n] = reward(router, table, alpha)
        seconds, router = train_timed(table, TrainConfig(algorithm="exact", allow_stop=True, alphas=alphas), seed)
        conditioned_seconds += seconds
        conditioned[seed] = [reward(router, table, alpha) for alpha in alphas]
    return Comparison(
        alphas=alphas, separate=separate, conditioned=conditioned, seconds=(separate_seconds, conditioned_seconds)
    )


def compare(seeds: int = 5, tables: Sequence[int] = TABLES, largest: float = 1.5) -> tuple[str, str]:
    """Train both kinds of policy; return the training times in prose, and the test rewards as a Markdown table.

    Differences are means over seeds, then over tables. The interval is over tables if there are several, else over seeds.
    """
    results = [compare_on(synthetic_table(noise=0.5, seed=table), seeds, largest) for table in tables]
    separate = np.stack([result.separate for result in results])  # (tables, seeds, alphas)
    conditioned = np.stack([result.conditioned for result in results])
    each, one = np.sum([result.seconds for result in results], axis=0) / (separate.size, conditioned[..., 0].size)
    times = (
        f"{separate.size} policies for one alpha each take {each * separate.size:.0f} s of CPU time, {each:.2f} s each. A "
        f"conditioned policy takes {one:.2f} s, {one / each:.1f} times as much."
    )
    differences = conditioned - separate
    samples = differences.mean(1) if len(results) > 1 else differences[0]
    half, alphas = half_widths(samples), np.mean([result.alphas for result in results], axis=0)
    rows = [
        [
            f"{alphas[n]:.3g}",
            *(f"{rewards[..., n].mean():.3f}" for rewards in (separate, conditioned)),
            f"{samples[:, n].mean():+.3f} ±{half[n]:.3f}",
        ]
        for n in range(len(alphas))
    ]
    means = samples.mean(1)
    overall = f"{means.mean():+.3f} ±{half_widths(means):.3f}"
    rows.append(["all", f"{separate.mean():.3f}", f"{conditioned.mean():.3f}", overall])
    return times, markdown(["alpha", "policy per alpha", "conditioned policy", "difference"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", type=int, nargs="+", default=TABLES, help="seeds of the synthetic tables")
    parser.add_argument("--largest", type=float, default=1.5, help="largest alpha")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\n\n".join(compare(options.seeds, options.tables, options.largest)))


if __name__ == "__main__":
    main()
