"""`toolkit profile`: measure an engine on this machine."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, SuiteArgument, app, read_suite, resolve_suite
from toolkit.cli.terminal import note
from toolkit.cli.trust import TrustOption
from toolkit.core.commands import command


@app.command()
def profile(
    suite: SuiteArgument,
    cache: CacheOption = None,
    prompts: Annotated[int, typer.Option(help="Prompts to read, and as many others to respond to.", min=1)] = 64,
    trust: TrustOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Measure the suite's engine with each model, for toolkit plan: loading, tokens read and written per second, memory.

    Example: toolkit profile quickstart
    """
    from toolkit.generation.profile import profile_engine, save_profile
    from toolkit.report.profile import render, rows
    from toolkit.report.tables import write

    file = read_suite(suite, cache)
    profiles = []
    measurements = profile_engine(resolve_suite(file, trust=trust), file.workspace.absolute(), prompts)
    for model in file.config.models:
        note(f"{model.name}: loading, reading and writing")
        profiles.append(next(measurements))
        path = save_profile(profiles[-1], file.cache.path.parent)
    if format != Format.TABLE or output:
        write(rows(profiles), format, output)
        return
    typer.echo(f"{render(profiles)}\n\nSaved in {path}. To use it: {command('plan', suite, cache=cache)}")
