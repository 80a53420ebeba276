"""`toolkit benchmarks`: which benchmarks there are, and what a model sees of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import Format, FormatOption, OutputOption, app, cache_path
from toolkit.cli.trust import TrustOption, consent
from toolkit.core.errors import BenchmarkError, ToolkitError, did_you_mean
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from toolkit.tasks import Benchmark


@app.command()
def benchmarks(
    what: Annotated[str, typer.Argument(help="`list`, or `show` with the name of a benchmark.")] = "list",
    name: Annotated[str | None, typer.Argument(help="With `show`: the benchmark.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="With `show`: number of questions.")] = 2,
    shots: Annotated[int, typer.Option("--shots", min=0, help="With `show`: examples before each question.")] = 0,
    data: Annotated[Path | None, typer.Option("--data", help="With `show`: your copy of its data.", show_default=False)] = None,
    suite: Annotated[
        Path | None,
        typer.Option(
            "--suite", help="With `show`: the suite file that has the benchmark, for one of your own.", show_default=False
        ),
    ] = None,
    trust: TrustOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """List the benchmarks, or show some questions of one as a model sees them; needs no model.

    Data are read from $TOOLKIT_DATA if it has them, or else from the hub.

    Example: toolkit benchmarks show general

    Example: toolkit benchmarks show mine --suite mine.toml
    """
    from benchmarks import BENCHMARKS

    if what == "list" and name is None and suite is None:
        _list(format, output)
    elif what == "show" and name and suite:
        benchmark, own_data = _own(name, suite, trust)
        _show(name, benchmark, limit, shots, data or own_data, format, output)
    elif what == "show" and name and name in BENCHMARKS:
        _show(name, BENCHMARKS[name], limit, shots, data, format, output)
    elif what == "show" and name:
        own = "To show one of your own, name its suite file: --suite NAME.toml"
        raise BenchmarkError(f"There is no benchmark {name!r}; {did_you_mean(name, BENCHMARKS)}. {own}")
    else:
        raise BenchmarkError("To list the benchmarks: toolkit benchmarks\nTo show one: toolkit benchmarks show NAME")


def _list(format: Format, output: Path | None) -> None:
    from benchmarks import BENCHMARKS
    from benchmarks.mmlu import SUBJECTS
    from toolkit.report.tables import write

    rows = [
        {
            "benchmark": name,
            "field": benchmark.field,
            "questions": "synthetic" if benchmark.synthetic else _size(benchmark),
            "metric": benchmark.metric,
            "source": benchmark.origin,
            "licence": benchmark.licence,
        }
        for name, benchmark in BENCHMARKS.items()
        if name.removeprefix("mmlu_") not in SUBJECTS
    ]
    write(rows, format, output)
    if format == Format.TABLE and not output:
        typer.echo(f"\nmmlu_SUBJECT is one subject of mmlu: {', '.join(SUBJECTS)}.")


def _size(benchmark: "Benchmark") -> str:
    """Return the number of questions; `?` if it can only be known from data that are not on this machine."""
    if benchmark.size:
        return str(benchmark.size)
    try:
        return "?" if benchmark.dataset else str(len(benchmark.items()))
    except ToolkitError:
        return "?"


def _own(name: str, suite: Path, trust: bool) -> "tuple[Benchmark, Path | None]":
    """Return a benchmark of a suite file, and its data if the file names them.

    Raises:
        BenchmarkError: The suite has no such benchmark.
    """
    from toolkit.suites.benchmarks import find_benchmark
    from toolkit.suites.loading import find_suite, load_config

    file = find_suite(str(suite))
    config = load_config(file)
    entries = {entry.name: entry for entry in config.benchmarks}
    if name not in entries:
        raise BenchmarkError(f"Suite {config.name} has no benchmark {name!r}; {did_you_mean(name, entries)}.")
    workspace = Workspace.beside(cache_path(config.name, None), file.parent)
    data = entries[name].data
    return find_benchmark(entries[name], workspace, consent(trust)), workspace.path(data) if data else None


def _show(
    name: str, benchmark: "Benchmark", limit: int, shots: int, data: Path | None, format: Format, output: Path | None
) -> None:
    from toolkit.report.tables import write

    items = benchmark.items(limit, data=data, shots=shots)
    if format != Format.TABLE or output:
        rows = [{"item": item.id, "prompt": item.prompt, "answers": list(item.answers)} for item in items]
        write(rows, format, output)
        return
    facts = f"{name}: {benchmark.field}, scored by {benchmark.metric}, {benchmark.origin}, {benchmark.licence}"
    typer.echo(printable(f"{facts}\n{benchmark.citation}".rstrip()))
    for item in items:
        typer.echo(printable(f"\n--- {item.id}\n{item.prompt}\n--- accepted: {' | '.join(item.answers)}"))
