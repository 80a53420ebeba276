"""What a suite would generate, what is cached of it, and what the rest will take at the rates seen so far."""

from dataclasses import dataclass
from typing import NamedTuple

from toolkit.store import Cache
from toolkit.suite import Suite


class PlanRow(NamedTuple):
    """Nodes of one benchmark, hop and model."""

    benchmark: str
    depth: int
    model: str
    nodes: int
    missing: int


@dataclass(frozen=True)
class Plan:
    """A suite's nodes, and estimates for the missing ones; None where nothing comparable is cached.

    Attributes:
        rows: Nodes by benchmark, hop and model.
        saved: Cached nodes that needed no generation of their own, because another had the same rendered prompt.
        prompt_tokens: Of the missing nodes.
        completion_tokens: Of the missing nodes.
        seconds: Of the missing nodes.
    """

    rows: tuple[PlanRow, ...]
    saved: int
    prompt_tokens: float | None
    completion_tokens: float | None
    seconds: float | None

    @property
    def nodes(self) -> int:
        """Nodes in all, roots left out."""
        return sum(row.nodes for row in self.rows)

    @property
    def missing(self) -> int:
        """Nodes not generated yet."""
        return sum(row.missing for row in self.rows)


def plan(suite: Suite, cache: Cache | None) -> Plan:
    """Plan a suite.

    Args:
        suite: The suite as resolved.
        cache: Its cache, if there is one; answers of the same models in other suites count for the estimates.
    """
    found = cache.nodes_by_benchmark(suite) if cache else {}
    rows = []
    for depth in range(1, suite.horizon + 1):
        for model in suite.models:
            for benchmark in dict.fromkeys(question.benchmark for question in suite.questions):
                trees = sum(question.benchmark == benchmark for question in suite.questions) * suite.config.samples
                nodes = trees * len(suite.models) ** (depth - 1)
                rows.append(PlanRow(benchmark, depth, model.name, nodes, nodes - found.get((benchmark, depth, model.key), 0)))
    saved = cache.saved(suite) if cache else 0
    rates = cache.mean_generation() if cache else {}
    totals = [0.0, 0.0, 0.0]
    for row in rows:
        key = next(model.key for model in suite.models if model.name == row.model)
        rate = rates.get((key, row.depth)) or rates.get((key, None)) or rates.get((None, None))
        if row.missing and rate is None:
            return Plan(tuple(rows), saved, None, None, None)
        if rate:
            totals = [total + row.missing * mean for total, mean in zip(totals, rate, strict=True)]
    return Plan(tuple(rows), saved, *totals)
