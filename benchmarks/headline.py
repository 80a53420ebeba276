"""What routing on the reference cache shows: routers that read responses, their blind twins, and those that see the question.

    python -m benchmarks.headline
    python -m benchmarks.headline --alphas 0.02,0.05,0.1 --algorithms ppo,exact --pools

The first command trains PPO routers of five seeds at one alpha; the second one gives all tables of
docs/explanations/headline.md.
"""

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.reference import SUITE
from toolkit.cli.common import open_suite
from toolkit.cli.progress_bar import ProgressBar
from toolkit.core.cpus import available_cpus
from toolkit.replay.exact import curve, frontier
from toolkit.replay.table import TransitionTable, load_table
from toolkit.report.evaluation import with_interval
from toolkit.report.plots import cost_quality
from toolkit.report.sweep import WIDTH
from toolkit.report.tables import aligned, count, format_number
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.claims import LEVEL, holm
from toolkit.routing.comparison import OVERALL
from toolkit.routing.custom import CustomRouter
from toolkit.routing.evaluate import Evaluation, evaluate_together
from toolkit.routing.policies import ROUTER, Policy, router_policies
from toolkit.routing.processes import prepare
from toolkit.routing.router import Router
from toolkit.routing.statistics import Estimate
from toolkit.routing.sweep import plan_runs, routers_by_alpha, sweep
from toolkit.routing.sweep_metrics import scores_of
from toolkit.routing.swept import swept
from toolkit.routing.train import build_router, fit_router
from toolkit.routing.untrained import Setting, sweep_routed
from toolkit.store import Cache
from toolkit.suites.benchmarks import synthetic_benchmarks
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

BLIND, CEILING, KIND = "blind twin", "ceiling", "kind"
TABLES = {CEILING: "Ceiling", KIND: "Kind"}
"""Policies of benchmarks/ceiling.py, which know what no router is told."""
KNOWS_THE_BENCHMARK = ("best fixed path", "best path per benchmark")
"""Baselines that read nothing but know more than the question says."""


class Study(NamedTuple):
    """The reference suite with its cache and table, and the folder of trained routers."""

    suite: Suite
    cache: Cache
    table: TransitionTable
    synthetic: Mapping[str, bool]
    runs: Path

    def config(self, algorithm: str, blind: bool) -> TrainConfig:
        """Return the default settings of an algorithm, reading responses or blind to them."""
        return self.suite.config.train.changed({"algorithm": algorithm, "blind": blind})

    def routers(self, algorithm: str, blind: bool, alphas: Sequence[float], seeds: int) -> dict[float, list[Router]]:
        """Train the routers that are missing, and return those of every alpha."""
        runs = plan_runs(self.suite, self.config(algorithm, blind), alphas, seeds, self.runs)
        with ProgressBar(len(runs), "routers") as bar:
            sweep(self.suite, self.cache, self.table, runs, self.synthetic, available_cpus(), bar)
        return routers_by_alpha(runs)


