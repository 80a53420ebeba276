"""One question's tree as text for people."""

from typing import Any

from toolkit.core.errors import CacheError
from toolkit.core.tree import path_of
from toolkit.store import Cache


def render(cache: Cache, question: str, suite: str | None, sample: int) -> str:
    """Draw every answer of one question, with what each cost and scored; the complete path with the highest reward is marked.

    Args:
        cache: The cache.
        question: `BENCHMARK/ITEM`, or the beginning of a question's key.
        suite: Name of a recorded suite; the one recorded last where there is none.
        sample: Which sampled tree.

    Raises:
        CacheError: No question, or several, go by that name.
    """
    suites = cache.arrow(
        "SELECT name, (config->>'$.train.alpha')::DOUBLE AS alpha FROM current_suites ORDER BY recorded DESC"
    ).to_pylist()
    chosen = next((row for row in suites if suite in (None, row["name"])), None)
    if chosen is None:
        raise CacheError(
            f"The cache {cache.path} has no suite {suite!r}; recorded: {', '.join(row['name'] for row in suites)}."
        )
    found = cache.arrow(
        "SELECT DISTINCT q.question, q.benchmark, q.item, q.prompt, q.reference->>'$.answers[0]' AS answer"
        " FROM current_suites AS s JOIN suite_questions USING (suite) JOIN questions AS q USING (question)"
        " WHERE s.name = $suite AND (q.benchmark || '/' || q.item = $question OR starts_with(q.question::VARCHAR, $question))",
        {"suite": chosen["name"], "question": question},
    ).to_pylist()
    if len(found) != 1:
        raise CacheError(
            f"{len(found) or 'No'} questions of suite {chosen['name']} go by {question!r}. List them with: "
            "toolkit sql \"SELECT DISTINCT benchmark || '/' || item FROM transitions\""
        )
    nodes = cache.arrow(
        "SELECT number, depth, path, response, prompt_tokens, completion_tokens, cost, quality, status, error FROM transitions"
        " WHERE suite = $suite AND question = $question::UUID AND sample = $sample",
        {"suite": chosen["name"], "question": found[0]["question"], "sample": sample},
    ).to_pylist()
    if sample and not nodes:
        raise CacheError(f"Suite {chosen['name']} has no sample {sample} of {question}; samples are numbered from 0.")
    n_models = sum(node["depth"] == 1 for node in nodes)
    nodes.sort(key=lambda node: path_of(node["number"], n_models))
    best = _best(nodes, chosen["alpha"])
    lines = [
        f"{found[0]['benchmark']}/{found[0]['item']} (suite {chosen['name']})",
        found[0]["prompt"],
        f"Answer: {found[0]['answer']}",
        "",
    ]
    for node in nodes:
        mark = "*" if tuple(node["path"]) == best[: node["depth"]] else " "
        head = f"{mark} {'    ' * (node['depth'] - 1)}{node['path'][-1]}"
        if node["status"] == "error":
            lines.append(f"{head}  failed: {node['error']}")
            continue
        told = f"Q {node['quality']:.2f}" if node["quality"] is not None else "not scored"
        cost = f"C {node['cost']:.2f}" if node["cost"] is not None else "C ?"
        known = node["prompt_tokens"] is not None
        tokens = f", {node['prompt_tokens']}+{node['completion_tokens']} tokens" if known else ""
        lines.append(f"{head}  [{told}, {cost}{tokens}]  {' '.join((node['response'] or '').split())}".rstrip())
    lines += [
        "",
        f"* the complete path with the highest R = Q - {chosen['alpha']:g} * C" if best else "The tree is not whole yet.",
    ]
    return "\n".join(lines)


def _best(nodes: list[dict[str, Any]], alpha: float) -> tuple[str, ...]:
    """Return the complete path with the highest reward, or an empty one while costs or answers are missing."""
    cost: dict[tuple[str, ...], float] = {(): 0.0}
    for node in sorted(nodes, key=lambda node: len(node["path"])):
        path = tuple(node["path"])
        if node["cost"] is None or path[:-1] not in cost:
            return ()
        cost[path] = cost[path[:-1]] + float(node["cost"])
    depth = max(map(len, cost))
    ends = {tuple(node["path"]): node["quality"] for node in nodes if node["depth"] == depth}
    if not ends or any(quality is None for quality in ends.values()):
        return ()
    return max(ends, key=lambda path: float(ends[path]) - alpha * cost[path])
