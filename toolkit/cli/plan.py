"""`toolkit plan`: what a suite would generate, and what is cached of it."""

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, SuiteArgument, cache_path, suite_config


def plan(
    suite: SuiteArgument, cache: CacheOption = None, format: FormatOption = Format.TABLE, output: OutputOption = None
) -> None:
    """Count the generations of a suite by benchmark, hop and model, with tokens and time estimated from what is cached.

    Needs no model. Example: toolkit plan quickstart
    """
    import pyarrow as pa

    from toolkit.plan import plan as make_plan
    from toolkit.report.tables import aligned, number, write
    from toolkit.store import Cache
    from toolkit.suite import resolve

    config, base = suite_config(suite, cache)
    opened = Cache(cache_path(config.name, cache))
    known = opened.recorded(config.name) if opened.exists() else None
    resolved = resolve(config, base, opened.path.parent / "weights", known)
    made = make_plan(resolved, opened if opened.exists() else None)
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
    if made.missing and made.seconds is None:
        typer.echo("Tokens and time: unknown until the first answers are cached.")
    elif made.missing:
        typer.echo(
            f"About {made.prompt_tokens:,.0f} prompt and {made.completion_tokens:,.0f} completion tokens, "
            f"{number((made.seconds or 0) / 60, 1)} minutes at the rate of what is cached."
        )
