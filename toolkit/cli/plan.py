"""`toolkit plan`: what a suite would generate, what is cached of it, and what the rest takes."""

from typing import TYPE_CHECKING

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, SuiteArgument, cache_path, suite_config
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from toolkit.generation.plan import Plan


def plan(
    suite: SuiteArgument, cache: CacheOption = None, format: FormatOption = Format.TABLE, output: OutputOption = None
) -> None:
    """Count the generations of a suite by benchmark, hop and model; tell their tokens, time, money, memory and storage.

    Figures are those of the cache's own history and of `toolkit calibrate`; where there are none, nothing is guessed. Needs no
    model. Example: toolkit plan quickstart
    """
    import pyarrow as pa

    from toolkit.engines.memory import memory
    from toolkit.generation.plan import plan as make_plan
    from toolkit.generation.profiles import load_profiles
    from toolkit.report.tables import aligned, write
    from toolkit.store import Cache
    from toolkit.suites.suite import resolve

    config, folder = suite_config(suite, cache)
    opened = Cache(cache_path(config.name, cache))
    known = opened.recorded(config.name) if opened.exists() else None
    workspace = Workspace(folder, opened.path.parent / "weights")
    resolved = resolve(config, workspace, known)
    needs = {model.name: memory(model, workspace) for model in config.models}
    made = make_plan(resolved, opened if opened.exists() else None, load_profiles(opened.path.parent), needs)
    if format != Format.TABLE or output:
        write(pa.Table.from_pylist([row._asdict() for row in made.rows]), format, output)
        return
    benchmarks = [benchmark.name for benchmark in config.benchmarks]
    counts = {(row.depth, row.model, row.benchmark): row.nodes for row in made.rows}
    lines = []
    for depth in range(1, config.horizon + 1):
        for model in config.models:
            per_benchmark = [counts[depth, model.name, name] for name in benchmarks]
            missing = sum(row.missing for row in made.rows if (row.depth, row.model) == (depth, model.name))
            lines.append([depth, model.name, *per_benchmark, sum(per_benchmark), missing])
    typer.echo(
        f"Suite {config.name}: {len(resolved.questions)} questions, {len(config.models)} models, {config.horizon} hops.\n"
    )
    typer.echo(aligned(["hop", "model", *benchmarks, "nodes", "missing"], lines))
    typer.echo(
        f"\n{made.nodes} nodes (one generation each, fewer where prompts are equal); {made.missing} missing in {opened.path}."
        + (f" {made.saved} of the cached nodes share another's generation." if made.saved else "")
    )
    if made.missing:
        _tell_missing(made, suite)
    _tell_memory(made, suite)


def _tell_missing(made: "Plan", suite: str) -> None:
    """Tell what the missing answers take."""
    from toolkit.generation.budget import format_amount
    from toolkit.report.tables import aligned, size

    if made.prompt_tokens is None:
        typer.echo(f"Tokens, time and money: not measured yet. Measure on this machine: toolkit calibrate {suite}")
    else:
        typer.echo(
            f"Missing: about {made.prompt_tokens:,.0f} tokens of prompts and {made.completion_tokens:,.0f} of answers, by the "
            f"means of {made.source}.\n"
        )
        priced = any(one.usd is not None for one in made.estimates)
        lines = [
            [
                one.engine,
                one.source,
                format_amount(one.seconds, "seconds"),
                *([f"{one.usd:.2f}"] if one.usd is not None else []),
            ]
            for one in made.estimates
        ]
        typer.echo(aligned(["engine", "measured by", "time", *(["usd"] if priced else [])], lines))
        if not priced:
            typer.echo("Money: the suite gives no usd_per_hour or usd_per_million_tokens under [engine].")
        typer.echo(f"Another machine or engine is measured there: toolkit calibrate {suite}")
    if made.storage is None:
        typer.echo("Storage: not known until the first answers are cached.")
    else:
        typer.echo(f"Storage: about {size(round(made.storage))} more, at what a node of this cache takes.")


def _tell_memory(made: "Plan", suite: str) -> None:
    """Tell what each model needs of memory."""
    from toolkit.report.tables import aligned, size

    lines = []
    for name, need in made.memory.items():
        peak = size(made.peaks[name]) if name in made.peaks else "-"
        if need is None:
            lines.append([name, *["-"] * 4, peak])
        else:
            batch = need.token * made.batch_tokens
            lines.append(
                [name, f"{need.parameters:,}", size(need.weights), size(batch), size(need.of_batch(made.batch_tokens)), peak]
            )
    together = "weights and batch"
    typer.echo()
    typer.echo(aligned(["model", "parameters", "weights", f"batch of {made.batch_tokens}", together, "peak measured"], lines))
    if None in made.memory.values():
        typer.echo(
            f"-: weights are at a server, or not on this machine yet; toolkit calibrate {suite} fetches and measures them."
        )
