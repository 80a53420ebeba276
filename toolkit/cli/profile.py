"""`toolkit profile`: measure what an engine does on this machine."""

from typing import Annotated

import typer

from toolkit.cli.common import CacheOption, SuiteArgument, cache_path, suite_config
from toolkit.core.workspace import Workspace


def profile(
    suite: SuiteArgument,
    cache: CacheOption = None,
    prompts: Annotated[int, typer.Option(help="Questions to read, and as many others to answer.", min=1)] = 64,
) -> None:
    """Measure the suite's engine with each model: loading, tokens a second read and written, memory. For toolkit plan.

    Example: toolkit profile quickstart
    """
    from toolkit.generation.profile import profile_engine
    from toolkit.generation.profiles import save_profile
    from toolkit.report.tables import aligned, size
    from toolkit.store import Cache
    from toolkit.suites.suite import resolve

    config, folder = suite_config(suite, cache)
    opened = Cache(cache_path(config.name, cache))
    workspace = Workspace(folder, opened.path.parent / "weights")
    known = opened.recorded(config.name) if opened.exists() else None
    rows = []
    measured = profile_engine(resolve(config, workspace, known), workspace.absolute(), prompts)
    for model in config.models:
        typer.echo(f"{model.name}: loading, reading questions, open_runner others", err=True)
        rate = next(measured)
        file = save_profile(rate, opened.path.parent)
        peak = size(rate.peak) if rate.peak else "-"
        rows.append([rate.name, f"{rate.loading:.1f}", f"{rate.read:.1f}", f"{rate.written:.1f}", peak])
    typer.echo(f"{rate.engine} on {rate.machine}, batches of {rate.batch_tokens} tokens:\n")
    typer.echo(aligned(["model", "loading s", "read tokens/s", "written tokens/s", "peak memory"], rows))
    typer.echo(f"\nKept in {file}; toolkit plan {suite} works with it.")