def main() -> None:
    """Train and compare the routers, print one table per algorithm and alpha, and draw cost against quality."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=None, help="the cache; default: the suite's")
    parser.add_argument("--alphas", default="0.05", help="prices of cost")
    parser.add_argument("--algorithms", default="ppo", help="algorithms with their default settings")
    parser.add_argument("--seeds", type=int, default=5, help="routers per alpha")
    parser.add_argument("--pools", action="store_true", help="also leave out one model of the pool at a time")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="folder of the trained routers")
    parser.add_argument(
        "--figure", type=Path, default=None, help="file for the picture; default: headline.png beside the cache"
    )
    arguments = parser.parse_args()
    prepare()
    suite, cache = open_suite(SUITE, arguments.cache)
    synthetic = synthetic_benchmarks(suite.config.benchmarks)
    study = Study(suite, cache, load_table(cache, suite), synthetic, arguments.runs_dir)
    figure = arguments.figure or cache.path.with_name("headline.png")
    alphas = sorted(map(float, arguments.alphas.split(",")))
    setting = Setting(suite, cache, study.table, synthetic, "test", alphas[0], suite.config.train.allow_stop)
    file = Path(__file__).with_name("ceiling.py")
    tables = {name: sweep_routed(setting, [CustomRouter(f"{file}:{cls}")], alphas) for name, cls in TABLES.items()}
    algorithms = arguments.algorithms.split(",")
    for algorithm in algorithms:
        reading, blind = (study.routers(algorithm, is_blind, alphas, arguments.seeds) for is_blind in (False, True))
        twins = {alpha: {BLIND: policy_of(study.table, blind[alpha], alpha)} for alpha in alphas}
        for alpha in alphas:
            others = twins[alpha] | {name: next(iter(table[alpha].values())) for name, table in tables.items()}
            evaluation = evaluate_together(study.table, reading[alpha], "test", synthetic, alpha=alpha, others=others)[0]
            print(report(evaluation, algorithm, arguments.seeds), end="\n\n")
            if arguments.pools:
                print(pools(study, algorithm, reading[alpha], alpha, arguments.seeds), end="\n\n")
        if algorithm == algorithms[0]:
            draw(study, reading, twins, figure)
    print(f"Cost and quality: {figure}")


def policy_of(table: TransitionTable, routers: Sequence[Router], alpha: float) -> Policy:
    """Return what routers that differ only in their seed reach on the test split."""
    rows = table.rows("test")
    return router_policies(table, rows, [router.probabilities(table, rows, alpha) for router in routers])[ROUTER]


def report(evaluation: Evaluation, algorithm: str, seeds: int) -> str:
    """Say on how many benchmarks a router is ahead of all that do not read responses, then lay out each benchmark."""
    rivals = [baseline.name for baseline in registered_baselines() if baseline.question_only] + list(KNOWS_THE_BENCHMARK)
    rivals = [BLIND, *(name for name in rivals if name in evaluation.policies)]
    adjusted = holm({benchmark: _p_value(evaluation, benchmark, rivals) for benchmark in evaluation.benchmarks})
    ahead = [benchmark for benchmark, p_value in adjusted.items() if p_value < LEVEL]
    rows = []
    for benchmark in [*evaluation.benchmarks, OVERALL]:
        best = max(rivals[1:], key=lambda name, at=benchmark: evaluation.result(name, at).reward.mean)  # type: ignore[misc]
        estimates = (evaluation.result(name, benchmark).lead for name in (BLIND, best))
        reward = evaluation.result(ROUTER, benchmark).reward
        ceiling = evaluation.result(CEILING, benchmark).reward.mean
        cells = [benchmark + "*" * (benchmark in ahead), format_number(reward.mean), *map(with_interval, estimates), best]
        rows.append([*cells, format_number(ceiling)])
    overall, best = evaluation.result(ROUTER), rows[-1][4]
    kind = format_number(evaluation.result(KIND).reward.mean)
    verdict = textwrap.fill(
        f"Routers that read the responses ({algorithm}, {count(seeds, 'seed')}, alpha {evaluation.alpha:g}) reach "
        f"R {with_interval(overall.reward)}. They are ahead of their blind twins by "
        f"{with_interval(evaluation.result(BLIND).lead)}, and of the best that does not read them ({best}) by "
        f"{with_interval(evaluation.result(best).lead)}. On {', '.join(ahead) or 'no benchmark'}, they are significantly "
        f"ahead of all of these (*). A table that knows the kind of each question reaches {kind}, and one that also knows "
        f"whether the newest response is right, {rows[-1][5]} (the ceiling). Both are fitted on the training questions, so "
        "that a router may exceed them.",
        WIDTH,
        break_on_hyphens=False,
    )
    columns = ["benchmark", "R", "ahead of blind twin", "ahead of the best without responses", "which is", "ceiling"]
    note = textwrap.fill(
        f"* ahead of its blind twin and of each of {count(len(rivals) - 1, 'baseline')}: the largest of the {len(rivals)} "
        f"p-values is below {LEVEL:g} after Holm's correction for {count(len(evaluation.benchmarks), 'benchmark')}. "
        "[95% intervals] are over questions and seeds.",
        WIDTH,
    )
    return "\n\n".join([verdict, aligned(columns, rows), note])


def _p_value(evaluation: Evaluation, benchmark: str, rivals: Sequence[str]) -> float:
    """Return the p-value of being ahead of all rivals: that of the least certain lead (Berger 1982, Technometrics 24(4))."""
    leads = [evaluation.result(rival, benchmark) for rival in rivals]
    return max(result.p_value if result.lead.mean > 0 else 1.0 for result in leads)


def pools(study: Study, algorithm: str, routers: Sequence[Router], alpha: float, seeds: int) -> str:
    """Train routers on pools without one of the models, and lay out what each is worth to the whole pool."""
    config = study.config(algorithm, blind=False).changed({"alpha": alpha})
    others = smaller_pools(study.suite, study.table, config, seeds)
    evaluation = evaluate_together(study.table, routers, "test", study.synthetic, alpha=alpha, others=others)[0]
    rows = [[name, *map(with_interval, _figures(evaluation, name))] for name in others]
    return aligned([f"alpha {alpha:g}, {algorithm}", "R", "the whole pool is ahead by"], rows)


def smaller_pools(suite: Suite, table: TransitionTable, config: TrainConfig, seeds: int) -> dict[str, Policy]:
    """Train routers on every pool that lacks one of the models; returns what they reach, by `without MODEL`."""
    others = {}
    for model in table.models:
        smaller = without(table, model)
        trained = [
            build_router(suite, smaller, None, config, seed, fit_router(smaller, config, seed))[0] for seed in range(seeds)
        ]
        others[f"without {model}"] = policy_of(smaller, trained, config.alpha)
    return others


def _figures(evaluation: Evaluation, name: str) -> tuple[Estimate, Estimate]:
    return evaluation.result(name).reward, evaluation.result(name).lead


def without(table: TransitionTable, model: str) -> TransitionTable:
    """Return a table in which no path contains a model."""
    exists = np.array([model not in table.path(node) for node in range(table.quality.shape[1])])
    available = np.tile(exists, (len(table.split), 1))
    quality, hop_cost = table.quality * exists, table.hop_cost * exists
    return replace(table, quality=quality, hop_cost=hop_cost, available=available, exists=exists)


def draw(
    study: Study, routers: Mapping[float, Sequence[Router]], others: Mapping[float, Mapping[str, Policy]], path: Path
) -> None:
    """Draw cost and quality of routers, their blind twins, fixed paths and the oracle on the test split."""
    rows, allow_stop = study.table.rows("test"), study.suite.config.train.allow_stop
    scores = scores_of(swept(study.table, routers, "test", allow_stop, others=others))
    oracle = curve(study.table, rows, frontier(study.table, rows, allow_stop))
    cost_quality(scores, oracle, study.table.models, path, "reading the responses")


if __name__ == "__main__":
    main()
