"""Decisions that were made elsewhere: a table that gives each question's path. Knows rows, and no file format."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.core import tree
from toolkit.core.errors import PolicyError, did_you_mean
from toolkit.core.text import printable
from toolkit.replay.table import ABSTAINED, STOP, Ints, TransitionTable
from toolkit.store import Cache
from toolkit.suites.suite import Split, Suite

COLUMNS = ("question", "path", "action")
"""The columns of a table of decisions; either `path` or `action` is needed."""
MAX_QUOTED = 60
"""Characters of a question that a message quotes."""

DecisionRow = tuple[str, Mapping[str, Any]]
"""The place of a row, as in `row 3 (line 4)`, and its values by column."""


def question_rows(cache: Cache, suite: Suite) -> dict[str, list[int]]:
    """Return the rows of the table by what a question goes by: its key, its text, BENCHMARK/ITEM and ITEM.

    An item id that two benchmarks have is left out.
    """
    names = cache.query("question_names", suite=suite.key).to_pylist()
    benchmarks, rows = defaultdict(set), defaultdict(list)
    for name in names:
        benchmarks[name["item"]].add(name["benchmark"])
    for name in names:
        labels = {name["question"], name["prompt"], f"{name['benchmark']}/{name['item']}"}
        for label in labels | ({name["item"]} if len(benchmarks[name["item"]]) == 1 else set()):
            rows[label].append(name["position"])
    return dict(rows)


def decided_nodes(
    table: TransitionTable,
    split: Split,
    decisions: Iterable[DecisionRow],
    known: Mapping[str, Sequence[int]],
    allow_stop: bool,
    file: str,
) -> Ints:
    """Return the node that a table of decisions leads to on each row of a split, `(rows,)`.

    Args:
        table: The table.
        split: The split; decisions on other questions of the suite are ignored.
        decisions: The rows of the table of decisions.
        known: Rows of `table` by what a question goes by (`question_rows`).
        allow_stop: Whether a path may end before the last hop.
        file: Name of the table of decisions, for messages.

    Raises:
        PolicyError: A decision is malformed, or the questions do not have exactly one each; says how many.
    """
    nodes: dict[int, int] = {}
    unknown: list[str] = []
    contradicted: dict[str, None] = {}
    for place, values in decisions:
        try:
            question, node = _question(values), _node(table, values, allow_stop)
        except ValueError as error:
            raise PolicyError(f"{file}, {place}: {printable(str(error))}.") from None
        if question not in known:
            unknown.append(question)
        for row in known.get(question, ()):
            if nodes.setdefault(row, node) != node:
                contradicted[question] = None
    rows = table.rows(split).tolist()
    missing = [table.questions[row] for row in rows if row not in nodes]
    problems = [
        f"{len(names)} {what}, e.g. {printable(repr(names[0][:MAX_QUOTED]))}"
        for names, what in (
            (missing, f"of {len(rows)} {split} questions have no decision"),
            (unknown, "of its questions are unknown or ambiguous"),
            (list(contradicted), "have decisions that contradict each other"),
        )
        if names
    ]
    if problems:
        raise PolicyError(
            f"{file}: {'; '.join(problems)}. A question is its text, its key, its item or BENCHMARK/ITEM, and each {split} "
            "question needs exactly one decision. Complete the file."
        )
    _check_available(table, {row: nodes[row] for row in rows}, split, file)
    return np.array([nodes[row] for row in rows], dtype=np.int64)


def _check_available(table: TransitionTable, nodes: Mapping[int, int], split: Split, file: str) -> None:
    """Check that the decided nodes of a split's rows have responses.

    Raises:
        PolicyError: Some do not; says how many.
    """
    if table.available is None:
        return
    missing = [row for row, node in nodes.items() if not table.available[row, node]]
    if missing:
        path, question = table.path_name(nodes[missing[0]]), table.questions[missing[0]][:MAX_QUOTED]
        raise PolicyError(
            f"{file}: {len(missing)} of {len(nodes)} {split} questions have no response on their path, e.g. "
            f"{printable(f'{path} on {question!r}')}. Choose paths that have responses, or {table.mask_remedy}."
        )


def _question(values: Mapping[str, Any]) -> str:
    question = values.get("question")
    if isinstance(question, int) and not isinstance(question, bool):
        return str(question)  # an item id that JSON or Parquet writes as a number
    if not isinstance(question, str) or not question:
        raise ValueError(f"its question is {question!r}, and not a text")
    return question


def _node(table: TransitionTable, values: Mapping[str, Any], allow_stop: bool) -> int:
    """Return the node that a row's path or action leads to.

    Raises:
        ValueError: It has neither or both, names no model of the pool, or ends too early or too late.
    """
    path, action = values.get("path"), values.get("action")
    if (path is None) == (action is None):
        raise ValueError("it needs a path or an action, and not both")
    names = _names(path) if path is not None else [] if action in (STOP, ABSTAINED) else [action]
    for name in names:
        if name not in table.models:
            raise ValueError(f"there is no model {name!r}; {did_you_mean(str(name), table.models)}")
    if len(names) > table.horizon:
        raise ValueError(f"its path has {len(names)} models, and the suite has {table.horizon} hops")
    if len(names) < table.horizon and not allow_stop:
        raise ValueError(f"its path has {len(names)} of {table.horizon} hops. Complete it, or let routers stop: --allow-stop")
    return tree.node_of(tuple(map(table.models.index, names)), table.n_models)


def _names(path: Any) -> list[Any]:
    if isinstance(path, str):
        return [] if path == ABSTAINED else path.split(" > ")
    if isinstance(path, Sequence):
        return list(path)
    raise ValueError(f"its path is {path!r}, and neither text (a > b) nor a list")
