"""Shows the plan of a suite, as text for people."""

from collections import Counter
from pathlib import Path

from toolkit.generation.budget import format_amount
from toolkit.generation.plan import Plan
from toolkit.report.tables import aligned, format_bytes
from toolkit.suites.suite import Suite
from toolkit.suites.tree import ruled_out

LONG_RUN = 3600.0
"""Seconds from which on another engine may be worth its installation."""


def render(plan: Plan, suite: Suite, profile: str, path: Path) -> str:
    """Lay out a plan: nodes by hop and model, what the missing ones take, and the memory of each model.

    Args:
        plan: The plan.
        suite: The suite.
        profile: The command that profiles the suite.
        path: The cache, which need not exist.
    """
    parts = [
        f"Suite {suite.name}: {len(suite.questions)} questions, {len(suite.models)} models, {suite.horizon} hops.",
        _nodes(plan, suite),
        f"{plan.nodes} nodes (one generation each, fewer if prompts are equal); {plan.missing} missing in {path}."
        + (f" {plan.saved} of the cached nodes share another node's generation." if plan.saved else ""),
        *_tree(plan, suite),
        *([_missing(plan, profile)] if plan.missing else []),
        _memory(plan, profile),
    ]
    return "\n\n".join(parts)


def _nodes(plan: Plan, suite: Suite) -> str:
    benchmarks = [benchmark.name for benchmark in suite.config.benchmarks]
    nodes, missing = Counter[tuple[int, str, str]](), Counter[tuple[int, str]]()
    for row in plan.rows:
        nodes[row.depth, row.model, row.benchmark] += row.nodes
        missing[row.depth, row.model] += row.missing
    rows = []
    for depth, model in missing:
        counts = [nodes[depth, model, benchmark] for benchmark in benchmarks]
        rows.append([depth, model, *counts, sum(counts), missing[depth, model]])
    return aligned(["hop", "model", *benchmarks, "nodes", "missing"], rows)


def _tree(plan: Plan, suite: Suite) -> list[str]:
    """Say what the suite's tree leaves out of the complete one; nothing if it is complete."""
    config = suite.config
    notices = ruled_out([model.name for model in suite.models], suite.horizon, config.tree)
    if plan.left_out:
        tokens = plan.left_out_tokens
        tokens_left_out = (
            f", about {tokens.prompt:,.0f} tokens of prompts and {tokens.completion:,.0f} of responses" if tokens else ""
        )
        nodes = f"{plan.left_out:,} of the {plan.left_out + plan.nodes:,} nodes of the complete tree{tokens_left_out}"
        notices.insert(0, f"[tree] leaves out {nodes}.")
    return [" ".join(notices)] if notices else []


def _missing(plan: Plan, profile: str) -> str:
    """Lay out what the missing responses take."""
    if plan.prompt_tokens is None or plan.completion_tokens is None:
        lines = [f"Tokens, time and money: not measured yet. To measure on this machine: {profile}"]
    else:
        lines = [
            f"Missing: about {plan.prompt_tokens:,.0f} tokens of prompts and {plan.completion_tokens:,.0f} of responses, by "
            f"the means of {plan.source}.\n",
            *_estimates(plan),
            f"To measure another machine or engine, run there: {profile}",
        ]
    if plan.storage is None:
        lines.append("Storage: not known until the first responses are cached.")
    else:
        lines.append(f"Storage: about {format_bytes(round(plan.storage))} more, extrapolated from this cache's bytes per node.")
    return "\n".join(lines)


def _estimates(plan: Plan) -> list[str]:
    has_prices = any(estimate.usd is not None for estimate in plan.estimates)
    rows = []
    for estimate in plan.estimates:
        usd = [f"{estimate.usd:.2f}"] if estimate.usd is not None else []
        rows.append([estimate.engine, estimate.source, format_amount(estimate.seconds, "seconds"), *usd])
    lines = [aligned(["engine", "measured by", "time", *(["usd"] if has_prices else [])], rows)]
    if plan.estimates and all(row.engine.startswith("transformers ") and row.seconds > LONG_RUN for row in plan.estimates):
        lines.append('The engine vllm takes less time for a run of hours: docs/guides/engines.md, "Which engine".')
    if not has_prices:
        lines.append("Money: the suite has no usd_per_hour or usd_per_million_tokens under [engine].")
    return lines


def _memory(plan: Plan, profile: str) -> str:
    rows = []
    for name, memory in plan.memory.items():
        peak = format_bytes(plan.peaks[name]) if name in plan.peaks else "-"
        figures = ["-"] * 4
        if memory:
            with_batch = memory.of_batch(plan.batch_tokens)
            figures = [
                f"{memory.parameters:,}",
                format_bytes(memory.weights),
                format_bytes(memory.token * plan.batch_tokens),
                format_bytes(with_batch),
            ]
        rows.append([name, *figures, peak])
    columns = ["model", "parameters", "weights", f"batch of {plan.batch_tokens}", "weights and batch", "measured peak"]
    table = aligned(columns, rows)
    if None in plan.memory.values() or len(plan.peaks) < len(plan.memory):
        table += f"\n-: the weights are on a server or not on this machine yet, or no peak was measured. To measure: {profile}"
    return table
