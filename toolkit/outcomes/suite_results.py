"""The results of a suite as its cache has them: what every writer of another format reads. Knows no format.

A response without a score is no result. Rows come from the cache a part at a time, so that their number does not matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from toolkit.core import tree
from toolkit.core.commands import command
from toolkit.core.errors import IncompleteCacheError

if TYPE_CHECKING:
    import pyarrow as pa

    from toolkit.store import Cache
    from toolkit.suites.suite import Question, Suite

READ_NODES = 50_000
"""Nodes whose results are read together."""


@dataclass(frozen=True)
class SuiteResults:
    """The scored responses of a suite.

    Attributes:
        suite: The suite.
        cache: Its cache.
        n_results: Number of scored responses.
        has_responses: Whether any of them has a text; imported results may have none.
        has_costs: Whether any has an imported cost.
        has_tokens: Whether any has numbers of tokens.
        metrics: Labels of the metrics that have scored some of them beside their quality.
    """

    suite: "Suite"
    cache: "Cache"
    n_results: int
    has_responses: bool
    has_costs: bool
    has_tokens: bool
    metrics: tuple[str, ...]

    @property
    def n_missing(self) -> int:
        """Number of responses that the complete suite would have, and that are missing or not scored."""
        return self.n_trees * self.n_nodes - self.n_results

    @property
    def n_nodes(self) -> int:
        """Number of nodes of a tree, without its root."""
        return self.suite.tree.n_nodes

    @property
    def n_trees(self) -> int:
        """Number of trees: samples of questions."""
        return len(self.suite.questions) * self.suite.config.samples

    @property
    def has_references(self) -> bool:
        """Whether any question has a reference answer."""
        return any(question.reference.answers for question in self.suite.questions)

    @property
    def score_columns(self) -> list[str]:
        """Columns of the long table for `metrics`; imported scores go by the name that they were imported by."""
        from toolkit.outcomes.converting import SCORE_PREFIX
        from toolkit.outcomes.imported_suite import GIVEN

        return [SCORE_PREFIX + metric.removesuffix(GIVEN) for metric in self.metrics]

    def tree_at(self, position: int) -> tuple["Question", int]:
        """Return question and sample of the tree at a row of the replay table."""
        number, sample = divmod(position, self.suite.config.samples)
        return self.suite.questions[number], sample

    def complete_paths(self) -> Mapping[str, tuple[int, ...]]:
        """Return the nodes along every complete path, by the names of its models: `large`, or `small > large`."""
        from toolkit.outcomes.values import HOP

        models, horizon = [model.name for model in self.suite.models], self.suite.horizon
        paths = (path for _, path in self.suite.tree.paths() if len(path) == horizon)
        return {
            HOP.join(models[action] for action in path): tuple(
                tree.node_of(path[:depth], len(models)) for depth in range(1, horizon + 1)
            )
            for path in paths
        }

    def tables(self, numbers: Sequence[int] | None = None) -> Iterator["pa.Table"]:
        """Yield the results tree by tree, some whole trees at a time: the columns of the query `results`.

        Args:
            numbers: The nodes whose results to read; default: all.
        """
        nodes = len(numbers) if numbers else self.n_nodes
        step = max(1, READ_NODES // nodes)
        for first in range(0, self.n_trees, step):
            yield self.cache.query(
                "results",
                suite=self.suite.key,
                first=first,
                last=first + step - 1,
                metrics=list(self.metrics),
                numbers=list(numbers) if numbers else None,
            )

    def trees(self, numbers: Sequence[int] | None = None) -> Iterator[tuple[int, dict[int, dict[str, Any]]]]:
        """Yield the position of each tree that has results, and those by the number of their node. See `tables`."""
        rows = (row for table in self.tables(numbers) for row in table.to_pylist())
        for position, group in groupby(rows, key=lambda row: row["position"]):
            yield position, {row["number"]: row for row in group}

    def import_command(self, source: object) -> str:
        """Return the command that imports the long table again, with the prices of tokens; a generated suite gets another name.

        Args:
            source: File or pattern of the table.
        """
        config = self.suite.config
        name = config.name if config.models[0].is_imported else f"my-{config.name}"
        rates = [] if self.has_costs else [f"{model.name}={model.rate_in!r},{model.rate_out!r}" for model in self.suite.models]
        options = [word for rate in rates for word in ("--rate", rate)]
        options += ["--currency", config.currency] if config.currency else []
        return command("import", source, "--suite", name, *options)


def read_suite_results(cache: "Cache", suite: "Suite") -> SuiteResults:
    """Return the results of a recorded suite.

    Raises:
        IncompleteCacheError: There are none.
    """
    [extent] = cache.query("results_extent", suite=suite.key).to_pylist()
    if not extent["results"]:
        raise IncompleteCacheError(
            f"Suite {suite.name} has no scored response in {cache.path} yet, so there is nothing to export. How far it is: "
            f"{command('status', suite.name, cache=cache.path)}"
        )
    return SuiteResults(
        suite=suite,
        cache=cache,
        n_results=extent["results"],
        has_responses=extent["responses"] > 0,
        has_costs=extent["costs"] > 0,
        has_tokens=extent["tokens"] > 0,
        metrics=tuple(cache.query("further_metrics", suite=suite.key)["metric"].to_pylist()),
    )


def path_result(path: Sequence[int], results: Mapping[int, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the result of a path in one tree: that of its last response, with costs, tokens and seconds of all hops.

    Args:
        path: Numbers of the nodes along the path.
        results: The results of the tree, by the number of their node.

    Returns:
        The result, or None if a response of the path is missing.
    """
    if not all(number in results for number in path):
        return None
    hops = [results[number] for number in path]
    totals = {
        name: sum(hop[name] or 0 for hop in hops) for name in ("raw_cost", "prompt_tokens", "completion_tokens", "seconds")
    }
    return hops[-1] | totals
