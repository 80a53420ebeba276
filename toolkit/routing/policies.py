"""Policies as they are evaluated: the exact outcome of a router, of a fixed choice and of every baseline on some rows.

Nothing is rolled out: outcomes are weighted by the policy's action probabilities.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from toolkit.core.errors import PolicyError
from toolkit.core.text import printable
from toolkit.replay.exact import Outcome, ends, most_probable, node_outcome, on_allowed, outcome, path_shares
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.baselines import Choice, registered_baselines
from toolkit.routing.overhead import Overhead, decisions, decisions_to
from toolkit.suites.suite import Split

ROUTER = "router"
"""The router of a run, which takes its most probable action."""
SAMPLED = "router (sampled)"
"""The same router, if it samples its actions: a diagnostic."""
MAX_QUOTED = 60
"""Characters of a question that a message quotes."""


class Policy(NamedTuple):
    """A policy as evaluated.

    Attributes:
        outcome: Expected quality and cost on each row, `(rows,)`; nan on rows on which a fixed choice is not available.
        paths: Names of the paths that it takes.
        shares: Probability of each path on each row, `(rows, paths)`.
        routers: The policies of the routers of which it takes one at random for each question; none if it is a single one.
    """

    outcome: Outcome
    paths: tuple[str, ...]
    shares: Floats
    routers: tuple["Policy", ...] = ()

    @property
    def seeds(self) -> tuple["Policy", ...]:
        """The policies of its routers, which differ only in their seed; of a single one, itself."""
        return self.routers or (self,)


def router_policies(
    table: TransitionTable,
    rows: Ints,
    probabilities: Sequence[Floats],
    sampled: bool = False,
    overhead: Overhead | None = None,
) -> dict[str, Policy]:
    """Return the policy `router`, which is greedy unless `sampled`, and `router (sampled)`.

    Args:
        table: The table.
        rows: The rows.
        probabilities: Of every action at every decision node, `(rows, D, M)`, or `(rows, D, M + 1)` if the router may stop. Of
            several routers, each question is routed by one at random.
        sampled: Whether `router` samples its actions, too.
        overhead: Charged for every decision.
    """
    cost = overhead.decision if overhead else 0.0
    samples = mixture(table, rows, probabilities, cost)
    greedy = samples if sampled else mixture(table, rows, [most_probable(router) for router in probabilities], cost)
    return {ROUTER: greedy, SAMPLED: samples}


def baseline_policies(
    table: TransitionTable,
    split: Split,
    alpha: float,
    allow_stop: bool,
    all_baselines: bool = True,
    overhead: Overhead | None = None,
    slow: bool = False,
) -> dict[str, Policy]:
    """Return the baselines on a split, by name.

    Args:
        table: The table.
        split: The split.
        alpha: Price of cost, at which baselines choose.
        allow_stop: Whether they may stop before the last hop.
        all_baselines: Whether to include the baselines that are not part of every evaluation.
        overhead: Charged once to baselines that see the question alone, and for every decision to those that read responses.
        slow: Whether to include the baselines that take many seconds.

    Raises:
        ValueError: Two policies have one name.
    """
    rows, evaluated = table.rows(split), dict[str, Policy]()
    for baseline in registered_baselines(slow):
        if baseline.always or all_baselines or baseline.slow:
            cost: float | Floats = 0.0
            if overhead and baseline.question_only:
                cost = overhead.question
            elif overhead and baseline.reads_responses:
                cost = np.multiply(overhead.decision, decisions_to(table), dtype=np.float64)
            choices = baseline.policies(table, split, alpha, allow_stop)
            named = {name: chosen(table, rows, choice, cost) for name, choice in choices.items()}
            evaluated = joined(evaluated, named, f"the baseline {baseline.name!r}")
    return evaluated


def joined(evaluated: Mapping[str, Policy], further: Mapping[str, Policy], source: str) -> dict[str, Policy]:
    """Return both groups of policies.

    Raises:
        ValueError: A policy of the second, which comes from `source`, has the name of one of the first.
    """
    for name in further.keys() & evaluated.keys():
        raise ValueError(f"{source} has a policy {name!r}, but there is one of that name already")
    return {**evaluated, **further}


def mixture(table: TransitionTable, rows: Ints, probabilities: Sequence[Floats], per_decision: float = 0.0) -> Policy:
    """Return a policy that routes each question by one of several routers, given their probabilities, `(rows, D, actions)`."""
    at = ends(table, allow_stop=probabilities[0].shape[-1] > table.n_models)
    paths = tuple(table.path_name(node) for node in range(at.start, at.stop))

    def policy(shares: Floats, routers: tuple[Policy, ...] = ()) -> Policy:
        charged = outcome(table, rows, shares).charged(per_decision * decisions(table, shares))
        return Policy(outcome=charged, paths=paths, shares=shares, routers=routers)

    routers = tuple(policy(path_shares(table, router)) for router in probabilities)
    return policy(np.mean([router.shares for router in routers], axis=0), routers) if len(routers) > 1 else routers[0]


def chosen(table: TransitionTable, rows: Ints, choice: Choice, cost: float | Floats = 0.0) -> Policy:
    """Return the policy of a choice, at an additional cost per question: one for all, or one for each end, `(N,)`.

    Where responses are missing, the probabilities of unavailable models are shared among the other actions, and one node for
    all rows has no outcome on those on which it is not available.

    Raises:
        PolicyError: The end of a row is not available there.
    """
    costs = np.broadcast_to(np.asarray(cost, dtype=np.float64), table.quality.shape[1])
    if np.ndim(choice) > 1:
        policy = mixture(table, rows, [on_allowed(table, rows, np.asarray(choice))])
        at = ends(table, allow_stop=policy.shares.shape[1] == len(costs))
        return policy._replace(outcome=policy.outcome.charged(policy.shares @ costs[at]))
    nodes: Ints = np.broadcast_to(np.asarray(choice, dtype=np.int64), len(rows))
    distinct, index = np.unique(nodes, return_inverse=True)
    reached = node_outcome(table, rows, nodes).charged(costs[nodes])
    if np.ndim(choice):
        _check_available(table, rows, nodes)
    elif table.available is not None:
        reached = Outcome(*(np.where(table.available[rows, nodes], values, np.nan) for values in reached))
    return Policy(
        outcome=reached,
        paths=tuple(table.path_name(node) for node in distinct.tolist()),
        shares=np.eye(len(distinct))[index],
    )


def routed_by_any(table: TransitionTable, rows: Ints, nodes: Ints) -> Policy:
    """Return a policy that routes each question by one of several routers, given their ends, `(routers, rows)`."""
    routers = tuple(chosen(table, rows, ends_of_router) for ends_of_router in nodes)
    if len(routers) == 1:
        return routers[0]
    distinct, index = np.unique(nodes, return_inverse=True)
    quality, cost = (np.mean(values, axis=0) for values in zip(*(router.outcome for router in routers), strict=True))
    return Policy(
        outcome=Outcome(quality=quality, cost=cost),
        paths=tuple(table.path_name(node) for node in distinct.tolist()),
        shares=np.eye(len(distinct))[index.reshape(nodes.shape)].mean(0),
        routers=routers,
    )


def _check_available(table: TransitionTable, rows: Ints, nodes: Ints) -> None:
    """Check that the ends of a policy are available.

    Raises:
        PolicyError: Some are not.
    """
    if table.available is None:
        return
    missing = np.flatnonzero(~table.available[rows, nodes])
    if len(missing):
        question = f" on {table.questions[rows[missing[0]]][:MAX_QUOTED]!r}" if table.questions else ""
        path = table.path_name(int(nodes[missing[0]]))
        raise PolicyError(
            f"A policy ends at paths without responses on {len(missing)} of {len(rows)} questions, e.g. "
            f"{printable(path + question)}. Let it choose among TransitionTable.available, or {table.mask_remedy}."
        )
