"""The table that replay needs: read-only arrays of one suite, loaded from a cache in a few queries.

Rows are trees (a question, and a sample of it); columns are nodes, numbered as a complete heap (see `toolkit.core.tree`).
Knows nothing of text: texts are rows of a feature matrix.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import TypeVar, TypeVarTuple

import numpy as np
import numpy.typing as npt

from toolkit.core import tree
from toolkit.core.errors import IncompleteCacheError, SuiteError
from toolkit.replay.costs import hop_cost, in_cost_units
from toolkit.store import Cache, observed
from toolkit.suites.suite import Split, Suite

logger = logging.getLogger("toolkit")

EXCLUDED = "excluded"
"""Split of the rows that are neither trained nor evaluated on."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ABSTAINED = "abstained"
"""Name of the empty path."""

Found = TypeVar("Found")
Given = TypeVarTuple("Given")


@dataclass(frozen=True)
class TransitionTable:
    """The dense arrays of a suite. M models, horizon L, N nodes a tree, D of them decision nodes.

    Attributes:
        models: Names of the pool, in order.
        horizon: Number of hops L.
        benchmarks: Names of the benchmarks, in the suite's order.
        benchmark: Position of every row's benchmark, `(rows,)`.
        split: Split of every row, `(rows,)`; `excluded` where a generation failed and the suite leaves such questions out.
        quality: Score of each node's response, in [0, 1], `(rows, N)`; 0 at the root.
        hop_cost: Cost of the hop that leads to each node, in cost units, `(rows, N)`; 0 at the root.
        vectors: Embeddings of the unique texts, `(texts, dimensions)`; row 0 is all zeros and means no text.
        texts: Rows of `vectors` that a decision node is observed by, `(rows, D, parts)`; parts are question and newest
            answer, or the whole context alone.
    """

    models: tuple[str, ...]
    horizon: int
    benchmarks: tuple[str, ...]
    benchmark: Ints
    split: npt.NDArray[np.str_]
    quality: Floats
    hop_cost: Floats
    vectors: npt.NDArray[np.float32]
    texts: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    @property
    def n_models(self) -> int:
        """Size of the pool M."""
        return len(self.models)

    @property
    def n_decision_nodes(self) -> int:
        """Decision nodes a tree, D."""
        return tree.n_decision_nodes(self.n_models, self.horizon)

    @cached_property
    def cost(self) -> Floats:
        """Cost of the whole path to each node, in cost units, `(rows, N)`."""
        total = self.hop_cost.copy()
        for depth in range(2, self.horizon + 1):
            above, here = tree.level(self.n_models, depth - 1), tree.level(self.n_models, depth)
            total[:, here] += np.repeat(total[:, above], self.n_models, axis=1)
        return total

    def rows(self, split: Split) -> Ints:
        """Return the rows of a split."""
        return np.flatnonzero(self.split == split)

    def hold_out(self, benchmark: str) -> "TransitionTable":
        """Return the table with one benchmark left out of training: its rows are the test split, and no other row is.

        Raises:
            SuiteError: There is no such benchmark.
        """
        if benchmark not in self.benchmarks:
            raise SuiteError(f"There is no benchmark {benchmark!r} to hold out; the suite has: {', '.join(self.benchmarks)}.")
        held = self.benchmark == self.benchmarks.index(benchmark)
        return replace(self, split=np.where(held, "test", np.where(self.split == "test", "unused", self.split)))

    def path_name(self, node: int) -> str:
        """Write the path to a node as people read it, e.g. `a > b`; the root's is `abstained`."""
        return " > ".join(self.models[action] for action in tree.path_of(node, self.n_models)) or ABSTAINED


def cached_on_table(function: Callable[[TransitionTable, *Given], Found]) -> Callable[[TransitionTable, *Given], Found]:
    """Decorate what follows from a table and hashable arguments: it is worked out once, and kept as long as the table is."""

    @wraps(function)
    def found(table: TransitionTable, *given: *Given) -> Found:
        kept = vars(table).setdefault("_kept", {})
        if (function, given) not in kept:
            kept[function, given] = function(table, *given)
        answer: Found = kept[function, given]
        return answer

    return found


