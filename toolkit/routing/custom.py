"""Routers that are not the toolkit's: a class or a function in somebody's Python file decides, from plain values.

The file runs because the user names it on the command line; nothing that a cache or a suite says is executed here.
"""

import hashlib
import inspect
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from toolkit.core.errors import PolicyError
from toolkit.core.modules import execute_file
from toolkit.core.text import printable
from toolkit.replay.table import STOP, Ints, TransitionTable
from toolkit.store import Cache
from toolkit.suites.suite import Split, Suite

MAX_QUOTED = 60
"""Characters of a question, or of what a router returned, that a message quotes."""

logger = logging.getLogger("toolkit")


@dataclass(frozen=True)
class Observation:
    """What a router of yours sees when it decides.

    Attributes:
        question: Text of the question.
        models: Names of the pool, in order; an action is one of them, its position, or `stop`.
        available: Those of them that may be chosen now: all, unless responses are missing or `[tree]` leaves paths out.
        path: Names of the models chosen so far, in order.
        responses: What they returned, in the same order; empty texts if results were imported without responses.
        hop: Number of hops so far, 0 at the first decision.
        horizon: Number of hops L.
        cost: Cost so far, in cost units.
        alpha: Price of cost in R = Q - alpha * C.
        question_embedding: Embedding of the question, `(dimensions,)`.
        response_embedding: Embedding of the newest response, or of the whole context if the suite embeds contexts,
            `(dimensions,)`; zeros at the first decision.
    """

    question: str
    models: tuple[str, ...]
    available: tuple[str, ...]
    path: tuple[str, ...]
    responses: tuple[str, ...]
    hop: int
    horizon: int
    cost: float
    alpha: float
    question_embedding: npt.NDArray[np.float32]
    response_embedding: npt.NDArray[np.float32]


Responses = Mapping[tuple[int, int], str]
"""Responses by row of the table and number of the node."""


@dataclass(frozen=True)
class Routed:
    """Where a router that is not the toolkit's ends on a split.

    Attributes:
        name: Its name in the results: FILE:NAME, or the name of a file of decisions.
        path: The file.
        sha256: Hash of its content.
        nodes: The node at which it ends on each row of the split, `(rows,)`.
        seconds: Time to fit it, in seconds.
    """

    name: str
    path: Path
    sha256: str
    nodes: Ints
    seconds: float = 0.0


