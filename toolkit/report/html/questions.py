"""What the browser of questions shows: their trees, each text once, and the paths that routers and the oracle take."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.replay.table import Ints, TransitionTable
from toolkit.report.html.results import rounded
from toolkit.routing.run_groups import RunGroup
from toolkit.store import Cache
from toolkit.suites.suite import Suite

MAX_QUESTIONS = 1000
"""Questions that a report shows, spread evenly over the evaluated ones."""
MAX_NODES = 200_000
"""Nodes that a report shows, in all trees together."""
MAX_RESPONSE, MAX_PROMPT = 2000, 4000
"""Longest response and prompt in a report, in characters."""


def shown_questions(table: TransitionTable, rows: Ints) -> Ints:
    """Return the places among evaluated rows of those questions that a report shows, `(shown,)`."""
    limit = min(MAX_QUESTIONS, max(1, MAX_NODES // table.quality.shape[1]), len(rows))
    places: Ints = np.unique(np.linspace(0, len(rows) - 1, limit).round().astype(np.int64))
    return places


def browsed(
    cache: Cache, suite: Suite, table: TransitionTable, rows: Ints, groups: Sequence[RunGroup], best: dict[float, Ints]
) -> dict[str, Any]:
    """Return the trees of some evaluated questions.

    Args:
        cache: The cache.
        suite: Its suite.
        table: The suite's table.
        rows: The evaluated rows.
        groups: The routers.
        best: The oracle's end on each row, by alpha, `(rows,)`.

    Returns:
        `questions`: one entry per question, with a node for each response: its number, the place of its text in `texts`,
        quality, cost, and tokens of prompt and response. `ends`: where each run ends, by its name, and the oracle by alpha.
    """
    places = shown_questions(table, rows)
    positions = rows[places].tolist()
    texts: dict[str, int] = {}
    nodes: dict[int, list[list[Any]]] = {position: [] for position in positions}
    for node in cache.query("tree_nodes", suite=suite.key, positions=positions).to_pylist():
        text = _cut(node["error"] or node["response"] or "", MAX_RESPONSE)
        values = (node["quality"], node["cost"])
        nodes[node["position"]].append(
            [
                node["number"],
                texts.setdefault(text, len(texts)),
                *(None if value is None else rounded(value) for value in values),
                node["prompt_tokens"],
                node["completion_tokens"],
                int(node["error"] is not None),
            ]
        )
    questions = cache.query("question_texts", suite=suite.key, positions=positions).to_pylist()
    entries = [
        {
            "question": int(place),
            "benchmark": question["benchmark"],
            "item": question["item"] + (f" (sample {question['sample']})" if question["sample"] else ""),
            "prompt": _cut(question["prompt"], MAX_PROMPT),
            "reference": question["reference"],
            "nodes": nodes[question["position"]],
        }
        for place, question in zip(places.tolist(), questions, strict=True)
    ]
    runs = {run.run: ends[places].tolist() for group in groups for run, ends in zip(group.runs, group.nodes, strict=True)}
    oracle = {json.dumps(alpha): ends[places].tolist() for alpha, ends in best.items()}
    return {"texts": list(texts), "questions": entries, "ends": runs, "oracle": oracle, "evaluated": len(rows)}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "\u2026"
