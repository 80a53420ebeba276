"""One conditioned policy beside a policy for each alpha: `python -m tests.benchmarks.conditioned`.

All learn by `exact` on generated tables that nothing was chosen on, 21 alphas between nothing and what makes stopping at once
best. Seconds are the processor's.
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
from toolkit.routing.router import Router
from toolkit.routing.sweep import auto_alphas
from toolkit.routing.train import fit_router
from toolkit.suites.config import TrainConfig

ALPHAS = 21
TABLES = (11, 12, 13, 14, 15)
"""Seeds of generated tables; settings were chosen on 1, 2 and 3."""


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
    """Return half of the 95% interval of each mean over the first axis (Student's t), from `(n, ...)`."""
    n = len(differences)
    found: Floats = t.ppf(0.975, n - 1) * differences.std(axis=0, ddof=1) / np.sqrt(n)
    return found


class Learned(NamedTuple):
    """What both kinds of policy came to on a table.

    Attributes:
        alphas: The prices.
        own: Test reward of each seed's policy of an alpha of its own, `(seeds, alphas)`.
        one: The same of each seed's conditioned policy.
        seconds: That the policies of an alpha of their own took, all together, and the conditioned ones.
    """

    alphas: tuple[float, ...]
    own: Floats
    one: Floats
    seconds: tuple[float, float]


def learned_on(table: TransitionTable, seeds: int, largest: float) -> Learned:
    """Train both kinds of policy on a table."""
    every = [alpha for alpha in auto_alphas(table, 101, allow_stop=True) if alpha <= largest]
    alphas = tuple(every[n] for n in np.unique(np.linspace(0, len(every) - 1, ALPHAS).round().astype(int)))
    own, one = np.empty((seeds, len(alphas))), np.empty((seeds, len(alphas)))
    took, took_one = 0.0, 0.0
    for seed in range(seeds):
        for n, alpha in enumerate(alphas):
            seconds, router = learned(table, TrainConfig(algorithm="exact", allow_stop=True, alpha=alpha), seed)
            took, own[seed, n] = took + seconds, reward(router, table, alpha)
        seconds, router = learned(table, TrainConfig(algorithm="exact", allow_stop=True, alphas=alphas), seed)
        took_one, one[seed] = took_one + seconds, [reward(router, table, alpha) for alpha in alphas]
    return Learned(alphas, own, one, (took, took_one))


def compare(seeds: int = 5, tables: Sequence[int] = TABLES, largest: float = 1.5) -> tuple[str, str]:
    """Train both kinds of policy; return what they took, in a sentence, and their test rewards as a Markdown table.

    Differences are means over seeds, then over tables; with more than one table, the interval is over tables, else over seeds.
    """
    found = [learned_on(synthetic_table(noise=0.5, seed=table), seeds, largest) for table in tables]
    own, one = (np.stack([getattr(each, name) for each in found]) for name in ("own", "one"))  # (tables, seeds, alphas)
    took, took_one = np.sum([each.seconds for each in found], axis=0) / (own.size, one[..., 0].size)
    told = (
        f"{own.size} policies of an alpha each: {took * own.size:.0f} s, {took:.2f} s each. A conditioned one: "
        f"{took_one:.2f} s, {took_one / took:.1f} times as much."
    )
    apart = one - own
    drawn = apart.mean(1) if len(found) > 1 else apart[0]
    half, alphas = halves(drawn), np.mean([each.alphas for each in found], axis=0)
    rows = [
        [
            f"{alphas[n]:.3g}",
            *(f"{kind[..., n].mean():.3f}" for kind in (own, one)),
            f"{drawn[:, n].mean():+.3f} ±{half[n]:.3f}",
        ]
        for n in range(len(alphas))
    ]
    mean = drawn.mean(1)
    rows.append(["all", f"{own.mean():.3f}", f"{one.mean():.3f}", f"{mean.mean():+.3f} ±{halves(mean):.3f}"])
    return told, markdown(["alpha", "a policy of its own", "the conditioned one", "difference"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", type=int, nargs="+", default=TABLES, help="seeds of the tables")
    parser.add_argument("--largest", type=float, default=1.5, help="the dearest alpha")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("\n\n".join(compare(options.seeds, options.tables, options.largest)))


if __name__ == "__main__":
    main()
