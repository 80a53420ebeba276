"""The transition table: read-only arrays of one suite, loaded from a cache in a few queries.

Rows are trees (a question and a sample of it); columns are nodes, numbered as a complete heap (see `toolkit.core.tree`).
Responses are rows of a matrix of embeddings; of text it has the questions alone.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import numpy as np
import numpy.typing as npt

from toolkit.core import tree
from toolkit.core.commands import command
from toolkit.core.errors import IncompleteCacheError, SuiteError
from toolkit.replay.costs import hop_cost, in_cost_units
from toolkit.store import Cache
from toolkit.suites.config import SuiteConfig
from toolkit.suites.suite import Split, Suite

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("toolkit")

EXCLUDED = "excluded"
"""Split of the rows that are used neither for training nor for evaluation."""
UNUSED = "unused"
"""Split of the test questions of other benchmarks when one benchmark is held out."""
ABSTAINED = "abstained"
"""Name of the empty path."""
STOP = "stop"
"""Name of the action that ends an episode with the current response."""

LEAVE_OUT = (
    "leave questions with missing responses out: toolkit import --missing drop-question, or "
    'incomplete = "exclude question" in the suite'
)
"""The remedy for what cannot cope with missing responses, for messages."""

WIDEN = "add paths to [tree] in the suite file, and generate them"
"""The same for paths that do not exist."""

RESULTS = "_results"
"""Attribute of a table that holds the results of `cached_on_table`."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True)
class TransitionTable:
    """The dense arrays of a suite: M models, horizon L, N nodes per tree, D of them decision nodes.

    Attributes:
        models: Names of the pool, in order.
        horizon: Number of hops L.
        benchmarks: Names of the benchmarks, in the suite's order.
        benchmark: Position of each row's benchmark in `benchmarks`, `(rows,)`.
        split: Split of each row, `(rows,)`; `excluded` if a generation failed and the suite leaves such questions out.
        quality: Score of each node's response, in [0, 1], `(rows, N)`; 0 at the root.
        hop_cost: Cost of the hop that leads to each node, in cost units, `(rows, N)`; 0 at the root.
        vectors: Embeddings of the distinct texts, `(texts, dimensions)`; row 0 is all zeros and stands for no text.
        texts: Rows of `vectors` that each decision node observes, `(rows, D, parts)`; the parts are the question and the
            newest response, or the whole context alone.
        questions: The text of each row's question, `(rows,)`; empty if the table was made without texts.
        responses: The response that each row of `vectors` embeds, `(texts,)`, and an empty text where it embeds none; no texts
            at all if no decision node observes a response alone, or if the table was made without texts.
        available: Whether a complete path of responses leads through each node, `(rows, N)`; None if one does everywhere. A
            node that is not available has quality and cost 0, and no policy may choose it.
        exists: Whether the suite's `[tree]` has each node, `(N,)`; None if it has all. The others are available on no row.
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
    questions: tuple[str, ...] = ()
    responses: tuple[str, ...] = ()
    available: npt.NDArray[np.bool_] | None = None
    exists: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def __getstate__(self) -> dict[str, object]:
        """Return what a copy in another process needs, without the results of `cached_on_table`."""
        return {name: value for name, value in vars(self).items() if name != RESULTS}

    @property
    def n_models(self) -> int:
        """Size of the pool M."""
        return len(self.models)

    @property
    def n_decision_nodes(self) -> int:
        """Number of decision nodes per tree, D."""
        return tree.n_decision_nodes(self.n_models, self.horizon)

    @cached_property
    def cost(self) -> Floats:
        """Cost of the whole path to each node, in cost units, `(rows, N)`."""
        total = self.hop_cost.copy()
        for depth in range(2, self.horizon + 1):
            parents, children = tree.level(self.n_models, depth - 1), tree.level(self.n_models, depth)
            total[:, children] += np.repeat(total[:, parents], self.n_models, axis=1)
        return total

    @cached_property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """Whether each model may be chosen at each decision node, `(rows, D, M)`; all of them at nodes that nothing reaches."""
        shape = (len(self.split), self.n_decision_nodes, self.n_models)
        if self.available is None:
            return np.broadcast_to(True, shape)
        children = self.available[:, 1:].reshape(shape)  # a heap: the children of node n begin at n * M + 1
        return children | ~children.any(axis=2, keepdims=True)

    @cached_property
    def lacks_responses(self) -> bool:
        """Whether a node that exists is not available on some row."""
        if self.available is None:
            return False
        return not (self.available if self.exists is None else self.available[:, self.exists]).all()

    @property
    def mask_reason(self) -> str:
        """Why some nodes are masked, for messages."""
        return "some responses of this suite are missing" if self.exists is None else "the suite's [tree] leaves paths out"

    @property
    def mask_remedy(self) -> str:
        """What helps those that cannot cope with what is masked, for messages."""
        return LEAVE_OUT if self.exists is None else WIDEN

    def rows(self, split: Split) -> Ints:
        """Return the rows of a split, ascending, `(rows,)`."""
        return np.flatnonzero(self.split == split)

    def question_embeddings(self, rows: Ints) -> npt.NDArray[np.float32]:
        """Return the embeddings of the questions of some rows, `(rows, dimensions)`."""
        embeddings: npt.NDArray[np.float32] = self.vectors[self.texts[rows, 0, 0]]
        return embeddings

    @property
    def leaves(self) -> Ints:
        """The nodes at which complete paths end, `(M ** L,)`: columns of `quality` and `cost`."""
        level = tree.level(self.n_models, self.horizon)
        return np.arange(level.start, level.stop)

    def path(self, node: int) -> tuple[str, ...]:
        """Return the names of the models on the path to a node, in order."""
        return tuple(self.models[action] for action in tree.path_of(node, self.n_models))

    def subset(self, rows: Ints) -> "TransitionTable":
        """Return the table of some rows, in the given order, with no text or embedding of any other."""
        texts, index = np.unique(np.append(0, self.texts[rows]), return_inverse=True)  # 0 stands for no text
        return replace(
            self,
            benchmark=self.benchmark[rows],
            split=self.split[rows],
            quality=self.quality[rows],
            hop_cost=self.hop_cost[rows],
            vectors=self.vectors[texts],
            texts=index[1:].reshape(len(rows), *self.texts.shape[1:]).astype(np.int32),
            questions=tuple(self.questions[row] for row in rows) if self.questions else (),
            responses=tuple(self.responses[text] for text in texts) if self.responses else (),
            available=None if self.available is None else self.available[rows],
        )

    def hold_out(self, benchmark: str) -> "TransitionTable":
        """Return the table with one benchmark left out of training: its rows alone are the test split.

        Raises:
            SuiteError: There is no such benchmark.
        """
        if benchmark not in self.benchmarks:
            raise SuiteError(f"There is no benchmark {benchmark!r} to hold out; the suite has: {', '.join(self.benchmarks)}.")
        held_out = self.benchmark == self.benchmarks.index(benchmark)
        return replace(self, split=np.where(held_out, "test", np.where(self.split == "test", UNUSED, self.split)))

    def path_name(self, node: int) -> str:
        """Return the path to a node as text, e.g. `a > b`; the root's is `abstained`."""
        return " > ".join(self.path(node)) or ABSTAINED


