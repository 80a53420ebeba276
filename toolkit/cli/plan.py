"""`toolkit plan`: what a suite would generate, and what that takes."""

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, SuiteArgument, app, read_suite, resolve_suite
from toolkit.cli.trust import TrustOption
from toolkit.core.commands import command


@app.command()
def plan(
    suite: SuiteArgument,
    cache: CacheOption = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
    trust: TrustOption = False,
) -> None:
    """Count the nodes of a suite by benchmark, hop and model, and estimate tokens, time, money, memory and storage.

    Estimates come from the cache and from `toolkit profile`; what was not measured is not estimated. Needs no model.

    Example: toolkit plan quickstart
    """
    from toolkit.engines import check_models
    from toolkit.engines.memory import memory
    from toolkit.generation.plan import plan as make_plan
    from toolkit.generation.profile import load_profiles
    from toolkit.report.plan import render
    from toolkit.report.tables import write

    file = read_suite(suite, cache)
    resolved = resolve_suite(file, trust=trust)
    check_models(file.config.engine, file.config.models, file.workspace)
    planned = make_plan(
        resolved,
        file.cache if file.cache.exists() else None,
        load_profiles(file.cache.path.parent),
        {model.name: memory(model, file.workspace) for model in file.config.models},
    )
    if format != Format.TABLE or output:
        write([row._asdict() for row in planned.rows], format, output)
    else:
        typer.echo(render(planned, resolved, command("profile", suite, cache=cache), file.cache.path))
