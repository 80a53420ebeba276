"""Evaluations of what the toolkit has not trained: baselines alone, or routers and decisions of the user's.

Each is recorded as a run.
"""

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import NamedTuple
from uuid import UUID

from toolkit import __version__
from toolkit.core import tree
from toolkit.core.errors import PolicyError
from toolkit.core.hashing import canonical_json
from toolkit.core.text import printable
from toolkit.replay.table import STOP, TransitionTable
from toolkit.routing.comparison import BEST_FIXED_PATH
from toolkit.routing.custom import CustomRouter, Routed, load_responses
from toolkit.routing.evaluate import Evaluation, check_names, evaluate_policies, evaluation_rows
from toolkit.routing.policies import ROUTER, Policy, baseline_policies, chosen
from toolkit.store import Cache, Row, now
from toolkit.suites.suite import Split, Suite

BASELINES = "baselines"
"""The algorithm of a run without a router."""


class Setting(NamedTuple):
    """What is evaluated on, and how: the suite with its cache and table, the split, alpha, and whether routers may stop.

    Attributes:
        synthetic: Whether a program makes the questions, for every benchmark.
    """

    suite: Suite
    cache: Cache
    table: TransitionTable
    synthetic: Mapping[str, bool]
    split: Split
    alpha: float
    allow_stop: bool


def evaluate_baselines(setting: Setting, slow: bool = False) -> Evaluation:
    """Evaluate all baselines, with or without the slow ones, with the best fixed path as the reference, and record them."""
    check_names(setting.table)
    evaluation = _evaluate(setting, _baselines(setting, slow), BASELINES, "", routers=(), reference=BEST_FIXED_PATH)
    _record(setting, evaluation, None)
    return evaluation


def evaluate_routed(setting: Setting, routers: Sequence[Routed]) -> list[Evaluation]:
    """Evaluate routers, each beside the others and all baselines, and record them.

    Returns:
        The evaluation of each router, in which it is the policy `router` and the reference.

    Raises:
        PolicyError: Two policies have one name.
    """
    if not routers:
        return []
    check_names(setting.table)
    policies, baselines = routed_policies(setting.table, setting.split, routers), _baselines(setting)
    for name in policies.keys() & baselines.keys():
        raise PolicyError(f"A router and a baseline are both called {printable(name)!r}. Rename the file of the router.")
    evaluations = []
    for router in routers:
        others = {name: policy for name, policy in policies.items() if name != router.name}
        evaluated = {ROUTER: policies[router.name], **others, **baselines}
        evaluations.append(_evaluate(setting, evaluated, router.name, router.sha256, routers=(ROUTER, *others)))
        _record(setting, evaluations[-1], router)
    return evaluations


def sweep_routed(setting: Setting, routers: Sequence[CustomRouter], alphas: Sequence[float]) -> dict[float, dict[str, Policy]]:
    """Evaluate routers at every alpha, and record them; returns their policies by alpha and name.

    Args:
        setting: What is evaluated on; its alpha does not matter.
        routers: The routers.
        alphas: The alphas.

    Raises:
        PolicyError: A router raises an exception, or returns something that is not an action, or two have one name.
    """
    rows = setting.table.rows(setting.split)
    responses = load_responses(setting.cache, setting.suite, rows) if routers else {}
    routed = [router.route(setting.table, setting.split, alphas, setting.allow_stop, responses) for router in routers]
    policies = {}
    for alpha in alphas:
        at_alpha = [by_alpha[alpha] for by_alpha in routed]
        policies[alpha] = routed_policies(setting.table, setting.split, at_alpha)
        evaluate_routed(setting._replace(alpha=alpha), at_alpha)
    return policies


def routed_policies(table: TransitionTable, split: Split, routers: Sequence[Routed]) -> dict[str, Policy]:
    """Return routers as policies on a split, by name.

    Raises:
        PolicyError: Two have one name.
    """
    policies = {router.name: chosen(table, table.rows(split), router.nodes) for router in routers}
    if len(policies) < len(routers):
        names = ", ".join(printable(router.name) for router in routers)
        raise PolicyError(f"Two of the routers have one name, by which results tell them apart: {names}. Rename a file.")
    return policies


def _baselines(setting: Setting, slow: bool = False) -> dict[str, Policy]:
    return baseline_policies(setting.table, setting.split, setting.alpha, setting.allow_stop, slow=slow)


def _evaluate(
    setting: Setting,
    evaluated: Mapping[str, Policy],
    algorithm: str,
    sha256: str,
    routers: Sequence[str],
    reference: str = ROUTER,
) -> Evaluation:
    return evaluate_policies(
        setting.table,
        evaluated,
        setting.split,
        setting.synthetic,
        setting.alpha,
        run=_run_name(setting, algorithm, sha256),
        suite=setting.suite.name,
        reference=reference,
        routers=routers,
    )


def _run_name(setting: Setting, algorithm: str, sha256: str) -> str:
    """Return the name of a run: equal files and settings have equal names, whichever split is evaluated."""
    identity = canonical_json([str(setting.suite.key), algorithm, sha256, _config(setting), _versions()])
    label = re.sub(r"[^\w.]+", ".", algorithm.replace(".py:", "."))
    return f"{setting.suite.name}-{label}-alpha{setting.alpha:g}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _config(setting: Setting) -> dict[str, object]:
    return {"alpha": setting.alpha, "allow_stop": setting.allow_stop, "holdout": setting.suite.config.train.holdout}


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("numpy", "scikit-learn")}
    return {"hierrouter-toolkit": __version__, "python": platform.python_version(), **packages}


def _record(setting: Setting, evaluation: Evaluation, router: Routed | None) -> None:
    run: Row = {
        "run": evaluation.run,
        "suite": setting.suite.key,
        "algorithm": router.name if router else BASELINES,
        "alpha": setting.alpha,
        "seed": None,
        "config": canonical_json(_config(setting)),
        "versions": canonical_json(_versions()),
        "policy": str(router.path.resolve()) if router else None,
        "policy_sha256": router.sha256 if router else None,
        "seconds": router.seconds if router else 0.0,
        "trained": now(),
    }
    decisions = _decision_rows(setting, evaluation.run, router) if router else []
    setting.cache.runs.add_evaluation(evaluation.run, setting.split, evaluation_rows(evaluation), decisions, run)


def _decision_rows(setting: Setting, run: str, router: Routed) -> list[Row]:
    """Return the decisions of a router at the nodes that it reaches, as rows of the cache's table `decisions`."""
    table, rows = setting.table, setting.table.rows(setting.split)
    actions = (*table.models, *([STOP] if setting.allow_stop else []))
    actions_at: dict[tuple[int, int], str] = {}
    for row, end in zip(rows.tolist(), router.nodes.tolist(), strict=True):
        node = 0
        for action in tree.path_of(end, table.n_models):
            actions_at[row, node] = table.models[action]
            node = node * table.n_models + 1 + action
        if end < table.n_decision_nodes:
            actions_at[row, end] = STOP
    return [
        {
            "run": run,
            "node": UUID(node["node"]),
            "action": action,
            "probability": float(action == actions_at[place]),
            "chosen": action == actions_at[place],
        }
        for node in setting.cache.query("decision_nodes", suite=setting.suite.key).to_pylist()
        for place in [(node["position"], node["number"])]
        if place in actions_at
        for action in actions
    ]