def cached_on_table(
    function: Callable[[TransitionTable, *Arguments], Result],
) -> Callable[[TransitionTable, *Arguments], Result]:
    """Decorate a function of a table and hashable arguments: its results are kept as long as the table exists."""

    @wraps(function)
    def cached(table: TransitionTable, *arguments: *Arguments) -> Result:
        results: dict[object, Result] = vars(table).setdefault(RESULTS, {})
        if (function, arguments) not in results:
            results[function, arguments] = function(table, *arguments)
        return results[function, arguments]

    return cached


def load_table(cache: Cache, suite: Suite, holdout: str | None = None) -> TransitionTable:
    """Load a suite's table.

    Args:
        cache: The cache.
        suite: The recorded suite.
        holdout: A benchmark to leave out of training, as in `hold_out`.

    Raises:
        IncompleteCacheError: Nodes, scores or embeddings are missing, or generations failed; says how many and what to do.
        SuiteError: There is no benchmark of the name that is held out.
    """
    trees, transitions = cache.query("trees", suite=suite.key), cache.query("scored_transitions", suite=suite.key)
    shape = (trees.num_rows, tree.n_nodes(len(suite.models), suite.horizon))
    position, number = transitions["position"].to_numpy(), transitions["number"].to_numpy()
    exists = existing_nodes(suite.config)
    is_complete = bool(exists.all())
    scored = np.zeros(shape, dtype=np.bool_)
    scored[:, 0] = scored[position, number] = True
    split, available = _split(cache, suite, trees, scored, exists)
    if available is None and not is_complete:
        available = np.broadcast_to(exists, shape)
    quality, hop_costs = np.zeros(shape), np.zeros(shape)
    quality[position, number] = transitions["quality"].to_numpy()
    hop_costs[position, number] = _hop_costs(cache, suite, transitions, split)
    if available is not None:
        np.copyto(quality, 0, where=~available)
        np.copyto(hop_costs, 0, where=~available)
    vectors, texts, responses = _features(cache, suite, shape[0])
    benchmarks = tuple(benchmark.name for benchmark in suite.config.benchmarks)
    table = TransitionTable(
        models=tuple(model.name for model in suite.models),
        horizon=suite.horizon,
        benchmarks=benchmarks,
        benchmark=np.array([benchmarks.index(name) for name in trees["benchmark"].to_pylist()], dtype=np.int64),
        split=split,
        quality=quality,
        hop_cost=hop_costs,
        vectors=vectors,
        texts=texts,
        questions=tuple(trees["prompt"].to_pylist()),
        responses=responses,
        available=available,
        exists=None if is_complete else exists,
    )
    return table.hold_out(holdout) if holdout else table