def load_table(cache: Cache, suite: Suite, holdout: str | None = None) -> TransitionTable:
    """Load a suite's table.

    Args:
        cache: The cache.
        suite: The recorded suite.
        holdout: A benchmark to leave out of training, as by `hold_out`.

    Raises:
        IncompleteCacheError: Nodes, scores or embeddings are missing, or generations failed; says how many and what to do.
        SuiteError: There is no benchmark of the name that is held out.
    """
    models, horizon = len(suite.models), suite.horizon
    parameters = {"suite": suite.key}
    rows = cache.arrow(
        "SELECT q.position, i.benchmark, q.split FROM suite_questions AS q JOIN questions AS i USING (question)"
        " WHERE q.suite = $suite ORDER BY q.position",
        parameters,
    )
    nodes = cache.arrow(
        "SELECT q.position, p.number, g.prompt_tokens, g.completion_tokens, g.cost, c.value AS quality"
        " FROM suite_questions AS q"
        " JOIN nodes AS n ON n.root = q.root AND n.depth > 0"
        " JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path"
        " JOIN generations AS g ON g.generation = n.generation AND g.status = 'ok'"
        " JOIN scores AS c ON c.question = q.question AND c.text = g.text AND c.metric = q.metric"
        " WHERE q.suite = $suite",
        parameters,
    )
    shape = (rows.num_rows, tree.n_nodes(models, horizon))
    split = np.array(rows["split"].to_pylist(), dtype="<U10")
    counts = np.bincount(nodes["position"].to_numpy(), minlength=shape[0])
    if suite.config.incomplete == "exclude question":
        split[_failed(cache, suite)] = EXCLUDED
    missing = (shape[1] - 1 - counts)[split != EXCLUDED].sum()
    if missing:
        raise _incomplete(cache, suite, shape[0] * (shape[1] - 1), int(missing))
    if (split == EXCLUDED).any():
        logger.warning("%d of %d trees are left out: a generation failed", (split == EXCLUDED).sum(), shape[0])
    place = (nodes["position"].to_numpy(), nodes["number"].to_numpy())
    rate_in, rate_out = (np.array([getattr(m, rate) for m in suite.models]) for rate in ("rate_in", "rate_out"))
    unit = cache.arrow("SELECT cost_unit FROM suites WHERE suite = $suite", parameters)["cost_unit"][0].as_py()
    if unit is None:
        raise IncompleteCacheError(
            f"Suite {suite.name} has no training question, so no cost unit. Give it more questions or another split seed."
        )
    model = (place[1] - 1) % models
    raw = hop_cost(
        nodes["prompt_tokens"].to_numpy().astype(np.float64),
        nodes["completion_tokens"].to_numpy().astype(np.float64),
        rate_in[model],
        rate_out[model],
    )
    given = nodes["cost"].to_numpy().astype(np.float64)
    raw = np.where(np.isnan(given), raw, given)
    quality, cost = np.zeros(shape), np.zeros(shape)
    quality[place] = nodes["quality"].to_numpy()
    cost[place] = in_cost_units(raw, unit)
    vectors, texts = _features(cache, suite, shape[0])
    names = tuple(benchmark.name for benchmark in suite.config.benchmarks)
    table = TransitionTable(
        tuple(model.name for model in suite.models),
        horizon,
        names,
        np.array([names.index(name) for name in rows["benchmark"].to_pylist()], dtype=np.int64),
        split,
        quality,
        cost,
        vectors,
        texts,
    )
    return table.hold_out(holdout) if holdout else table


def _failed(cache: Cache, suite: Suite) -> Ints:
    """Return the rows of the questions of which a generation failed, all samples of them."""
    found: Ints = cache.arrow(
        "WITH failed AS (SELECT q.question FROM suite_questions AS q JOIN nodes AS n ON n.root = q.root"
        " JOIN suite_paths AS p ON p.suite = q.suite AND p.path = n.path"
        " JOIN generations AS g ON g.generation = n.generation AND g.status = 'error' WHERE q.suite = $suite)"
        " SELECT position FROM suite_questions SEMI JOIN failed USING (question) WHERE suite = $suite",
        {"suite": suite.key},
    )["position"].to_numpy()
    return found


def _features(cache: Cache, suite: Suite, rows: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Load the unique embeddings and, for every decision node, which of them it is observed by."""
    with cache.read() as con:
        found = observed(con, suite)
    if found.missing:
        raise _incomplete(cache, suite, found.texts, found.missing, "embeddings")
    parts = 2 if suite.config.features.text == "newest" else 1
    texts = np.zeros((rows, tree.n_decision_nodes(len(suite.models), suite.horizon), parts), dtype=np.int32)
    texts[found.position, found.number, -1] = found.vector
    if parts == 2:  # a root has no answer, and its question is seen from every node
        root = found.number == 0
        texts[:, 0, 1] = 0
        texts[found.position[root], :, 0] = found.vector[root, None]
    return found.vectors, texts


def _incomplete(cache: Cache, suite: Suite, wanted: int, missing: int, what: str = "nodes") -> IncompleteCacheError:
    failed = sum(row.failed for row in cache.progress(suite.name))
    because = (
        f", {failed} of them because a generation failed (toolkit status {suite.name})" if failed and what == "nodes" else ""
    )
    leave = 'leave such questions out: incomplete = "exclude question" in the suite'
    fill = f"toolkit generate {suite.name} --cache {cache.path}{' --retry' if because else ''}"
    if suite.config.models[0].is_imported:
        leave = 'leave such questions out: --incomplete "exclude question"'
        fill = f"toolkit import TABLE --suite {suite.name} --cache {cache.path} with a table that has them"
    return IncompleteCacheError(
        f"{missing} of {wanted} {what} of suite {suite.name} are missing from {cache.path}{because}. Fill it with: {fill}"
        + (f", or {leave}" if because else "")
    )