class CustomRouter:
    """A router in a Python file: a class with `decide` and perhaps `fit`, or a function that decides.

    Args:
        reference: FILE:NAME.

    Raises:
        PolicyError: There is no such file or name, the file cannot be executed, or what it names does not decide.
    """

    def __init__(self, reference: str) -> None:
        file, colon, attribute = reference.rpartition(":")
        if not colon or not file.endswith(".py") or not attribute.isidentifier():
            raise PolicyError(
                f"--router takes FILE:NAME, where NAME is a class or a function in FILE, e.g. --router my_router.py:MyRouter; "
                f"this is {printable(reference)!r}."
            )
        self.path = Path(file)
        self.name = f"{self.path.name}:{attribute}"
        try:
            source = self.path.read_bytes()
        except OSError as error:
            raise PolicyError(
                f"The router's file {file} cannot be read: {error.strerror}. Correct --router FILE:NAME."
            ) from None
        self.sha256 = hashlib.sha256(source).hexdigest()
        names = self._execute(source)
        if attribute not in names:
            raise PolicyError(f"{file} has no {attribute!r}. Name a class with `decide`, or a function: --router {file}:NAME")
        self._router = names[attribute]
        decides = inspect.isclass(self._router) and callable(getattr(self._router, "decide", None))
        if not decides and (inspect.isclass(self._router) or not callable(self._router)):
            raise PolicyError(
                f"{self.name} is neither a function nor a class with a method `decide(observation)`. Name one of those with "
                f"--router {file}:NAME"
            )

    def _execute(self, source: bytes) -> dict[str, Any]:
        """Execute the file, which may import its neighbours, and return what it defines."""
        folder = str(self.path.parent.resolve())
        if folder not in sys.path:
            sys.path.append(folder)
        try:
            return vars(execute_file(self.path, source, f"router_{self.path.stem}_{self.sha256[:8]}"))
        except (Exception, SystemExit) as error:
            self._fail(error, "cannot be executed")

    def route(
        self, table: TransitionTable, split: Split, alphas: Sequence[float], allow_stop: bool, responses: Responses
    ) -> dict[float, Routed]:
        """Fit the router on the training and validation rows, and let it decide on every row of a split, at every alpha.

        It is fitted once, or once for each alpha if its `fit` has a parameter `alpha`.

        Raises:
            PolicyError: The router raises an exception, or returns something that is not an action.
        """
        routed: dict[float, Routed] = {}
        decide, seconds = None, 0.0
        for alpha in alphas:
            if decide is None or self.depends_on_alpha:
                started = time.monotonic()
                decide = self.fit(table, alpha)
                seconds = time.monotonic() - started
            nodes = self.nodes(decide, table, table.rows(split), alpha, allow_stop, responses)
            routed[alpha] = Routed(name=self.name, path=self.path, sha256=self.sha256, nodes=nodes, seconds=seconds)
        return routed

    @property
    def depends_on_alpha(self) -> bool:
        """Whether the router is fitted for each alpha separately."""
        fit = getattr(self._router, "fit", None) if inspect.isclass(self._router) else None
        return fit is not None and "alpha" in inspect.signature(fit).parameters

    def fit(self, table: TransitionTable, alpha: float) -> Callable[[Observation], Any]:
        """Make the router, fit it on the training and validation rows, and return the function that decides.

        Raises:
            PolicyError: It raises an exception.
        """
        if not inspect.isclass(self._router):
            return self._router  # type: ignore[no-any-return]
        visible = table.subset(np.sort(np.concatenate([table.rows("train"), table.rows("validation")])))
        try:
            router: Any = self._router()
            if hasattr(router, "fit"):
                router.fit(visible, **({"alpha": alpha} if self.depends_on_alpha else {}))
        except (Exception, SystemExit) as error:
            self._fail(error, "cannot be fitted")
        decide: Callable[[Observation], Any] = router.decide
        return decide

    def nodes(
        self,
        decide: Callable[[Observation], Any],
        table: TransitionTable,
        rows: Ints,
        alpha: float,
        allow_stop: bool,
        responses: Responses,
    ) -> Ints:
        """Return the node at which the router ends on each row, `(rows,)`."""
        return np.array([self._end(decide, table, row, alpha, allow_stop, responses) for row in rows.tolist()], dtype=np.int64)

    def _end(
        self,
        decide: Callable[[Observation], Any],
        table: TransitionTable,
        row: int,
        alpha: float,
        allow_stop: bool,
        responses: Responses,
    ) -> int:
        nodes = [0]
        while nodes[-1] < table.n_decision_nodes:
            observation = observe(table, row, nodes, alpha, responses)
            try:
                action = decide(observation)
            except (Exception, SystemExit) as error:
                self._fail(error, f"cannot decide on the question {observation.question[:MAX_QUOTED]!r}")
            position = self._position(action, table, allow_stop, observation)
            if position is None:
                break
            nodes.append(nodes[-1] * table.n_models + 1 + position)
        return nodes[-1]

    def _position(self, action: Any, table: TransitionTable, allow_stop: bool, observation: Observation) -> int | None:
        """Return the position of the model that an action means, or None to stop."""
        if isinstance(action, str) and action in table.models:
            return self._available(table.models.index(action), table, observation)
        if isinstance(action, int | np.integer) and not isinstance(action, bool) and 0 <= action < table.n_models:
            return self._available(int(action), table, observation)
        stops = action is None or (isinstance(action, str) and action == STOP)
        if stops and allow_stop:
            return None
        allowed = ", ".join([*table.models, *([STOP] if allow_stop else [])])
        remedy = (
            "Let routers stop with --allow-stop." if stops else f"An action is one of {allowed}, or a position in the pool."
        )
        raise PolicyError(
            f"{self.name} returned {printable(repr(action)[:MAX_QUOTED])} at hop {observation.hop} of the question "
            f"{printable(repr(observation.question[:MAX_QUOTED]))}, which is no action here. {remedy}"
        )

    def _available(self, position: int, table: TransitionTable, observation: Observation) -> int:
        """Return the position of a model, if it may be chosen."""
        if (name := observation.models[position]) in observation.available:
            return position
        raise PolicyError(
            f"{self.name} chose {printable(name)} at hop {observation.hop} of the question "
            f"{printable(repr(observation.question[:MAX_QUOTED]))}, where it has no response. Choose one of "
            f"`observation.available`, or {table.mask_remedy}."
        )

    def _fail(self, error: BaseException, what: str) -> NoReturn:
        """Raise the error that names the line of the router's file at which something went wrong."""
        logger.debug("a router of the user's failed", exc_info=error)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(self.path)]
        line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(self.path) else (lines or [None])[-1]
        place = f"{self.path}, line {line}" if line else str(self.path)
        raise PolicyError(
            printable(f"{self.name} {what}: {place}: {type(error).__name__}: {error}").rstrip(".")
            + ". Correct it there, and repeat."
        ) from error


def observe(table: TransitionTable, row: int, nodes: Sequence[int], alpha: float, responses: Responses) -> Observation:
    """Return what a router observes after the given nodes of a row, from the root to the current one."""
    node, own = nodes[-1], table.vectors[table.texts[row, nodes[-1], -1]]
    return Observation(
        question=table.questions[row],
        models=table.models,
        available=tuple(name for name, allowed in zip(table.models, table.allowed[row, node], strict=True) if allowed),
        path=table.path(node),
        responses=tuple(responses[row, visited] for visited in nodes[1:]),
        hop=len(nodes) - 1,
        horizon=table.horizon,
        cost=float(table.cost[row, node]),
        alpha=alpha,
        question_embedding=table.vectors[table.texts[row, 0, 0]],
        response_embedding=own if node else np.zeros_like(own),
    )


def load_responses(cache: Cache, suite: Suite, rows: Ints) -> dict[tuple[int, int], str]:
    """Load the responses that routers observe on some rows of a suite's table."""
    responses = cache.query("observed_responses", suite=suite.key, positions=rows.tolist()).to_pylist()
    return {(row["position"], row["number"]): row["response"] or "" for row in responses}