def existing_nodes(config: SuiteConfig) -> npt.NDArray[np.bool_]:
    """Return which nodes a suite's tree has, `(N,)`."""
    path_tree = config.path_tree()
    exists = np.zeros(path_tree.n_complete + 1, dtype=np.bool_)
    exists[slice(None) if path_tree.numbers is None else list(path_tree.numbers)] = True
    return exists


def _split(
    cache: Cache,
    suite: Suite,
    trees: "pa.Table",
    scored: npt.NDArray[np.bool_],
    exists: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.bool_] | None]:
    """Return the split of each row, and which nodes are available if any response is missing, `(rows, N)`.

    Args:
        cache: The cache.
        suite: The recorded suite.
        trees: Its trees.
        scored: Which nodes have a score, `(rows, N)`.
        exists: Which nodes the suite's tree has, `(N,)`.
    """
    models, setting = len(suite.models), suite.config.incomplete
    is_imported = suite.config.models[0].is_imported
    split = np.array(trees["split"].to_pylist(), dtype="<U10")
    lacking = unscored = exists & ~scored
    if setting != "refuse" and not is_imported:  # a failure and what would follow it; what is merely missing is never left out
        failed = cache.query("failed_nodes", suite=suite.key)
        lacking = np.zeros_like(scored)
        lacking[failed["position"].to_numpy(), failed["number"].to_numpy()] = True
        lacking = exists & with_descendants(lacking, models)
    available = None
    if setting == "exclude question":
        questions = trees["question"].to_numpy(zero_copy_only=False)
        split[np.isin(questions, questions[lacking.any(1)])] = EXCLUDED
        reason = "a response is missing" if is_imported else "a generation failed"
    elif setting == "mask" and lacking.any():
        available = on_complete_paths(exists & ~lacking, models, suite.horizon)
        split[~available[:, 0]] = EXCLUDED
        reason = "no complete path has all its responses"
    missing = unscored if setting == "refuse" else unscored & ~lacking
    if n_missing := int(missing[split != EXCLUDED].sum()):
        raise _incomplete(cache, suite, len(split) * suite.tree.n_nodes, n_missing, "nodes")
    if excluded := int((split == EXCLUDED).sum()):
        logger.warning("%d of %d trees are left out: %s", excluded, len(split), reason)
    if available is not None:
        share = 1 - available[split != EXCLUDED, 1:].sum() / max(1, int((split != EXCLUDED).sum()) * suite.tree.n_nodes)
        logger.warning("%.2f%% of all responses are masked: they are missing, or on no complete path", 100 * share)
    return split, available


