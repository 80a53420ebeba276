"""Groups evaluated runs that differ only in their seed, and evaluates all groups of one alpha together. Nothing is trained."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from toolkit.core.commands import command
from toolkit.core.errors import PolicyError, ToolkitError, did_you_mean
from toolkit.core.hashing import canonical_json
from toolkit.core.text import printable
from toolkit.replay.exact import ends, most_probable, path_shares
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.comparison import BEST_FIXED_PATH
from toolkit.routing.evaluate import Evaluation, check_names, evaluate_policies
from toolkit.routing.policies import Policy, baseline_policies, joined, routed_by_any
from toolkit.routing.router import Router
from toolkit.store import Cache
from toolkit.suites.suite import Split, Suite

FLAGS = {"blind": "blind", "allow_stop": "may stop", "fallback": "with fallback", "alphas": "conditioned"}
"""Settings that a label names where they differ, because they change what a router is."""
MAX_ALPHAS = 20
"""Alphas of a learner that are grouped unless runs are named, evenly spread."""


@dataclass(frozen=True)
class EvaluatedRun:
    """A run as recorded, and the alpha at which it is shown.

    Attributes:
        name: The name that the user has given it, if any.
        settings: All settings of its training.
        own: Whether the toolkit trained it.
    """

    run: str
    name: str | None
    algorithm: str
    alpha: float
    seed: int | None
    settings: dict[str, Any] = field(hash=False)
    versions: dict[str, str] = field(hash=False)
    seconds: float
    trained: str
    own: bool

    def label(self, named: Sequence[str]) -> str:
        """Return what a router of these settings is called, given the settings that labels name: `ppo`, or `ppo, blind`."""
        return ", ".join([self.algorithm, *(FLAGS[setting] for setting in named if self.settings.get(setting))])

    @property
    def key(self) -> str:
        """What runs that differ only in their seed have in common."""
        return canonical_json([self.algorithm, self.alpha, self.settings])


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ only in their seed, and the end that each reaches on each row, `(runs, rows)`."""

    label: str
    alpha: float
    runs: tuple[EvaluatedRun, ...]
    nodes: Ints


class AlphaResults(NamedTuple):
    """All policies at one alpha: their evaluation, in which the first group is the reference, and what they reach."""

    evaluation: Evaluation
    policies: dict[str, Policy]


def evaluated_runs(cache: Cache, suite: Suite, split: Split, names: Sequence[str] = ()) -> list[list[EvaluatedRun]]:
    """Return the runs to show, grouped by everything but their seed, the group that comes first being the most important.

    Args:
        cache: The cache.
        suite: Its suite; runs of superseded ones are left out.
        split: The split that they are evaluated on.
        names: Names of runs, hashes at their ends, or beginnings of names; none for the newest group of each learner and alpha.

    Raises:
        PolicyError: There is no such run.
    """
    rows = cache.query("evaluated_runs", suite=suite.key, split=split).to_pylist()
    runs = []
    for row in rows:
        settings, versions = json.loads(row.pop("config")), json.loads(row.pop("versions"))
        runs.append(EvaluatedRun(name=settings.pop("name", None), settings=settings, versions=versions, **row))
    groups: dict[str, list[EvaluatedRun]] = {}
    for run in runs if not names else _named(runs, names, suite, split, cache):
        groups.setdefault(run.key, []).append(run)
    grouped = [sorted(group, key=lambda run: run.seed or 0) for group in groups.values()]
    return grouped if names else _newest_groups(grouped, suite)


def _named(runs: Sequence[EvaluatedRun], names: Sequence[str], suite: Suite, split: Split, cache: Cache) -> list[EvaluatedRun]:
    """Return the runs of the given names, or of names that begin so; of those, the ones that are blind to responses last."""
    selected: dict[str, EvaluatedRun] = {}
    usual = suite.config.train.alpha
    runs = sorted(runs, key=lambda run: (bool(run.settings.get("blind")), abs(run.alpha - usual)))
    for name in names:
        matching = [run for run in runs if name in (run.run, run.name, run.run.rpartition("-")[2])]
        matching = matching or [run for run in runs if run.run.startswith(name)]
        if not matching:
            known = [run.name or run.run for run in runs]
            is_recorded = cache.runs.get(name) is not None
            evaluation = f"Evaluate it first: {command('evaluate', name, cache=cache.path)}"
            remedy = evaluation if is_recorded else "To list all: toolkit runs"
            raise PolicyError(
                f"Suite {suite.name} has no run {printable(name)!r} that is evaluated on its {split} split: "
                f"{did_you_mean(name, known)}. {remedy}"
            )
        selected |= {run.run: run for run in matching}
    return list(selected.values())


