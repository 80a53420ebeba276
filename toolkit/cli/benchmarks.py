"""`toolkit benchmarks`: what there is to ask, and what a model sees of it."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import Format, FormatOption, OutputOption


def benchmarks(
    what: Annotated[str, typer.Argument(help="`list`, or `show` with the name of one.")] = "list",
    name: Annotated[str | None, typer.Argument(help="With `show`: the benchmark.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="With `show`: number of questions.")] = 2,
    shots: Annotated[int, typer.Option("--shots", min=0, help="With `show`: examples before each question.")] = 0,
    data: Annotated[Path | None, typer.Option("--data", help="With `show`: your copy of its data.", show_default=False)] = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """List the shipped benchmarks, or show some questions of one as a model sees them; needs no model.

    Data is looked for below $TOOLKIT_DATA, then on the hub. Example: toolkit benchmarks show general
    """
    import pyarrow as pa

    from benchmarks import BENCHMARKS, load_benchmark
    from benchmarks.mmlu import BY_SUBJECT
    from toolkit.core.errors import BenchmarkError
    from toolkit.report.tables import write

    rows: list[dict[str, object]]
    if what == "list" and name is None:
        shipped = [load_benchmark(known) for known in BENCHMARKS if known not in BY_SUBJECT]
        rows = [
            {
                "benchmark": one.name,
                "field": one.field,
                "questions": "generated" if one.synthetic else str(one.size or len(one.items())),
                "metric": one.metric,
                "source": one.origin,
                "licence": one.licence,
            }
            for one in shipped
        ]
        write(pa.Table.from_pylist(rows), format, output)
        if format == Format.TABLE and not output:
            typer.echo(f"\nmmlu_SUBJECT is one subject of mmlu: {', '.join(one.removeprefix('mmlu_') for one in BY_SUBJECT)}.")
        return
    if what != "show" or name not in BENCHMARKS:
        raise BenchmarkError(
            f"There is no benchmark {name!r} to {what}. List them: toolkit benchmarks. Show one: toolkit benchmarks show NAME"
        )
    one = load_benchmark(name)
    items = one.items(limit, data=data, shots=shots)
    rows = [{"item": item.id, "prompt": item.prompt, "answers": list(item.answers)} for item in items]
    if format != Format.TABLE or output:
        write(pa.Table.from_pylist(rows), format, output)
        return
    typer.echo(f"{one.name}: {one.field}, scored by {one.metric}, {one.origin}, {one.licence}\n{one.citation}".rstrip())
    for item in items:
        typer.echo(f"\n--- {item.id}\n{item.prompt}\n--- accepted: {' | '.join(item.answers)}")