def with_descendants(nodes: npt.NDArray[np.bool_], models: int) -> npt.NDArray[np.bool_]:
    """Return some nodes of each tree and all nodes below them, `(rows, N)`."""
    below = nodes.copy()
    for parent in range((nodes.shape[1] - 1) // models):
        below[:, parent * models + 1 : parent * models + 1 + models] |= below[:, parent, None]
    return below


def on_complete_paths(responded: npt.NDArray[np.bool_], models: int, horizon: int) -> npt.NDArray[np.bool_]:
    """Return through which nodes a complete path of responses leads, `(rows, N)`, given which nodes have a response."""
    available = ~with_descendants(~responded, models)
    for parent in reversed(range(tree.n_decision_nodes(models, horizon))):
        available[:, parent] &= available[:, parent * models + 1 : parent * models + 1 + models].any(1)
    return available


def remedy_without_questions(split: npt.NDArray[np.str_]) -> str:
    """Say what helps a split without questions; the remedy depends on whether some are left out.

    Args:
        split: Split of each row, `(rows,)`.
    """
    if n_left_out := int((split == EXCLUDED).sum()):
        return (
            f"Responses are missing, so that {n_left_out} of {len(split)} trees are left out. Add the responses, or mask "
            'them: toolkit import --missing mask, or incomplete = "mask" in the suite.'
        )
    return "Add questions to it, or give it a larger share under [splits] of the suite."


def _hop_costs(cache: Cache, suite: Suite, transitions: "pa.Table", split: npt.NDArray[np.str_]) -> Floats:
    """Return the cost of the hop to each node in cost units, `(nodes,)`: the imported one, or that of its tokens."""
    unit = cache.suites.cost_unit(suite.key)
    if unit is None:
        raise IncompleteCacheError(
            f"The train split of suite {suite.name} has no questions, and so no cost unit. {remedy_without_questions(split)}"
        )
    model = (transitions["number"].to_numpy() - 1) % len(suite.models)
    prompt_tokens, completion_tokens, imported = (
        transitions[name].to_numpy().astype(np.float64) for name in ("prompt_tokens", "completion_tokens", "cost")
    )
    raw = hop_cost(
        prompt_tokens,
        completion_tokens,
        np.array([entry.rate_in for entry in suite.models])[model],
        np.array([entry.rate_out for entry in suite.models])[model],
    )
    return in_cost_units(np.where(np.isnan(imported), raw, imported), unit)


def _features(cache: Cache, suite: Suite, rows: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], tuple[str, ...]]:
    """Load the distinct embeddings, `(texts, dimensions)`, which of them a node observes, `(rows, D, parts)`, and responses."""
    observed = cache.embeddings.observed(suite)
    if observed.n_missing:
        raise _incomplete(cache, suite, observed.n_texts, observed.n_missing, "embeddings")
    parts = 2 if suite.config.features.text == "newest" else 1
    texts = np.zeros((rows, tree.n_decision_nodes(len(suite.models), suite.horizon), parts), dtype=np.int32)
    texts[observed.position, observed.number, -1] = observed.vector
    if parts == 2:  # a root has no response, and every node observes the question
        root = observed.number == 0
        texts[:, 0, 1] = 0
        texts[observed.position[root], :, 0] = observed.vector[root, None]
    return observed.vectors, texts, observed.responses


def _incomplete(cache: Cache, suite: Suite, total: int, missing: int, what: str) -> IncompleteCacheError:
    counts = cache.suites.count_nodes(suite)
    lines = [f"{missing} of {total} {what} of suite {suite.name} are missing from {cache.path}."]
    is_imported = suite.config.models[0].is_imported
    if is_imported:
        mask = command("import", "FILES", "--suite", suite.name, "--missing", "mask", cache=cache.path)
        return IncompleteCacheError("\n".join([*lines, f"Import results that have them, or mask what is missing: {mask}"]))
    if what == "nodes" and counts.failed:
        setting = 'incomplete = "exclude question" in the suite'
        lines.append(f"{counts.failed} of them failed, and others follow those. To leave their questions out: {setting}.")
        lines.append(f"To see why: {command('status', suite.name, cache=cache.path)}")
    retry = ["--retry"] if counts.permanent else []
    return IncompleteCacheError(
        "\n".join([*lines, f"Fill it with: {command('generate', suite.name, *retry, cache=cache.path)}"])
    )