def _newest_groups(groups: Sequence[list[EvaluatedRun]], suite: Suite) -> list[list[EvaluatedRun]]:
    """Return the newest group of each kind of router and alpha, from those that hold out what the first one does.

    Routers that the toolkit has trained come first, and those that are blind to responses after them.
    """
    by_kind: dict[tuple[Any, ...], dict[float, list[EvaluatedRun]]] = {}
    for group in groups:  # newest first
        run = group[0]
        kind = (not run.own, bool(run.settings.get("blind")), run.algorithm, *(bool(run.settings.get(name)) for name in FLAGS))
        by_kind.setdefault(kind, {}).setdefault(run.alpha, group)
    kinds = sorted(by_kind, key=lambda kind: kind[:2])
    usual = suite.config.train.alpha
    ordered = [
        group for kind in kinds for group in sorted(_spread(by_kind[kind]), key=lambda group: abs(group[0].alpha - usual))
    ]
    return [group for group in ordered if group[0].settings.get("holdout") == ordered[0][0].settings.get("holdout")]


def _spread(groups: Mapping[float, list[EvaluatedRun]]) -> list[list[EvaluatedRun]]:
    """Return the groups of at most `MAX_ALPHAS` alphas."""
    ordered = [groups[alpha] for alpha in sorted(groups)]
    if len(ordered) <= MAX_ALPHAS:
        return ordered
    return [ordered[n] for n in np.unique(np.linspace(0, len(ordered) - 1, MAX_ALPHAS).round().astype(int)).tolist()]


def open_groups(
    groups: Sequence[Sequence[EvaluatedRun]],
    cache: Cache,
    suite: Suite,
    table: TransitionTable,
    split: Split,
    open_router: Callable[[str], Router],
) -> tuple[list[RunGroup], dict[str, str]]:
    """Return what the runs of each group reach: by their routers' files or, if the toolkit has not trained them, their routes.

    Returns:
        The groups with at least one run, and why each run that is left out is.
    """
    rows, opened, skipped = table.rows(split), [], dict[str, str]()
    named = [
        setting for setting in FLAGS if len({bool(group[0].settings.get(setting)) for group in groups if group[0].own}) > 1
    ]
    for group in groups:
        reached: dict[EvaluatedRun, Ints] = {}
        for run in group:
            try:
                if run.own:
                    reached[run] = _router_ends(open_router(run.run), table, rows, run.alpha)
                else:
                    reached[run] = _routes(run, cache, suite, table, split)
            except ToolkitError as error:
                skipped[run.run] = str(error)
        if reached:
            first = next(iter(reached))
            opened.append(RunGroup(first.label(named), first.alpha, tuple(reached), np.stack(list(reached.values()))))
    return opened, skipped


def _router_ends(router: Router, table: TransitionTable, rows: Ints, alpha: float) -> Ints:
    """Return the end that a greedy router reaches on each row, `(rows,)`."""
    probabilities: Floats = most_probable(router.probabilities(table, rows, alpha))
    at = ends(table, allow_stop=probabilities.shape[-1] > table.n_models)
    nodes: Ints = at.start + path_shares(table, probabilities).argmax(1)
    return nodes


def _routes(run: EvaluatedRun, cache: Cache, suite: Suite, table: TransitionTable, split: Split) -> Ints:
    """Return the end of a run's recorded route on each row, `(rows,)`.

    Raises:
        PolicyError: Some rows have none.
    """
    routes = cache.query("route_ends", suite=suite.key, run=run.run, split=split).to_pylist()
    numbers = {route["position"]: route["number"] for route in routes}
    rows = table.rows(split).tolist()
    if any(row not in numbers for row in rows):
        raise PolicyError(f"The decisions of run {printable(run.run)} are not recorded on every question of the {split} split.")
    return np.array([numbers[row] for row in rows])


def evaluate_groups(
    groups: Sequence[RunGroup], suite: Suite, table: TransitionTable, split: Split, synthetic: Mapping[str, bool]
) -> dict[float, AlphaResults]:
    """Evaluate the groups of each alpha together, beside all baselines; baselines alone if there are none.

    The first group of an alpha is the reference with which all others are compared.
    """
    check_names(table)
    alphas = sorted({group.alpha for group in groups}) or [suite.config.train.alpha]
    allow_stop = bool(groups[0].runs[0].settings.get("allow_stop")) if groups else suite.config.train.allow_stop
    rows, results = table.rows(split), {}
    for alpha in alphas:
        routers = {group.label: routed_by_any(table, rows, group.nodes) for group in groups if group.alpha == alpha}
        baselines = baseline_policies(table, split, alpha, allow_stop)
        policies = joined(routers, baselines, "a baseline")
        evaluation = evaluate_policies(
            table,
            policies,
            split,
            synthetic,
            alpha,
            run=next((group.runs[0].run for group in groups if group.alpha == alpha), ""),
            suite=suite.name,
            reference=next(iter(routers), BEST_FIXED_PATH),
            routers=tuple(routers),
        )
        results[alpha] = AlphaResults(evaluation, policies)
    return results
