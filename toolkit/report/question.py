"""Shows the tree of one question, as text for people."""

import shlex
from typing import Any, NamedTuple

from toolkit.core.errors import CacheError
from toolkit.core.tree import path_of
from toolkit.store import Cache

INDENT = " " * 4
"""Indentation of a node per hop."""


class QuestionTree(NamedTuple):
    """The tree of one question: its nodes in the order of their paths, and the complete path of the highest reward."""

    suite: str
    alpha: float
    question: dict[str, Any]
    nodes: list[dict[str, Any]]
    best: tuple[str, ...]


def tree_of(cache: Cache, name: str, suite: str | None, sample: int) -> QuestionTree:
    """Return the tree of one question.

    Args:
        cache: The cache.
        name: `BENCHMARK/ITEM`, or the beginning of a question's key.
        suite: Name of a recorded suite; None for the one recorded last.
        sample: Number of the sampled tree.

    Raises:
        CacheError: There is no such suite or sample, or not exactly one such question.
    """
    recorded = {row["name"]: row for row in cache.query("suite_alphas").to_pylist()}
    alphas = {name: row["alpha"] for name, row in recorded.items()}
    suite = suite or next(iter(alphas), None)
    if suite is None or suite not in alphas:
        raise CacheError(f"The cache {cache.path} has no suite {suite!r}; recorded: {', '.join(alphas) or 'none'}.")
    questions = cache.query("questions_called", name=suite, question=name).to_pylist()
    if len(questions) != 1:
        raise CacheError(
            f"{len(questions) or 'No'} questions of suite {suite} are called {name!r}. List them with: "
            f"toolkit sql \"SELECT DISTINCT benchmark || '/' || item FROM transitions\" --cache {shlex.quote(str(cache.path))}"
        )
    [question] = questions
    nodes = cache.query("tree", name=suite, question=question["question"], sample=sample).to_pylist()
    if sample and not nodes:
        raise CacheError(f"Suite {suite} has no sample {sample} of {name}; samples are numbered from 0.")
    nodes.sort(key=lambda node: path_of(node["number"], recorded[suite]["models"]))
    return QuestionTree(suite, alphas[suite], question, nodes, _best_path(nodes, alphas[suite]))


def render(tree: QuestionTree) -> str:
    """Draw every response to one question with its quality and cost; the complete path with the highest reward is marked."""
    question, best = tree.question, tree.best
    return "\n".join(
        [
            f"{question['benchmark']}/{question['item']} (suite {tree.suite})",
            question["prompt"],
            *([] if question["reference"] is None else [f"Answer: {question['reference']}"]),
            "",
            *(_line(node, best) for node in tree.nodes),
            "",
            f"* the complete path with the highest R = Q - {tree.alpha:g} * C" if best else "The tree is not complete yet.",
        ]
    )


def rows(tree: QuestionTree) -> list[dict[str, Any]]:
    """Return the nodes of a tree for programs; `cost` is that of one hop."""
    name = {"suite": tree.suite, "benchmark": tree.question["benchmark"], "item": tree.question["item"]}
    return [
        {**name, **node, "on_best_path": bool(tree.best) and tuple(node["path"]) == tree.best[: node["depth"]]}
        for node in tree.nodes
    ]


def _line(node: dict[str, Any], best: tuple[str, ...]) -> str:
    mark = "*" if tuple(node["path"]) == best[: node["depth"]] else " "
    head = f"{mark} {INDENT * (node['depth'] - 1)}{node['path'][-1]}"
    if node["status"] == "error":
        return f"{head}  failed: {node['error']}"
    quality = f"Q {node['quality']:.2f}" if node["quality"] is not None else "not scored"
    cost = f"C {node['cost']:.2f}" if node["cost"] is not None else "C ?"
    tokens = f", {node['prompt_tokens']}+{node['completion_tokens']} tokens" if node["prompt_tokens"] is not None else ""
    return f"{head}  [{quality}, {cost}{tokens}]  {' '.join((node['response'] or '').split())}".rstrip()


def _best_path(nodes: list[dict[str, Any]], alpha: float) -> tuple[str, ...]:
    """Return the complete path with the highest reward, or an empty one while costs or responses are missing."""
    costs: dict[tuple[str, ...], float] = {(): 0.0}
    for node in sorted(nodes, key=lambda node: node["depth"]):
        path = tuple(node["path"])
        if node["cost"] is None or path[:-1] not in costs:
            return ()
        costs[path] = costs[path[:-1]] + float(node["cost"])
    horizon = max(map(len, costs))
    qualities = {tuple(node["path"]): node["quality"] for node in nodes if node["depth"] == horizon}
    if not qualities or None in qualities.values():
        return ()
    return max(qualities, key=lambda path: float(qualities[path]) - alpha * costs[path])
