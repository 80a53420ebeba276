"""`toolkit report`: what routers and models do on a suite, as one HTML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import CacheOption, RunsDirOption, SuiteArgument, app, open_suite
from toolkit.cli.open_router import TrustOption
from toolkit.cli.terminal import note

if TYPE_CHECKING:
    from toolkit.routing.router import Router

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")]
RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Evaluated runs: names, hashes, or how names begin. Default: the newest of each kind of router and alpha.",
        show_default=False,
    ),
]


@app.command()
def report(
    suite: SuiteArgument,
    runs: RunsArgument = None,
    output: OutputOption = Path("report.html"),
    cache: CacheOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    trust: TrustOption = False,
) -> None:
    """Write a report as one HTML file that works offline: verdict, charts, tables, and every question with its tree.

    Example: toolkit report quickstart -o report.html
    """
    from toolkit.report.html.content import collect
    from toolkit.report.html.page import write_page
    from toolkit.report.output import check_page
    from toolkit.report.tables import wrapped
    from toolkit.routing.router import load_router
    from toolkit.routing.run_files import locate

    check_page(output)
    resolved, opened = open_suite(suite, cache)
    recorded = {run.run: run for run in opened.runs.of_suite(resolved.name)}

    def file_of(run: str) -> Path:
        return locate(recorded[run], opened.path, runs_dir)

    def open_router(run: str) -> "Router":
        return load_router(file_of(run), trust)

    content = collect(resolved, opened, runs or [], open_router, lambda run: file_of(run).parent, cache)
    size = write_page(content, output)
    for run, reason in content.skipped.items():
        note(f"Left out {run}: {reason}")
    typer.echo(wrapped(content.verdict))
    typer.echo(f"Report: {output} ({size})")
